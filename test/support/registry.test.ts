import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ociIndex } from '../../src/oci/media-types.ts';
import { readAll, seededSource } from './bytes.ts';
import { get, head, json, open } from './client.ts';
import { fallbackTag } from './contents.ts';
import { startRegistry } from './registry.ts';

const MiB = 1024 * 1024;

test('seeded bytes are the same from whatever offset they are read', () => {
  const whole = readAll(seededSource(300_001, 'a'));
  const part = Buffer.concat([...seededSource(300_001, 'a').read(70_003, 300_001, 999)]);
  expect(part.equals(whole.subarray(70_003))).toBe(true);
  expect(readAll(seededSource(300_001, 'b')).equals(whole)).toBe(false);
});

test('a generated blob is served under its digest, whole and in parts, and each request is recorded', async () => {
  await using upstream = await startRegistry();
  const blob = upstream.addBlob({ size: 3 * MiB + 1, seed: 1 });
  const wide = upstream.addBlob({ size: 1000, algorithm: 'sha512' });
  const url = `${upstream.origin}/v2/some/thing/blobs/${blob.digest}`;
  const whole = await get(url);
  expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  expect((await get(`${upstream.origin}/v2/a/blobs/${wide.digest}`)).sha512).toBe(wide.digest);
  const tail = await get(url, { headers: { range: 'bytes=-10' } });
  expect(tail.headers['content-range']).toBe(`bytes ${blob.size - 10}-${blob.size - 1}/${blob.size}`);
  expect(tail.body.equals(whole.body.subarray(-10))).toBe(true);
  expect((await get(url, { headers: { range: `bytes=${blob.size}-` } })).status).toBe(416);
  expect((await head(url)).headers['content-length']).toBe(String(blob.size));
  expect(
    upstream.requestsFor(blob.digest).map((request) => [request.method, request.status, request.bytesSent]),
  ).toEqual([
    ['GET', 200, blob.size],
    ['GET', 206, 10],
    ['GET', 416, 0],
    ['HEAD', 200, 0],
  ]);
  expect(upstream.bytesSent(blob.digest)).toBe(blob.size + 10);
});

test('blobs of an image are readable through its own repository only', async () => {
  await using upstream = await startRegistry();
  const image = upstream.addImage('library/tiny', 'v1', { layers: ['one layer'] });
  const [layer] = image.layers;
  expect((await get(`${upstream.origin}/v2/library/tiny/blobs/${layer?.digest}`)).status).toBe(200);
  expect((await get(`${upstream.origin}/v2/library/other/blobs/${layer?.digest}`)).status).toBe(404);
});

test('a tag with variants answers with the one that Accept names', async () => {
  await using upstream = await startRegistry();
  const image = upstream.addImage('app', undefined);
  const docker = upstream.addImage('app', 'v1', { mediaTypes: 'docker' });
  const index = upstream.addIndex('app', 'v1', [{ manifest: image }], { variant: true });
  const url = `${upstream.origin}/v2/app/manifests/v1`;
  expect((await get(url, { headers: { accept: `${docker.mediaType}, */*` } })).sha256).toBe(docker.digest);
  expect((await get(url, { headers: { accept: ociIndex } })).sha256).toBe(index.digest);
});

describe('tokens', () => {
  test('a token is good for the repository of its scope, until it expires or is revoked', async () => {
    let nowMs = 1_000_000;
    await using upstream = await startRegistry({
      token: {
        expiresInSeconds: 100,
        field: 'access_token',
        now: () => nowMs,
        credentials: { username: 'u', password: 'p' },
      },
    });
    upstream.addImage('library/tiny', 'v1');
    const url = `${upstream.origin}/v2/library/tiny/manifests/v1`;
    const refused = await get(url);
    expect(refused.status).toBe(401);
    const scope = 'repository:library/tiny:pull';
    expect(refused.headers['www-authenticate']).toBe(
      `Bearer realm="${upstream.origin}/token",service="registry.test",scope="${scope}"`,
    );
    const tokenUrl = `${upstream.origin}/token?service=registry.test&scope=${scope}`;
    expect((await get(tokenUrl)).status).toBe(401);
    const basic = `Basic ${Buffer.from('u:p').toString('base64')}`;
    const answer = json<Record<string, unknown>>(await get(tokenUrl, { headers: { authorization: basic } }));
    expect(answer).toEqual({ access_token: expect.any(String), expires_in: 100 });
    const headers = { authorization: `Bearer ${String(answer['access_token'])}` };
    expect((await get(url, { headers })).status).toBe(200);
    expect((await get(`${upstream.origin}/v2/library/other/manifests/v1`, { headers })).status).toBe(401);
    expect(upstream.tokens.issued(scope)).toBe(1);
    nowMs += 100_000;
    expect((await get(url, { headers })).status).toBe(401);
  });
});

