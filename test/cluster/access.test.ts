import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
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

  test('share what they are told to be absent only where they ask in the same way, and no credential', async () => {
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
});
