import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Reply } from '../support/client.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

function errorOf(reply: Reply): { code: string; message: string } | undefined {
  return (JSON.parse(reply.body.toString()) as { errors: { code: string; message: string }[] }).errors[0];
}

describe('GET /v2/', () => {
  test('is 200 at once, whatever the upstreams do', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    await upstream.suspend();
    for (const path of ['/v2/', '/v2', '/v2/?ns=docker.io']) {
      const reply = await site.get(path);
      expect(reply).toMatchObject({ status: 200, complete: true });
      expect(reply.headers['docker-distribution-api-version']).toBe('registry/2.0');
      expect(reply.headers['cache-status']).toBe('millpond');
      expect((await site.head(path)).headers['content-length']).toBe(reply.headers['content-length']);
    }
  });
});

describe('what is no pull', () => {
  let upstream: ScriptedRegistry;
  let site: TestSite;
  beforeAll(async () => {
    upstream = await startRegistry();
    site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  });
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await upstream.close();
  });

  test.each([
    ['POST', '/v2/library/app/blobs/uploads/'],
    ['PUT', '/v2/library/app/manifests/1?ns=unknown.example'],
    ['PATCH', '/v2/library/app/blobs/uploads/1'],
    ['DELETE', `/v2/library/app/blobs/sha256:${'0'.repeat(64)}`],
    ['OPTIONS', '/v2/'],
  ])('%s is 405 with Allow, and no upstream is asked', async (method, path) => {
    const reply = await site.get(path, { method });
    expect(reply).toMatchObject({ status: 405, complete: true });
    expect(reply.headers).toMatchObject({ allow: 'GET, HEAD', 'content-type': 'application/json' });
    expect(errorOf(reply)?.code).toBe('UNSUPPORTED');
    expect(upstream.requests).toEqual([]);
  });

  test.each([
    ['/v2/_catalog/more', 404, 'NAME_UNKNOWN'],
    ['/v2/library/app', 404, 'NAME_UNKNOWN'],
    ['/v2/library/app/tags/other', 404, 'NAME_UNKNOWN'],
    ['/v2x', 404, 'NAME_UNKNOWN'],
    ['/v2/UPPER/app/tags/list', 400, 'NAME_INVALID'],
    ['/v2/library/%2e%2e%2fapp/tags/list', 400, 'NAME_INVALID'],
    ['/v2/library/app/manifests/-bad', 400, 'MANIFEST_INVALID'],
    ['/v2/library/app/manifests/sha256:12', 400, 'DIGEST_INVALID'],
    ['/v2/library/app/blobs/sha256:12', 400, 'DIGEST_INVALID'],
    ['/v2/library/app/blobs/md5:0123456789abcdef0123456789abcdef', 400, 'DIGEST_INVALID'],
    ['/v2/library/app/referrers/latest', 400, 'DIGEST_INVALID'],
  ])('%s is %i %s, in JSON, also for HEAD', async (path, status, code) => {
    const reply = await site.get(path);
    expect(reply.status).toBe(status);
    expect(errorOf(reply)?.code).toBe(code);
    expect(reply.headers).toMatchObject({
      'content-type': 'application/json',
      'cache-status': expect.stringContaining('millpond') as string,
      'docker-distribution-api-version': 'registry/2.0',
    });
    const head = await site.head(path);
    expect(head).toMatchObject({ status, receivedBytes: 0 });
    expect(head.headers['content-length']).toBe(reply.headers['content-length']);
    expect(upstream.requests).toEqual([]);
  });
});