describe('listings', () => {
  test.each(['relative', 'absolute', 'opaque'] as const)(
    'pages of tags are linked in the %s style',
    async (linkStyle) => {
      await using upstream = await startRegistry({ linkStyle });
      for (const tag of ['c', 'a', 'b', 'e', 'd']) upstream.addImage('app', tag);
      const seen: string[][] = [];
      let next: string | undefined = '/v2/app/tags/list?n=2';
      while (next !== undefined) {
        const reply = await get(new URL(next, upstream.origin));
        seen.push(json<{ tags: string[] }>(reply).tags);
        const link: string | undefined = reply.headers.link as string | undefined;
        next = link?.slice(1, link.indexOf('>'));
        expect(next === undefined || next.startsWith('http')).toBe(next === undefined || linkStyle === 'absolute');
      }
      expect(seen).toEqual([['a', 'b'], ['c', 'd'], ['e']]);
    },
  );

  test('referrers are listed by the API, or under the fallback tag where there is none', async () => {
    for (const referrers of [true, false]) {
      await using upstream = await startRegistry({ referrers });
      const image = upstream.addImage('app', 'v1', { algorithm: 'sha512' });
      const signature = upstream.addReferrer('app', image, { artifactType: 'application/vnd.test.signature' });
      upstream.addReferrer('app', image, { artifactType: 'application/vnd.test.sbom' });
      const api = await get(`${upstream.origin}/v2/app/referrers/${image.digest}`);
      expect(api.status).toBe(referrers ? 200 : 404);
      const reply = referrers ? api : await get(`${upstream.origin}/v2/app/manifests/${fallbackTag(image.digest)}`);
      const { manifests } = json<{ manifests: { digest: string; artifactType: string }[] }>(reply);
      expect(manifests).toHaveLength(2);
      expect(manifests[0]).toMatchObject({ digest: signature.digest, artifactType: 'application/vnd.test.signature' });
    }
  });
});

test('a rate limit spreads a body over time', async () => {
  await using upstream = await startRegistry({ bytesPerSecond: { perConnection: 1_000_000 } });
  const blob = upstream.addBlob({ size: 300_000 });
  const reply = await get(`${upstream.origin}/v2/a/blobs/${blob.digest}`);
  expect(reply.sha256).toBe(blob.digest);
  expect(reply.totalMs).toBeGreaterThan(200);
});

test('a client that leaves after some bytes closes its connection', async () => {
  await using upstream = await startRegistry();
  const blob = upstream.addBlob({ size: 64 * MiB });
  const reply = await get(`${upstream.origin}/v2/a/blobs/${blob.digest}`, { leaveAfterBytes: MiB, keepBody: false });
  expect(reply.complete).toBe(false);
  expect(reply.receivedBytes).toBeLessThan(2 * MiB);
  await expect.poll(() => upstream.openConnections).toBe(0);
  expect(upstream.bytesSent(blob.digest)).toBeLessThan(blob.size);
});

test('an opened response can be read at leisure', async () => {
  await using upstream = await startRegistry();
  const blob = upstream.addBlob({ size: 5000 });
  const response = await open(`${upstream.origin}/v2/a/blobs/${blob.digest}`);
  const hash = createHash('sha256');
  for await (const chunk of response) hash.update(chunk as Buffer);
  expect(`sha256:${hash.digest('hex')}`).toBe(blob.digest);
});
