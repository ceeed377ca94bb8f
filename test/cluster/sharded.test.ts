import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { ownersOf } from '../../src/coordination/placement.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { clusterSecret, startFleet } from './support.ts';

/** The ids of the replicas by their addresses, as Redis has them. */
async function ids(port: number): Promise<Map<string, string>> {
  const client = new Redis(port, '127.0.0.1');
  const entries = Object.values(await client.hgetall('millpond:{fleet}'));
  client.disconnect();
  const seal = new Seal(Buffer.from(clusterSecret));
  const replicas = entries.map((entry) => seal.open('replica', entry) as { id: string; address: string } | undefined);
  return new Map(replicas.flatMap((replica) => (replica ? [[replica.address, replica.id]] : [])));
}

describeWith(['redis-server'], 'replicas that share their disks', () => {
  test('wait for one another only in one direction, however few fills each may have at a time', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({
      replicas: 2,
      upstreams: { 'docker.io': upstream },
      config: { cache: { maxFills: 2 } },
      cluster: { placement: 'sharded', copies: 1 },
    });
    const layers = Array.from({ length: 24 }, (_, index) => ({ size: 100_000, seed: `layer ${index}` }));
    const image = upstream.addImage('library/app', '1', { layers });
    for (const site of fleet.sites)
      expect(await site.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200 });
    const idOf = await ids(fleet.redis.port);
    const all = fleet.sites.map(({ origin }) => idOf.get(origin)!);
    // Each is asked for what the other one keeps.
    const pulls = fleet.sites.flatMap((site, index) =>
      image.layers
        .filter(({ digest }) => ownersOf(digest, all, 1)[0] !== all[index])
        .map(async ({ digest }) => (await site.get(`/v2/library/app/blobs/${digest}`)).sha256 === digest),
    );
    expect((await Promise.all(pulls)).filter(Boolean)).toHaveLength(24);
    for (const { digest } of image.layers) {
      expect(upstream.requestsFor(digest).filter(({ method }) => method === 'GET')).toHaveLength(1);
    }
  });
});