describe.each([
  { place: 'on a miss', warm: false, size: MiB },
  { place: 'on disk', warm: true, size: MiB },
  { place: 'in memory', warm: true, size: 10 * KiB },
  { place: 'small, on a miss', warm: false, size: 10 * KiB },
])('Range of a blob $place', ({ warm, size }) => {
  test('is 206 with exactly the bytes that were asked for', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const { range, start, end } of [
      { range: 'bytes=0-0', start: 0, end: 1 },
      { range: 'bytes=100-199', start: 100, end: 200 },
      { range: 'bytes=500-', start: 500, end: size },
      { range: 'bytes=-300', start: size - 300, end: size },
      { range: `bytes=-${size * 2}`, start: 0, end: size },
      { range: `bytes=1000-${size * 2}`, start: 1000, end: size },
      { range: `bytes=${size - 1}-`, start: size - 1, end: size },
    ]) {
      const blob = upstream.addBlob({ size, seed: range });
      const path = `/v2/library/app/blobs/${blob.digest}`;
      if (warm) for (let turn = 0; turn < 2; turn += 1) await site.get(path);
      const reply = await site.get(path, { headers: { range } });
      expect(reply, range).toMatchObject({ status: 206, complete: true });
      expect(reply.headers).toMatchObject({
        'content-range': `bytes ${start}-${end - 1}/${size}`,
        'content-length': String(end - start),
        'accept-ranges': 'bytes',
        'docker-content-digest': blob.digest,
      });
      expect(reply.body.equals(Buffer.concat([...blob.source.read(start, end)]))).toBe(true);
      expect(upstream.requestsFor(blob.digest)).toHaveLength(1);
    }
  });

  test('of several ranges is answered with multipart/byteranges, each part as asked for', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const { range, parts } of [
      {
        range: 'bytes=0-9,20-29',
        parts: [
          [0, 10],
          [20, 30],
        ],
      },
      {
        range: `bytes=${size - 5}-, 3-7 ,100-199`,
        parts: [
          [size - 5, size],
          [3, 8],
          [100, 200],
        ],
      },
      {
        range: `bytes=1-2,${size}-,-1`,
        parts: [
          [1, 3],
          [size - 1, size],
        ],
      },
    ] as const) {
      const blob = upstream.addBlob({ size, seed: range });
      const path = `/v2/library/app/blobs/${blob.digest}`;
      if (warm) for (let turn = 0; turn < 2; turn += 1) await site.get(path);
      const reply = await site.get(path, { headers: { range } });
      expect(reply).toMatchObject({ status: 206, complete: true });
      const [, boundary = ''] =
        /^multipart\/byteranges; boundary=(\w+)$/.exec(reply.headers['content-type'] ?? '') ?? [];
      const expected = parts.map(([start, end]) =>
        Buffer.concat([
          Buffer.from(`--${boundary}\r\nContent-Type: application/octet-stream\r\n`),
          Buffer.from(`Content-Range: bytes ${start}-${end - 1}/${size}\r\n\r\n`),
          ...blob.source.read(start, end),
          Buffer.from('\r\n'),
        ]),
      );
      expect(reply.body.equals(Buffer.concat([...expected, Buffer.from(`--${boundary}--\r\n`)]))).toBe(true);
      expect(reply.headers['content-range']).toBeUndefined();
      expect(upstream.requestsFor(blob.digest)).toHaveLength(1);
    }
    const blob = upstream.addBlob({ size, seed: 'one part' });
    const joined = await site.get(`/v2/library/app/blobs/${blob.digest}`, {
      headers: { range: 'bytes=0-9,5-19,20-24' },
    });
    expect(joined).toMatchObject({ status: 206, receivedBytes: 25 });
    expect(joined.headers['content-range']).toBe(`bytes 0-24/${size}`);
  });

  test('that cannot be met is 416 and says the size; one that makes no sense is ignored', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'unmet' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    if (warm) for (let turn = 0; turn < 2; turn += 1) await site.get(path);
    const unmet = await site.get(path, { headers: { range: `bytes=${size}-` } });
    expect(unmet.status).toBe(416);
    expect(unmet.headers['content-range']).toBe(`bytes */${size}`);
    expect(errorOf(unmet)?.code).toBe('RANGE_INVALID');
    const tooMany = `bytes=${Array.from({ length: 65 }, (_, index) => `${2 * index}-${2 * index}`).join(',')}`;
    for (const range of [tooMany, 'items=0-9', 'bytes=abc']) {
      const whole = await site.get(path, { headers: { range } });
      expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      expect(whole.headers['content-range']).toBeUndefined();
    }
    const head = await site.head(path, { headers: { range: 'bytes=0-9' } });
    expect(head).toMatchObject({ status: 200, receivedBytes: 0 });
    expect(head.headers['content-length']).toBe(String(size));
  });
});

describe('conditions', () => {
  test('If-None-Match of the digest is 304 without a body', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const blob = image.layers[0]!;
    for (const [path, digest] of [
      ['manifests/1', image.digest],
      [`manifests/${image.digest}`, image.digest],
      [`blobs/${blob.digest}`, blob.digest],
    ] as const) {
      for (const etag of [`"${digest}"`, `W/"${digest}"`, `"other", "${digest}"`]) {
        const reply = await site.get(`/v2/library/app/${path}`, { headers: { 'if-none-match': etag } });
        expect(reply).toMatchObject({ status: 304, receivedBytes: 0 });
        expect(reply.headers.etag).toBe(`"${digest}"`);
      }
      const changed = await site.get(`/v2/library/app/${path}`, { headers: { 'if-none-match': '"other"' } });
      expect(changed).toMatchObject({ status: 200, sha256: digest });
    }
  });

  test('If-Range of another entity makes the Range void', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'if-range' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const range = 'bytes=0-99';
    const same = await site.get(path, { headers: { range, 'if-range': `"${blob.digest}"` } });
    expect(same).toMatchObject({ status: 206, receivedBytes: 100 });
    for (const other of ['"other"', 'Sun, 06 Nov 1994 08:49:37 GMT']) {
      const whole = await site.get(path, { headers: { range, 'if-range': other } });
      expect(whole).toMatchObject({ status: 200, sha256: blob.digest });
    }
  });
});

test('nothing is ever encoded, whatever the client offers, and identity is all that the upstream is asked for', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1', { layers: ['a'.repeat(100_000)] });
  const headers = { 'accept-encoding': 'zstd;q=1.0, gzip;q=0.8, deflate;q=0.5' };
  const paths = ['manifests/1', `blobs/${image.layers[0]?.digest}`, 'tags/list', `referrers/${image.digest}`];
  for (const path of [...paths, ...paths]) {
    const reply = await site.get(`/v2/library/app/${path}`, { headers });
    expect(reply).toMatchObject({ status: 200, complete: true });
    expect(reply.headers['content-encoding']).toBeUndefined();
    expect(reply.headers.vary).toBeUndefined();
    expect(Number(reply.headers['content-length'])).toBe(reply.receivedBytes);
  }
  const asked = new Set(upstream.requests.map((request) => request.headers['accept-encoding']));
  expect([...asked]).toEqual(['identity']);
});

test('a blob answers HEAD with the headers of GET, cold and warm', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: 200_000, seed: 'head' });
  const path = `/v2/library/app/blobs/${blob.digest}`;
  const cold = await site.head(path);
  const got = await site.get(path);
  const warm = await site.head(path);
  const shared = ['content-type', 'content-length', 'docker-content-digest', 'etag', 'cache-control', 'accept-ranges'];
  for (const name of shared) {
    expect(got.headers[name]).toBeDefined();
    expect(cold.headers[name]).toBe(got.headers[name]);
    expect(warm.headers[name]).toBe(got.headers[name]);
  }
});
