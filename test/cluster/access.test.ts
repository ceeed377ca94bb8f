import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { ociManifest } from '../../src/oci/media-types.ts';
import { settled } from '../mirror/support.ts';
import { startRegistry } from '../support/registry.ts';
import type { TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { startFleet } from './support.ts';

const accept = { headers: { accept: 'application/vnd.oci.image.manifest.v1+json' } };

describeWith(['redis-server'], 'replicas that reach an upstream with credentials', () => {
  test.each(['basic', 'token'] as const)(
    'do not tell what is new to one whose credentials were taken away (%s)',
    async (scheme) => {
      const credentials = { username: 'user', password: 'right' };
      await using upstream = await startRegistry(
        scheme === 'basic' ? { basic: credentials } : { token: { credentials, expiresInSeconds: 3_600 } },
      );
      await using directory = await temporaryDirectory('credentials');
      const passwordOf = async (name: string, password: string): Promise<string> => {
        const path = join(directory.path, name);
        await writeFile(path, password);
        return path;
      };
      const upstreamsWith = (passwordFile: string) => ({
        'docker.io': { urls: [upstream.origin], tagTtl: '1s', auth: { username: 'user', passwordFile } },
      });
      await using fleet = await startFleet({ replicas: 1, upstreams: upstreamsWith(await passwordOf('one', 'right')) });
      const one = fleet.sites[0]!;
      const other = await fleet.add({ upstreams: upstreamsWith(await passwordOf('other', 'right')) });
      const old = upstream.addImage('team/private', '1', { layers: [{ size: 1000, seed: 'old' }] });
      for (const site of fleet.sites) expect((await site.get('/v2/team/private/manifests/1', accept)).status).toBe(200);
      await passwordOf('other', 'wrong');
      const secret = upstream.addImage('team/private', '1', { layers: [{ size: 1000, seed: 'new' }] });
      const read = async (): Promise<string> => {
        const newest = await one.get('/v2/team/private/manifests/1', accept);
        const { status, sha256 } = await other.get('/v2/team/private/manifests/1', accept);
        return `${newest.sha256 === secret.digest ? 'new' : 'old'}, ${status === 200 ? sha256 : status}`;
      };
      // What it was shown may be used for its time.
      await expect.poll(read, { interval: 100 }).not.toMatch(`, ${old.digest}`);
      await expect.poll(read, { interval: 100 }).toBe('new, 403');
      expect((await other.get(`/v2/team/private/blobs/${secret.layers[0]!.digest}`)).status).toBe(403);
    },
  );

  test('share what upstreams say is absent only where they ask in the same way, and no credential', async () => {
    await using upstream = await startRegistry();
    const upstreamsWith = (password: string) => ({
      'docker.io': { urls: [upstream.origin], auth: { username: 'user', password } },
    });
    await using fleet = await startFleet({ replicas: 2, upstreams: upstreamsWith('a password') });
    const [one, alike] = fleet.sites;
    const different = await fleet.add({ upstreams: upstreamsWith('another') });
    const image = upstream.addImage('team/private', '1', { layers: [{ size: 1000, seed: 'private' }] });
    const paths = [`manifests/${image.digest}`, `blobs/${image.layers[0]!.digest}`].map((p) => `/v2/team/private/${p}`);
    const client = new Redis(fleet.redis.port, '127.0.0.1');
    await using _ = { [Symbol.asyncDispose]: async () => void (await client.quit()) };
    for (const [index, path] of paths.entries()) {
      upstream.fault(undefined, { kind: 'status', status: 404 });
      expect((await one!.get(path)).status).toBe(404);
      upstream.clearFaults();
      await expect.poll(async () => (await client.keys('millpond:missing:*')).length).toBe(index + 1);
      upstream.forgetRequests();
      const reply = await alike!.get(path);
      expect([reply.status, reply.headers['cache-status']]).toEqual([404, 'millpond; hit; detail=negative']);
      expect(upstream.requests).toEqual([]);
      expect((await different.get(path)).status).toBe(200);
    }
    expect((await client.keys('*')).join('\n')).not.toMatch(/a password|another|user/);
  });

  test('give one another no bytes of one upstream for a repository of another that only claims them', async () => {
    await using owner = await startRegistry();
    await using stranger = await startRegistry();
    const upstreams = { 'private.example': owner, 'other.example': stranger };
    await using fleet = await startFleet({ replicas: 2, upstreams });
    const [one, other] = fleet.sites as [TestSite, TestSite];
    const secret = owner.addImage('team/secret', '1', { layers: [{ size: 1024 * 1024, seed: 'private' }] });
    const layer = secret.layers[0]!;
    for (const path of ['manifests/1', `blobs/${layer.digest}`]) {
      expect((await one.get(`/v2/team/secret/${path}?ns=private.example`)).status).toBe(200);
    }
    await settled(one);
    // A manifest of the other upstream names all of it, and each HEAD claims it.
    const { config, layers } = secret;
    const body = { schemaVersion: 2, mediaType: ociManifest, config: { ...config, source: undefined }, layers: [] };
    const claim = [{ mediaType: layer.mediaType, digest: layers[0]!.digest, size: layer.size }];
    stranger.addManifest('evil/app', '1', { ...body, layers: claim }, ociManifest);
    stranger.addIndex('evil/app', 'index', [{ manifest: secret, platform: { os: 'linux', architecture: 'amd64' } }]);
    stranger.fault(({ method, path }) => method === 'HEAD' && path.includes('sha256:'), {
      kind: 'status',
      status: 200,
      headers: { 'Content-Length': String(layer.size), 'Content-Type': ociManifest },
    });
    for (const site of [other, one]) {
      for (const tag of ['1', 'index']) {
        expect((await site.get(`/v2/evil/app/manifests/${tag}?ns=other.example`)).status).toBe(200);
      }
      for (const path of [`blobs/${layer.digest}`, `blobs/${config.digest}`, `manifests/${secret.digest}`]) {
        expect((await site.get(`/v2/evil/app/${path}?ns=other.example`)).status).toBe(404);
      }
    }
    // The right owner's bytes still cross the line to its upstream once.
    expect(await other.get(`/v2/team/secret/blobs/${layer.digest}?ns=private.example`)).toMatchObject({
      status: 200,
      sha256: layer.digest,
    });
    expect(owner.bytesSent(layer.digest)).toBe(layer.size);
  });
});
