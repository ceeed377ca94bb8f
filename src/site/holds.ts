import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { MillpondEvent } from '../events/event.ts';
import { type HoldEvent, HoldStore, type Verdict } from '../holds/hold-store.ts';
import { hostedLayout } from '../hosted/layout.ts';
import { HostedRepositories } from '../hosted/repositories.ts';
import { readManifest } from '../oci/descriptor.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { repositoryGlob } from '../oci/glob.ts';
import { parseReference } from '../oci/reference.ts';
import type { Report } from '../oci/report.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { DiskStore } from '../store/files/disk-store.ts';
import { namedRepository } from '../upstream/repository.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import { described } from './described.ts';
import { hostedRules } from './hosted-rules.ts';
import type { Parts } from './parts.ts';

/** Manifests named in one another, at most so deep. */
const maxDepth = 5;

export interface HoldsOptions extends Pick<Parts, 'log' | 'now'> {
  /** Read each time. */
  readonly config: () => Config;
  readonly onEvent?: ((event: MillpondEvent) => void) | undefined;
  /** Called with each digest that was decided about. */
  readonly onDecided: (digest: Digest) => void;
}

/** Opens the list of held manifests in the cache directory of a configuration. */
export async function openHolds({ config, log, now, onEvent, onDecided }: HoldsOptions): Promise<HoldStore> {
  let from: Config['hold'] | undefined;
  let rules: { readonly fits: (name: string) => boolean; readonly forMs: number | undefined }[] = [];
  return await HoldStore.open({
    folder: join(config().cache.dir, 'holds'),
    rules() {
      const { hold } = config();
      if (from !== hold) {
        rules = hold.map(({ repositories, forMs }) => {
          const globs = repositories.map(repositoryGlob);
          return { fits: (name) => globs.some((fits) => fits(name)), forMs };
        });
        from = hold;
      }
      return rules;
    },
    now,
    report: holdReport({ log, onEvent, onDecided }),
  });
}

function holdReport({
  log,
  onEvent,
  onDecided,
}: Pick<HoldsOptions, 'log' | 'onEvent' | 'onDecided'>): Report<HoldEvent> {
  return (event) => {
    switch (event.kind) {
      case 'held': {
        const { repository, digest } = event;
        log.info({ repository, digest }, 'held for scanning');
        onEvent?.({ kind: 'quarantined', repository, digest });
        break;
      }
      case 'decided': {
        const { repository, digest, verdict, reason } = event;
        log.info({ repository, digest, verdict, reason }, 'hold decided');
        onDecided(digest);
        if (verdict !== undefined) onEvent?.({ kind: verdict, repository, digest, reason });
        break;
      }
      case 'fault':
        log.error({ error: described(event.error) }, 'the list of held manifests cannot be written or read');
        break;
      default:
        event satisfies never;
    }
  };
}

interface DecisionParts {
  readonly holds: HoldStore;
  readonly catalog: Catalog;
  readonly store: DiskStore;
  readonly upstreams: { readonly table: UpstreamTable };
  readonly config: () => Config;
  /** Tells other replicas. */
  readonly announce: (decision: 'approve' | 'reject', repository: string, digest: Digest) => void;
}

/** Decides of images by the names that people write: of each with all that its index lists. */
export class HoldDecisions {
  readonly #parts: DecisionParts;

  constructor(parts: DecisionParts) {
    this.#parts = parts;
  }

  /** @returns the digests that were decided of. @throws Error in one sentence where there is no such image here */
  async decide(image: string, decision: { readonly verdict: Verdict; readonly reason: string | undefined }) {
    const { repository, digest, isHosted } = await this.#find(image);
    const digests = new Set([digest]);
    await this.#addChildren(digests, { repository, digest, isHosted, depth: 0 });
    await this.#parts.holds.decide([...digests], decision);
    const kind = decision.verdict === 'approved' ? 'approve' : 'reject';
    for (const one of isHosted ? [] : digests) this.#parts.announce(kind, repository, one);
    return { repository, digest, digests: [...digests] };
  }

  async #find(image: string): Promise<{ repository: string; digest: Digest; isHosted: boolean }> {
    const { catalog, upstreams, config } = this.#parts;
    const reference = parseReference(image);
    const { registry, repository: name, tag = 'latest', digest: written } = reference;
    const full = registry === undefined ? name : `${registry}/${name}`;
    const isHosted = hostedRules(config)().isHosted(full);
    const repository = isHosted ? full : namedRepository(upstreams.table, reference).key;
    if (written !== undefined && isDigest(written)) return { repository, digest: written, isHosted };
    const found = isHosted
      ? await this.#hosted.tag(repository, tag)
      : catalog.tags.get({ repository, tag, variant: '' });
    if (found === undefined) throw new Error(`${repository}:${tag} is not here`);
    return { repository, digest: found.digest, isHosted };
  }

  async #addChildren(
    digests: Set<Digest>,
    of: { readonly repository: string; readonly digest: Digest; readonly isHosted: boolean; readonly depth: number },
  ): Promise<void> {
    const { repository, digest, isHosted, depth } = of;
    const { catalog, store } = this.#parts;
    const bytes = isHosted
      ? await readFile(this.#layout.blobLink(repository, digest)).catch(() => undefined)
      : await store.read(digest);
    if (bytes === undefined || depth === maxDepth) return;
    const record = isHosted ? await this.#hosted.manifest(repository, digest) : catalog.blobs.get(digest);
    for (const child of readManifest(bytes, record?.contentType ?? '').manifests) {
      if (digests.has(child.digest)) continue;
      digests.add(child.digest);
      await this.#addChildren(digests, { ...of, digest: child.digest, depth: depth + 1 });
    }
  }

  get #layout() {
    return hostedLayout(join(this.#parts.config().cache.dir, 'hosted'));
  }

  get #hosted(): HostedRepositories {
    return new HostedRepositories(this.#layout);
  }
}
