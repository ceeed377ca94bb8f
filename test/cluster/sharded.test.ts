import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import type { Replica } from '../../src/coordination/coordinator.ts';
import { PeerPass, passHeader } from '../../src/coordination/peer-pass.ts';
import { ownersOf } from '../../src/coordination/placement.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { filesOf } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { clusterSecret, metric, startFleet } from './support.ts';

/** The replicas, as Redis has them. */
async function replicasOf(port: number): Promise<Replica[]> {
  const client = new Redis(port, '127.0.0.1');
  const entries = Object.values(await client.hgetall('millpond:{fleet}'));
  client.disconnect();
  const seal = new Seal(Buffer.from(clusterSecret));
  return entries.flatMap((entry) => (seal.open('replica', entry) as Replica | undefined) ?? []);
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
    const replicas = await replicasOf(fleet.redis.port);
    const all = fleet.sites.map(({ origin }) => replicas.find(({ address }) => address === origin)!.id);
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

  test('ask one that is offline for nothing but what it has, and it asks no upstream', async () => {
    await using upstream = await startRegistry();
    await using forOffline = await startRegistry();
    await using fleet = await startFleet({
      replicas: 1,
      upstreams: { 'docker.io': upstream },
      cluster: { placement: 'sharded', copies: 1 },
    });
    const one = fleet.sites[0]!;
    const offline = await fleet.add({ upstreams: { 'docker.io': forOffline }, config: { offline: true } });
    await expect.poll(() => metric(one, 'millpond_peer_replicas')).toBe(2);
    const layers = Array.from({ length: 8 }, (_, index) => ({ size: 100_000, seed: `layer ${index}` }));
    const image = upstream.addImage('library/app', '1', { layers });
    forOffline.addImage('library/app', '1', { layers });
    expect(await one.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200 });
    for (const { digest } of image.layers) {
      const path = `/v2/library/app/blobs/${digest}`;
      expect(await one.get(path)).toMatchObject({ status: 200, sha256: digest });
      expect(await filesOf(one)).toContain(`blobs/${digest.replace(':', '/')}`);
    }
    expect(await filesOf(offline)).toEqual([]);
    // One that does not know that it is offline asks it all the same.
    const pass = new PeerPass({ seal: new Seal(Buffer.from(clusterSecret)), toleranceMs: 60_000, now: Date.now });
    const replicas = await replicasOf(fleet.redis.port);
    const { id, boot } = replicas.find(({ address }) => address === offline.origin)!;
    for (const want of ['fill', 'copy']) {
      const through = encodeURIComponent('docker.io/library/app');
      const path = `/v2/_millpond/blobs/${image.layers[0]!.digest}?want=${want}&through=${through}`;
      const header = pass.sign({ method: 'GET', path, range: undefined, to: `${id}:${boot}` }, 'another');
      expect((await offline.get(path, { headers: { [passHeader]: header } })).status).toBe(404);
    }
    expect(forOffline.requests).toEqual([]);
  });

  test('have an image together where the upstream is away, as long as all of it is with those that run', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({
      replicas: 2,
      upstreams: { 'docker.io': { urls: [upstream.origin], tagTtl: '0s' } },
      cluster: { placement: 'sharded', copies: 1 },
    });
    const [one, other] = fleet.sites;
    const layers = Array.from({ length: 16 }, (_, index) => ({ size: 1000, seed: `layer ${index}` }));
    const image = upstream.addImage('library/app', '1', { layers });
    const blobs = [image.config, ...image.layers].map(({ digest }) => digest);
    for (const site of fleet.sites) {
      expect(await site.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200 });
      for (const digest of blobs) await site.get(`/v2/library/app/blobs/${digest}`);
    }
    for (const site of fleet.sites) expect((await filesOf(site)).length).toBeLessThan(1 + blobs.length);
    upstream.fault(undefined, { kind: 'status', status: 500 });
    for (const site of fleet.sites) {
      const stale = await site.get('/v2/library/app/manifests/1');
      expect([stale.status, stale.headers['cache-status']]).toEqual([200, 'millpond; hit; detail=stale']);
      expect(await site.get(`/v2/library/app/manifests/${image.digest}`)).toMatchObject({ status: 200 });
      for (const digest of blobs)
        expect(await site.get(`/v2/library/app/blobs/${digest}`)).toMatchObject({ status: 200, sha256: digest });
    }
    await other!.stop();
    await expect.poll(() => metric(one!, 'millpond_peer_replicas')).toBe(1);
    expect((await one!.get('/v2/library/app/manifests/1')).status).toBe(502);
  });

  test('keep the whole of an image where it is fetched by a command, whichever replicas keep its parts', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({
      replicas: 2,
      upstreams: { 'docker.io': upstream },
      cluster: { placement: 'sharded', copies: 1 },
    });
    const [one, other] = fleet.sites;
    const layers = Array.from({ length: 8 }, (_, index) => ({ size: 1000, seed: `layer ${index}` }));
    const image = upstream.addImage('library/app', '1', { layers });
    const digests = [image, image.config, ...image.layers].map(({ digest }) => digest);
    expect(await other!.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200 });
    const fetched = await runCommand(['fetch', 'docker.io/library/app:1', '--cache-dir', one!.cacheDir], one!.cacheDir);
    expect([fetched.code, fetched.stderr]).toEqual([0, '']);
    expect((await filesOf(one!)).toSorted()).toEqual(digests.map((d) => `blobs/${d.replace(':', '/')}`).toSorted());
  });
});
