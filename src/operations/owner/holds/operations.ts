import type { Operations } from '../../protocol/operations.ts';
import type { OwnedCache } from '../cache/owned-cache.ts';

/** The operations on images that are held for scanners. */
export function holdOperations({ decisions, holds }: OwnedCache): Pick<Operations, 'decide' | 'listHeld'> {
  return {
    async *decide({ images, verdict, reason }) {
      for (const name of images) {
        const { repository, digest, digests } = await decisions.decide(name, { verdict, reason });
        yield { name, repository, digest, verdict, manifests: digests.length };
      }
    },
    async *listHeld() {
      await Promise.resolve();
      for (const { digest, heldAtMs, verdict, reason = null } of holds.all()) {
        if (verdict === 'approved') continue;
        for (const [repository, atMs] of Object.entries(heldAtMs)) {
          yield { repository, digest, state: verdict ?? 'held', heldAt: new Date(atMs).toISOString(), reason };
        }
      }
    },
  };
}
