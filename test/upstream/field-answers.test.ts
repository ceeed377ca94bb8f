import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createServer as createSocketServer } from 'node:net';
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, bytesOf, failureOf, never, unknownDigest, upstreamAt } from './support.ts';

const signal = never();
const ociManifest = accept[0] ?? '';
const text = Buffer.from('{"schemaVersion":2,"config":{},"layers":[]}');
const digestOf = (bytes: Buffer): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;

/** A server of which each test says what it answers. */
async function startServer(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

describe('a HEAD only saves a GET', () => {
  test.each([400, 401, 403, 404, 405, 500, 501])(
    'a HEAD of a tag that fails with %i is decided by GET',
    async (status) => {
      await using registry = await startRegistry();
      const image = registry.addImage('library/tiny', 'v1');
      registry.fault(({ method }) => method === 'HEAD', { kind: 'status', status });
      using upstream = upstreamAt(registry.origin);
      const ask = () => upstream.client.headManifest('library/tiny', 'v1', { accept, signal });
      for (let round = 0; round < 2; round += 1) {
        expect(await ask()).toMatchObject({ digest: image.digest, size: image.size, contentType: image.mediaType });
      }
      // What has been contradicted once is not asked again.
      expect(registry.requests.filter(({ method }) => method === 'HEAD')).toHaveLength(1);
      expect(upstream.status().endpoints[0]?.traits).toEqual({
        manifestHead: { value: 'unreliable', from: 'learned' },
      });
    },
  );

  test('what a GET says no to is not there', async () => {
    await using registry = await startRegistry();
    using upstream = upstreamAt(registry.origin);
    const error = await failureOf(upstream.client.headManifest('library/tiny', 'v1', { accept, signal }));
    expect(error).toMatchObject({ code: 'MANIFEST_UNKNOWN', status: 404 });
    expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
    expect(upstream.status().endpoints[0]?.traits).toEqual({});
  });

  describe('a limit that a HEAD is told', () => {
    const limit = { kind: 'status', status: 429, headers: { 'Retry-After': '60' } } as const;
    const isHead = ({ method }: { readonly method: string }) => method === 'HEAD';

    async function startLimited(from: 'HEADs' | 'everything') {
      const registry = await startRegistry();
      const images = ['v1', 'v2', 'v3'].map((tag) => registry.addImage('library/tiny', tag));
      registry.fault(from === 'HEADs' ? isHead : undefined, limit);
      const upstream = upstreamAt(registry.origin);
      const head = (tag: string, more: object = {}) =>
        upstream.client.headManifest('library/tiny', tag, { accept, signal, ...more });
      return {
        registry,
        upstream,
        images,
        head,
        methods: () => registry.requests.map(({ method }) => method),
        async [Symbol.asyncDispose]() {
          upstream[Symbol.dispose]();
          await registry.close();
        },
      };
    }

    test('is one of HEADs: a GET decides, and no further HEAD is sent for that long', async () => {
      await using scene = await startLimited('HEADs');
      const { images, head, upstream } = scene;
      expect((await head('v1')).digest).toBe(images[0]?.digest);
      expect((await head('v2')).digest).toBe(images[1]?.digest);
      expect(scene.methods()).toEqual(['HEAD', 'GET', 'GET']);
      // It passes, so that nothing is learned from it.
      expect(upstream.status().endpoints[0]?.traits).toEqual({});
    });

    test('is believed where something else can be given', async () => {
      await using scene = await startLimited('HEADs');
      const hasSubstitute = () => Promise.resolve(true);
      for (let round = 0; round < 2; round += 1) {
        expect(await failureOf(scene.head('v1', { hasSubstitute }))).toMatchObject({ status: 429 });
      }
      expect(scene.methods()).toEqual(['HEAD']);
    });

    test('is found out to be one of GETs by one GET, however many want to know', async () => {
      await using scene = await startLimited('everything');
      const asked = await Promise.allSettled(['v1', 'v2', 'v3', 'v1', 'v2', 'v3'].map((tag) => scene.head(tag)));
      expect(asked.map((each) => each.status === 'rejected' && (each.reason as { status: number }).status)).toEqual(
        Array(6).fill(429),
      );
      await failureOf(scene.upstream.client.getManifest('library/tiny', 'v2', { accept, signal }));
      expect(scene.methods().filter((method) => method === 'GET')).toHaveLength(1);
    });

    test('for a blob is decided by its first byte', async () => {
      await using scene = await startLimited('HEADs');
      const blob = scene.registry.addBlob('content');
      expect(await scene.upstream.client.headBlob('a', blob.digest, { signal })).toMatchObject({ size: 7 });
      expect(scene.methods()).toEqual(['HEAD', 'GET']);
    });
  });

  describe('a HEAD that is not answered', () => {
    const timeouts = { headersMs: 30_000 };
    const isHead = ({ method }: { readonly method: string }) => method === 'HEAD';

    test('gets a GET beside it, and is not sent any more after the second time', async () => {
      await using registry = await startRegistry();
      const images = ['v1', 'v2', 'v3'].map((tag) => registry.addImage('library/tiny', tag));
      const blob = registry.addBlob('content');
      registry.fault(isHead, { kind: 'silence' });
      using upstream = upstreamAt(registry.origin, { timeouts, answerMs: 200 });
      for (const [index, tag] of ['v1', 'v2', 'v3'].entries()) {
        const head = await upstream.client.headManifest('library/tiny', tag, { accept, signal });
        expect(head.digest).toBe(images[index]?.digest);
        expect(await upstream.client.headBlob('a', blob.digest, { signal })).toMatchObject({ size: 7 });
      }
      expect(registry.requestsFor(isHead)).toHaveLength(4);
      const unreliable = { value: 'unreliable', from: 'learned' };
      expect(upstream.status().endpoints[0]).toMatchObject({
        state: 'available',
        traits: { manifestHead: unreliable, blobHead: unreliable },
      });
      expect(upstream.status().endpoints[0]?.parts).toBeUndefined();
      // None is left waiting.
      await expect.poll(() => registry.openConnections).toBeLessThanOrEqual(2);
    });

    test('counts where it is answered before the GET, which is let go then', async () => {
      await using registry = await startRegistry();
      const image = registry.addImage('library/tiny', 'v1');
      const pause = registry.fault(isHead, { kind: 'pause' });
      const silence = registry.fault(({ method }) => method === 'GET', { kind: 'silence' });
      using upstream = upstreamAt(registry.origin, { timeouts, answerMs: 200 });
      const head = upstream.client.headManifest('library/tiny', 'v1', { accept, signal });
      await silence.reached;
      pause.release();
      expect(await head).toMatchObject({ digest: image.digest, size: image.size });
      expect((await head).answer).toBeUndefined();
      expect(upstream.status().endpoints[0]?.traits).toEqual({});
    });

    test('does not stand in the way of a GET that says no', async () => {
      await using registry = await startRegistry();
      registry.fault(isHead, { kind: 'silence' });
      using upstream = upstreamAt(registry.origin, { timeouts, answerMs: 200 });
      const head = upstream.client.headManifest('library/tiny', 'v1', { accept, signal });
      expect(await failureOf(head)).toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    });

    test('is answered late where the GET fails', async () => {
      await using registry = await startRegistry();
      const image = registry.addImage('library/tiny', 'v1');
      const pause = registry.fault(isHead, { kind: 'pause' });
      const failing = registry.fault(({ method }) => method === 'GET', { kind: 'status', status: 520 });
      using upstream = upstreamAt(registry.origin, { timeouts, answerMs: 200 });
      const head = upstream.client.headManifest('library/tiny', 'v1', { accept, signal });
      await failing.reached;
      pause.release();
      expect((await head).digest).toBe(image.digest);
    });
  });

  test('a length of 0 is none, and one that a body contradicts is not believed again', async () => {
    await using registry = await startRegistry();
    const image = registry.addImage('library/tiny', 'v1');
    const other = registry.addImage('library/tiny', 'v2');
    using upstream = upstreamAt(registry.origin);
    const head = (tag: string) => upstream.client.headManifest('library/tiny', tag, { accept, signal });
    const isHead = ({ method }: { readonly method: string }) => method === 'HEAD';
    const zero = registry.fault(isHead, { kind: 'content-length', difference: -image.size });
    expect(await head('v1')).toMatchObject({ digest: image.digest, size: undefined });
    zero.release();
    registry.clearFaults();
    registry.fault(isHead, { kind: 'content-length', difference: 7 });
    expect((await head('v1')).size).toBe(image.size + 7);
    await upstream.client.getManifest('library/tiny', 'v1', { accept, signal });
    expect(await head('v2')).toMatchObject({ digest: other.digest, size: undefined });
    expect(upstream.status().endpoints[0]?.traits).toEqual({ headLength: { value: 'wrong', from: 'learned' } });
  });

  test.each([404, 405, 403, 500])('a HEAD of a blob that fails with %i is decided by one byte', async (status) => {
    await using registry = await startRegistry();
    const blob = registry.addBlob('content');
    registry.fault(({ method }) => method === 'HEAD', { kind: 'status', status });
    using upstream = upstreamAt(registry.origin);
    expect(await upstream.client.headBlob('a', blob.digest, { signal })).toMatchObject({ size: 7 });
    expect(registry.requests.map(({ method, headers }) => [method, headers.range])).toEqual([
      ['HEAD', undefined],
      ['GET', 'bytes=0-0'],
    ]);
    expect(await failureOf(upstream.client.headBlob('a', unknownDigest, { signal }))).toMatchObject({
      code: 'BLOB_UNKNOWN',
    });
  });

  test('a blob that a registry gives whole although one byte was asked for is let go at once', async () => {
    await using registry = await startRegistry();
    const blob = registry.addBlob(Buffer.alloc(5_000_000, 'x'));
    registry.fault(({ method }) => method === 'HEAD', { kind: 'status', status: 404 });
    registry.fault(({ method }) => method === 'GET', { kind: 'ignore-range' });
    using upstream = upstreamAt(registry.origin);
    expect(await upstream.client.headBlob('a', blob.digest, { signal })).toMatchObject({ size: 5_000_000 });
    await expect.poll(() => registry.openConnections).toBeLessThanOrEqual(1);
  });

  test('the configuration overrides what would be learned', async () => {
    await using registry = await startRegistry();
    registry.addImage('library/tiny', 'v1');
    using upstream = upstreamAt(registry.origin, { traits: { manifestHead: 'unreliable' } });
    await upstream.client.headManifest('library/tiny', 'v1', { accept, signal });
    expect(registry.requests.map(({ method }) => method)).toEqual(['GET']);
    expect(upstream.status().endpoints[0]?.traits).toEqual({
      manifestHead: { value: 'unreliable', from: 'configured' },
    });
  });
});

describe('the digest decides', () => {
  const content = Buffer.from('content of a blob '.repeat(50));
  const layer = gzipSync(content);
  const tar = Buffer.alloc(1_000_000, 'x');
  tar.write('ustar', 257);
  const large = gzipSync(tar, { level: 0 });

  test.each<[string, string, Buffer, Buffer]>([
    ['x-gzip over what is not', 'x-gzip', content, content],
    ['gzip over a layer that is', 'gzip', layer, layer],
    ['gzip over a large layer that is', 'gzip', large, large],
    ['aws-chunked', 'aws-chunked', content, content],
    ['binary', 'binary', content, content],
    ['UTF-8', 'UTF-8', content, content],
    ['several labels', 'aws-chunked, gzip', layer, layer],
    ['gzip by a proxy', 'gzip', gzipSync(content), content],
    ['gzip by a proxy, over a layer', 'gzip', gzipSync(layer), layer],
    ['deflate by a proxy', 'deflate', deflateSync(content), content],
    ['deflate without the header of zlib', 'deflate', deflateRawSync(content), content],
    ['gzip twice', 'gzip, gzip', gzipSync(gzipSync(content)), content],
    ['gzip twice, applied once', 'gzip, gzip', gzipSync(content), content],
    ['gzip twice, over what is not', 'gzip, gzip', content, content],
    ['gzip, applied twice', 'gzip', gzipSync(gzipSync(content)), content],
    ['deflate, then gzip', 'deflate, gzip', gzipSync(deflateSync(content)), content],
    ['br by a proxy', 'br', brotliCompressSync(content), content],
    ['zstd by a proxy', 'zstd', zstdCompressSync(content), content],
    ['gzip over nothing', 'gzip', Buffer.alloc(0), Buffer.alloc(0)],
  ])('a blob labelled %s comes out right', async (_, encoding, sent, right) => {
    await using server = await startServer((__, response) => {
      response.writeHead(200, { 'content-encoding': encoding, 'content-length': sent.length }).end(sent);
    });
    using upstream = upstreamAt(server.url);
    const answer = await upstream.client.endpoints[0]!.openBlob('a', digestOf(right), { signal });
    expect(answer.size).toBe(right.length);
    expect((await bytesOf(answer)).equals(right)).toBe(true);
  });

  test('a large body that a proxy has encoded is decoded where the manifest tells another length', async () => {
    const right = Buffer.alloc(3_000_000, 'abcdefghij');
    // Stored rather than compressed, so that it stays large.
    const stored = gzipSync(right, { level: 0 });
    for (const [encoding, sent] of [
      ['gzip', stored],
      ['zstd', zstdCompressSync(right)],
      ['deflate', deflateRawSync(right, { level: 0 })],
      ['gzip, gzip', gzipSync(stored, { level: 0 })],
      ['deflate, gzip', gzipSync(deflateRawSync(right, { level: 0 }), { level: 0 })],
    ] as const) {
      await using server = await startServer((_, response) => {
        response.writeHead(200, { 'content-encoding': encoding, 'content-length': sent.length }).end(sent);
      });
      using upstream = upstreamAt(server.url);
      const options = { signal, size: right.length };
      const answer = await upstream.client.endpoints[0]!.openBlob('a', digestOf(right), options);
      expect((await bytesOf(answer)).equals(right)).toBe(true);
    }
  });

  test('a manifest is served whether its label is true or not, by tag too', async () => {
    for (const [sent, digest] of [
      [text, undefined],
      [gzipSync(text), undefined],
      [gzipSync(text), digestOf(text)],
    ] as const) {
      await using server = await startServer((_, response) => {
        const headers = { 'content-encoding': 'gzip', 'content-type': ociManifest, 'content-length': sent.length };
        response.writeHead(200, { ...headers, ...(digest && { 'docker-content-digest': digest }) }).end(sent);
      });
      using upstream = upstreamAt(server.url);
      for (const reference of ['v1', digestOf(text)]) {
        const manifest = await upstream.client.getManifest('a', reference, { accept, signal });
        expect(manifest.bytes.equals(text)).toBe(true);
      }
    }
  });

  test('a small body that would become enormous is not decoded', async () => {
    const bomb = gzipSync(Buffer.alloc(40 * 1024 * 1024));
    await using server = await startServer((_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': bomb.length }).end(bomb);
    });
    using upstream = upstreamAt(server.url);
    const answer = await upstream.client.endpoints[0]!.openBlob('a', unknownDigest, { signal });
    expect(await bytesOf(answer)).toHaveLength(bomb.length);
  });

  test.each([
    [200, {}],
    [203, {}],
    [206, { 'content-range': `bytes 0-${content.length - 1}/${content.length}` }],
  ])('a blob and a manifest with status %i are taken', async (status, headers) => {
    await using server = await startServer((_, response) => {
      response.writeHead(status, { ...headers, 'content-length': content.length }).end(content);
    });
    using upstream = upstreamAt(server.url);
    const answer = await upstream.client.endpoints[0]!.openBlob('a', digestOf(content), { signal });
    expect((await bytesOf(answer)).equals(content)).toBe(true);
    expect((await upstream.client.getManifest('a', 'v1', { accept, signal })).bytes.equals(content)).toBe(true);
  });

  test('a 206 with a part only is no answer to a request for all', async () => {
    await using server = await startServer((_, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-9/100', 'content-length': 10 }).end(content.subarray(0, 10));
    });
    using upstream = upstreamAt(server.url);
    const open = upstream.client.endpoints[0]!.openBlob('a', digestOf(content), { signal });
    expect(await failureOf(open)).toMatchObject({ reason: 'bad-answer' });
  });

  test.each(['<!doctype html><title>Log in</title>', '[]', '"text"', '{"errors":[]}', ''])(
    'a list that is none is an answer that cannot be used: %j',
    async (body) => {
      await using server = await startServer((_, response) => response.writeHead(200).end(body));
      using upstream = upstreamAt(server.url);
      const list = upstream.client.listTags('a', '', { signal });
      expect(await failureOf(list)).toMatchObject({
        reason: 'bad-answer',
        message: expect.stringContaining('tags') as string,
      });
      // For referrers that means that there is no such API.
      expect(await upstream.client.listReferrers('a', unknownDigest, '', { signal })).toBeUndefined();
    },
  );
});

describe('limits', () => {
  test.each<[string, number, Record<string, string>, string]>([
    ['403 with Retry-After', 403, { 'Retry-After': '30' }, ''],
    ['403 with the code of a limit', 403, {}, JSON.stringify({ errors: [{ code: 'TOOMANYREQUESTS' }] })],
    ['403 with that code in lower case', 403, {}, JSON.stringify({ errors: [{ code: 'toomanyrequests' }] })],
  ])('%s is one', async (_, status, headers, body) => {
    await using registry = await startRegistry();
    registry.fault(undefined, { kind: 'status', status, headers, body });
    using upstream = upstreamAt(registry.origin);
    const get = () => failureOf(upstream.client.getManifest('a', 'v1', { accept, signal }));
    expect(await get()).toMatchObject({ code: 'TOOMANYREQUESTS', status: 429 });
    // Without a time, the first pause is short enough for a second try.
    expect(registry.requests).toHaveLength('Retry-After' in headers ? 1 : 2);
  });

  test('403 without either is a no', async () => {
    await using registry = await startRegistry();
    registry.fault(undefined, { kind: 'status', status: 403, body: JSON.stringify({ errors: [{ code: 'DENIED' }] }) });
    using upstream = upstreamAt(registry.origin);
    const error = await failureOf(upstream.client.getManifest('a', 'v1', { accept, signal }));
    expect(error).toMatchObject({ code: 'DENIED', status: 403 });
    expect(error.message).toContain('does not give a to anonymous clients');
  });
});

describe('what an error says', () => {
  /** A server that sends these bytes on each connection. */
  async function startRaw(bytes: string | Buffer) {
    const requests: string[] = [];
    const server = createSocketServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.once('data', (data: Buffer) => {
        requests.push(data.toString());
        socket.end(bytes);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    return { url, requests, [Symbol.dispose]: () => server.close() };
  }

  test.each<[string, string | Buffer, string]>([
    [
      'two different lengths',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}',
      'in a way that is not HTTP/1.1 (HPE_UNEXPECTED_CONTENT_LENGTH)',
    ],
    ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n', 'in a way that is not HTTP/1.1 (HPE_'],
    [
      'HTTP/2',
      Buffer.from('00000c04000000000000030000006400040000ffff', 'hex'),
      'speaks HTTP/2 only at http://127.0.0.1',
    ],
  ])('a server that answers with %s was reached', async (_, bytes, sentence) => {
    using server = await startRaw(bytes);
    using upstream = upstreamAt(`http://${server.url}`);
    const error = await failureOf(upstream.client.getManifest('a', 'v1', { accept, signal }));
    expect(error.message).toContain(sentence);
    expect(error.message).not.toContain('cannot be reached');
  });

  test.each<[string, string]>([
    ['lines that end in LF', 'HTTP/1.1 200 OK\nContent-Length: 2\n\n{}'],
    ['some lines that end in LF', 'HTTP/1.1 200 OK\r\nX-Debug: a\nContent-Length: 2\r\n\r\n{}'],
    ['a folded line', 'HTTP/1.1 200 OK\r\nX-Debug: a\r\n b\r\nContent-Length: 2\r\n\r\n{}'],
    [
      'a length beside chunks',
      `HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    ],
  ])('%s are read, on a connection that is not used again', async (_, bytes) => {
    using server = await startRaw(bytes);
    using upstream = upstreamAt(`http://${server.url}`);
    for (let time = 1; time <= 2; time += 1) {
      const digest = digestOf(Buffer.from('{}'));
      expect((await upstream.client.getManifest('a', digest, { accept, signal })).bytes.toString()).toBe('{}');
      // Each was refused first, and read then.
      expect(server.requests).toHaveLength(2 * time);
    }
    expect(server.requests.map((sent) => /connection: close/i.test(sent))).toEqual([false, true, false, true]);
  });

  test('a plain server behind an https address failed the handshake', async () => {
    using server = await startRaw('HTTP/1.1 400 Bad Request\r\n\r\n');
    using upstream = upstreamAt(`https://${server.url}`);
    const error = await failureOf(upstream.client.getManifest('a', 'v1', { accept, signal }));
    expect(error.message).toContain(`failed the TLS handshake at https://${server.url}`);
  });

  test('it names the method, the address without its query, and the status', async () => {
    await using registry = await startRegistry();
    registry.fault(undefined, { kind: 'status', status: 500 });
    using upstream = upstreamAt(registry.origin);
    const error = await failureOf(upstream.client.listTags('a/b', 'n=2&last=secret', { signal }));
    expect(error.message).toBe(`upstream docker.io answered 500 for a/b (GET ${registry.origin}/v2/a/b/tags/list)`);
  });

  test('only where credentials were sent are they refused', async () => {
    const password = 'opensesame';
    const credentials = { kind: 'inline', username: 'robot', password } as const;
    await using registry = await startRegistry({ basic: { username: 'robot', password: 'other' } });
    const get = async (own: Parameters<typeof upstreamAt>[1]) => {
      using upstream = upstreamAt(registry.origin, own);
      return (await failureOf(upstream.client.getManifest('a', 'v1', { accept, signal }))).message;
    };
    expect(await get({})).toContain('does not give a to anonymous clients; configure upstreams.docker.io.auth');
    const refused = await get({ credentials });
    expect(refused).toContain('refuses our credentials for a; check upstreams.docker.io.auth');
    expect(refused).not.toContain(password);
  });
});
