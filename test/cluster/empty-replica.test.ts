import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { filesOf } from '../mirror/support.ts';
import { startRegistry } from '../support/registry.ts';
import type { TestSite } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';
import { metric, startFleet, type TestFleet } from './support.ts';

const accept = { headers: { accept: `${ociManifest}, ${ociIndex}` } };

/** What a client sees of a path: the status and the digest of the body. */
async function seen(site: TestSite, paths: readonly string[]): Promise<string[]> {
  const replies = await Promise.all(paths.map((path) => site.get(path, accept)));
  return replies.map(({ status, sha256 }, index) => `${paths[index]} ${status} ${sha256}`);
}

/** Waits until the others can know all that the first replica has. */
async function announced({ sites, redis }: TestFleet): Promise<void> {
  const files = await filesOf(sites[0]!);
  const client = new Redis(redis.port, '127.0.0.1');
  await using _ = { [Symbol.asyncDispose]: async () => void (await client.quit()) };
  await expect.poll(async () => (await client.keys('millpond:holders:*')).length).toBe(files.length);
}

describeWith(['redis-server'], 'a replica with an empty disk, while the upstream is away', () => {
  test('serves tags, digests, layers and lists as the replica beside it does', async () => {
    await using upstream = await startRegistry();
    const upstreams = { 'docker.io': { urls: [upstream.origin] } };
    await using fleet = await startFleet({ replicas: 1, upstreams });
    const full = fleet.sites[0]!;
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 200_000, seed: 'layer' }] });
    const pinned = upstream.addImage('library/pinned', undefined, { layers: [{ size: 3000, seed: 'pinned' }] });
    const parts = [image.config, ...image.layers].map(({ digest }) => `/v2/library/app/blobs/${digest}`);
    const paths = [
      '/v2/library/app/manifests/1',
      `/v2/library/app/manifests/${image.digest}`,
      ...parts,
      `/v2/library/pinned/manifests/${pinned.digest}`,
      `/v2/library/pinned/blobs/${pinned.layers[0]!.digest}`,
      '/v2/library/app/tags/list',
      `/v2/library/app/referrers/${image.digest}`,
    ];
    const before = await seen(full, paths);
    expect(before.map((line) => line.split(' ')[1])).toEqual(paths.map(() => '200'));
    await announced(fleet);
    await upstream.close();
    const empty = await fleet.add();
    await expect.poll(() => metric(empty, 'millpond_peer_replicas')).toBe(2);
    // One after another and in the order of a client that begins with a layer: nothing depends on what came before.
    for (const [index, path] of paths.entries()) {
      expect(await seen(empty, [path])).toEqual([before[index]]);
    }
    const heads = await Promise.all(paths.slice(0, 6).map((path) => empty.head(path, accept)));
    expect(heads.map(({ status }) => status)).toEqual(heads.map(() => 200));
  });

  test.each(['a layer', 'a manifest by digest', 'a HEAD of a layer', 'a HEAD of a tag'])(
    'serves %s as its first request',
    async (first) => {
      await using upstream = await startRegistry();
      await using fleet = await startFleet({ replicas: 1, upstreams: { 'docker.io': upstream } });
      const full = fleet.sites[0]!;
      const { digest, config, layers } = upstream.addImage('library/app', '1', {
        layers: [{ size: 90_000, seed: first }],
      });
      const blobs = [config, ...layers].map((part) => `/v2/library/app/blobs/${part.digest}`);
      await seen(full, ['/v2/library/app/manifests/1', ...blobs]);
      await announced(fleet);
      await upstream.close();
      const empty = await fleet.add();
      await expect.poll(() => metric(empty, 'millpond_peer_replicas')).toBe(2);
      const layer = layers[0]!;
      if (first === 'a layer') {
        expect(await empty.get(blobs[1]!)).toMatchObject({ status: 200, sha256: layer.digest });
      } else if (first === 'a manifest by digest') {
        expect(await empty.get(`/v2/library/app/manifests/${digest}`)).toMatchObject({ status: 200, sha256: digest });
      } else if (first === 'a HEAD of a layer') {
        const { status, headers } = await empty.head(blobs[1]!);
        expect([status, headers['content-length']]).toEqual([200, String(layer.size)]);
      } else {
        const { status, headers } = await empty.head('/v2/library/app/manifests/1', accept);
        expect([status, headers['docker-content-digest']]).toEqual([200, digest]);
      }
    },
  );

  test('marks a tag that is past its time as stale, with its age', async () => {
    await using upstream = await startRegistry();
    let nowMs = Date.now();
    const upstreams = { 'docker.io': { urls: [upstream.origin], tagTtl: '0s', staleIfError: '1h' } };
    await using fleet = await startFleet({ replicas: 1, upstreams, now: () => nowMs });
    const full = fleet.sites[0]!;
    const { layers, config } = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'old' }] });
    await seen(full, [
      '/v2/library/app/manifests/1',
      ...[config, ...layers].map((p) => `/v2/library/app/blobs/${p.digest}`),
    ]);
    await announced(fleet);
    await upstream.close();
    const empty = await fleet.add();
    await expect.poll(() => metric(empty, 'millpond_peer_replicas')).toBe(2);
    nowMs += 2 * 60 * 60_000;
    expect((await empty.get('/v2/library/app/manifests/1', accept)).status).toBe(502);
    nowMs -= 60 * 60_000 + 60_000;
    const { status, headers } = await empty.get('/v2/library/app/manifests/1', accept);
    expect([status, headers['cache-status'], Number(headers['age']) > 3400]).toEqual([
      200,
      'millpond; hit; detail=stale',
      true,
    ]);
    expect(headers['warning']).toContain('docker.io could not confirm it');
  });

  test('learns nothing from a replica that asks the upstream with other credentials', async () => {
    await using upstream = await startRegistry();
    const upstreamsWith = (password: string) => ({
      'docker.io': { urls: [upstream.origin], auth: { username: 'user', password } },
    });
    await using fleet = await startFleet({ replicas: 1, upstreams: upstreamsWith('one') });
    const full = fleet.sites[0]!;
    const { digest, layers, config } = upstream.addImage('team/app', '1', {
      layers: [{ size: 1000, seed: 'private' }],
    });
    const blobs = [config, ...layers].map((part) => `/v2/team/app/blobs/${part.digest}`);
    const paths = ['/v2/team/app/manifests/1', `/v2/team/app/manifests/${digest}`, ...blobs, '/v2/team/app/tags/list'];
    await seen(full, paths);
    await announced(fleet);
    await upstream.close();
    const other = await fleet.add({ upstreams: upstreamsWith('another') });
    const alike = await fleet.add();
    for (const site of [other, alike]) await expect.poll(() => metric(site, 'millpond_peer_replicas')).toBe(3);
    const statuses = async (site: TestSite): Promise<number[]> =>
      await Promise.all(paths.map(async (path) => (await site.get(path, accept)).status));
    expect(await statuses(other)).toEqual(paths.map(() => 502));
    expect(await statuses(alike)).toEqual(paths.map(() => 200));
    expect(await statuses(other)).toEqual(paths.map(() => 502));
  });
});

describeWith(['redis-server'], 'replicas that ask an upstream in the same way', () => {
  test('ask once about a blob that no manifest names', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 3, upstreams: { 'docker.io': upstream } });
    const { layers } = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'alone' }] });
    const path = `/v2/library/app/blobs/${layers[0]!.digest}`;
    for (const site of fleet.sites) {
      expect(await site.get(path)).toMatchObject({ status: 200, sha256: layers[0]!.digest });
      await announced(fleet);
    }
    const asked = upstream.requests.map(({ method }) => method).toSorted();
    expect(asked).toEqual(['GET', 'HEAD']);
  });
});
