import { expect, test } from 'vitest';
import { type Behaviour, startHostileRegistry } from '../support/hostile.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { startFleet } from './support.ts';

const MiB = 1024 * 1024;

describeWith(['redis-server'], 'replicas of which one fetches a blob from an upstream', () => {
  test.each(['drip', 'wrong-bytes', 'short-length', 'endless'] satisfies Behaviour[])(
    'that gives it badly (%s) do not wait for it where they have it from another upstream',
    async (behaviour) => {
      await using healthy = await startRegistry();
      await using hostile = await startHostileRegistry(healthy, behaviour);
      const upstreams = { 'hostile.example': hostile, 'healthy.example': healthy };
      await using fleet = await startFleet({ replicas: 2, upstreams, config: { timeouts: { drain: '50ms' } } });
      const blob = healthy.addBlob({ size: MiB, seed: behaviour });
      const [one, two] = fleet.sites;
      const bad = new AbortController();
      const path = `/v2/library/app/blobs/${blob.digest}`;
      const dripping = one!.get(`${path}?ns=hostile.example`, { signal: bad.signal }).catch(() => undefined);
      await hostile.reached;
      for (const site of [two!, one!]) {
        const reply = await site.get(`${path}?ns=healthy.example`);
        expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      }
      bad.abort();
      await dripping;
    },
  );
});
