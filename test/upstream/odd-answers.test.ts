import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, bytesOf, never, upstreamAt } from './support.ts';

const signal = never();
const ociManifest = accept[0] ?? '';
const manifest = Buffer.from('{"schemaVersion":2,"config":{},"layers":[]}');
const blob = Buffer.from('content of a blob '.repeat(50));
const credentials = { kind: 'inline', username: 'robot', password: 'open:sesame' } as const;

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
}

async function startServer(answer: (exchange: Exchange) => unknown) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    answer({ request, response, url: new URL(request.url ?? '', origin) });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

describe('a HEAD that comes to nothing is decided by GET', () => {
  test.each<[string, (exchange: Exchange) => unknown]>([
    ['its connection is closed', ({ response }) => response.destroy()],
    ['it is redirected without end', ({ response }) => response.writeHead(302, { location: '/nowhere' }).end()],
    [
      'it demands what cannot be had',
      ({ response }) => response.writeHead(401, { 'www-authenticate': 'Negotiate' }).end(),
    ],
  ])('where %s', async (_, answerHead) => {
    await using server = await startServer((exchange) => {
      const { request, response } = exchange;
      if (request.method === 'HEAD') return answerHead(exchange);
      const body = request.url?.includes('/blobs/') === true ? blob : manifest;
      return response.writeHead(200, { 'content-type': ociManifest, 'content-length': body.length }).end(body);
    });
    using upstream = upstreamAt(server.origin);
    const heads = (): number => server.asked.filter((line) => line.startsWith('HEAD')).length;
    const first: number[] = [];
    for (let round = 0; round < 2; round += 1) {
      const head = await upstream.client.headManifest('a', 'v1', { accept, signal });
      expect(head).toMatchObject({ digest: digestOf(manifest), size: manifest.length });
      expect(await upstream.client.headBlob('a', digestOf(blob), { signal })).toMatchObject({ size: blob.length });
      first.push(heads());
    }
    // What has been contradicted once is not sent again.
    expect(first[1]).toBe(first[0]);
  });
});

describe('the digest decides', () => {
  const whole = `bytes 0-${blob.length - 1}/`;

  test.each<[string, number, Record<string, string>]>([
    ['201', 201, {}],
    ['202', 202, {}],
    ['206 without a range', 206, {}],
    ['206 of the whole without its size', 206, { 'content-range': `${whole}*` }],
    ['206 of the whole', 206, { 'content-range': `${whole}${blob.length}` }],
    ['60 KB of headers', 200, { 'x-debug': 'x'.repeat(60_000) }],
  ])('a blob with %s is taken', async (_, status, headers) => {
    await using server = await startServer(({ response }) => response.writeHead(status, headers).end(blob));
    using upstream = upstreamAt(server.origin);
    const answer = await upstream.client.endpoints[0]!.openBlob('a', digestOf(blob), { signal });
    expect(await bytesOf(answer)).toEqual(blob);
  });

  test.each([400, 416, 501])('a blob whose server answers a range with %i is asked for whole', async (status) => {
    await using server = await startServer(({ request, response }) =>
      request.headers.range === undefined ? response.end(blob) : response.writeHead(status).end(),
    );
    using upstream = upstreamAt(server.origin);
    const endpoint = upstream.client.endpoints[0]!;
    const answer = await endpoint.openBlob('a', digestOf(blob), { offset: 3, end: 10, signal });
    expect([answer.start, await bytesOf(answer)]).toEqual([0, blob]);
    using other = upstreamAt(server.origin, { traits: { blobHead: 'unreliable' } });
    if (status !== 416)
      expect(await other.client.headBlob('a', digestOf(blob), { signal })).toMatchObject({ size: blob.length });
  });

  test('a list of referrers has the type that the spec names', async () => {
    const list = JSON.stringify({ schemaVersion: 2, manifests: [] });
    await using server = await startServer(({ response }) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end(list),
    );
    using upstream = upstreamAt(server.origin);
    const answer = await upstream.client.listReferrers('a', digestOf(blob), '', { signal });
    expect(answer?.contentType).toBe('application/vnd.oci.image.index.v1+json');
  });

  test('a part is not taken for the whole', async () => {
    const headers = { 'content-range': `bytes 0-99/${blob.length}` };
    await using server = await startServer(({ response }) =>
      response.writeHead(206, headers).end(blob.subarray(0, 100)),
    );
    using upstream = upstreamAt(server.origin);
    const open = upstream.client.endpoints[0]!.openBlob('a', digestOf(blob), { signal });
    await expect(open).rejects.toThrow('answered with a part');
  });
});

describe('a token service', () => {
  /** A registry that gives its manifest for the token `good`, and whose `/token` answers as a test says. */
  const startWith = (token: (exchange: Exchange) => unknown, realm = (origin: string) => `${origin}/token`) =>
    startServer((exchange) => {
      const { request, response, url } = exchange;
      if (url.pathname === '/token') return token(exchange);
      if (request.headers.authorization === 'Bearer good') {
        return response.writeHead(200, { 'content-type': ociManifest }).end(manifest);
      }
      const challenge = `Bearer realm="${realm(url.origin)}",service="reg"`;
      return response.writeHead(401, { 'www-authenticate': challenge }).end();
    });
  const good = Buffer.from('{"token":"good"}');

  test.each<[string, (exchange: Exchange) => unknown]>([
    ['answers 201', ({ response }) => response.writeHead(201).end(good)],
    [
      'encodes its answer',
      ({ response }) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(good)),
    ],
    ['labels it', ({ response }) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(good)],
  ])('that %s is understood', async (_, token) => {
    await using server = await startWith(token);
    using upstream = upstreamAt(server.origin);
    expect((await upstream.client.getManifest('a', 'v1', { accept, signal })).bytes).toEqual(manifest);
  });

  test.each<[string, (exchange: Exchange) => unknown]>([
    ['answers 408', ({ response }) => response.writeHead(408).end()],
    ['answers 500', ({ response }) => response.writeHead(500).end()],
    ['answers 503', ({ response }) => response.writeHead(503).end()],
    ['answers 504', ({ response }) => response.writeHead(504).end()],
    ['closes the connection', ({ response }) => response.destroy()],
    [
      'cuts its answer',
      ({ response }) => {
        response.writeHead(200, { 'content-length': 100 }).write('{"tok');
        setImmediate(() => response.destroy());
      },
    ],
  ])('that %s once is asked again, and once only', async (_, failing) => {
    const asked = { count: 0, failures: 1 };
    await using server = await startWith((exchange) => {
      asked.count += 1;
      return asked.count <= asked.failures ? failing(exchange) : exchange.response.end(good);
    });
    using upstream = upstreamAt(server.origin);
    expect((await upstream.client.getManifest('a', 'v1', { accept, signal })).bytes).toEqual(manifest);
    expect(asked.count).toBe(2);
    Object.assign(asked, { count: 0, failures: 9 });
    using other = upstreamAt(server.origin);
    await expect(other.client.getManifest('a', 'v1', { accept, signal })).rejects.toMatchObject({ status: 502 });
    // A request that finds its kept connection closed is repeated besides.
    expect(asked.count).toBeLessThanOrEqual(3);
  });

  test.each([429, 401, 404])('that answers %i is believed at once', async (status) => {
    const asked = { count: 0 };
    await using server = await startWith(({ response }) => {
      asked.count += 1;
      return response.writeHead(status, { 'retry-after': '60' }).end();
    });
    using upstream = upstreamAt(server.origin);
    await expect(upstream.client.getManifest('a', 'v1', { accept, signal })).rejects.toThrow('token service');
    expect(asked.count).toBe(1);
  });

  test('may be named by its path alone', async () => {
    await using server = await startWith(
      ({ response }) => response.end(good),
      () => '/token',
    );
    using upstream = upstreamAt(server.origin);
    expect((await upstream.client.getManifest('a', 'v1', { accept, signal })).bytes).toEqual(manifest);
  });

  test.each([404, 405])('that answers a GET with %i is asked by POST', async (status) => {
    const forms: string[] = [];
    await using server = await startWith(({ request, response }) => {
      if (request.method !== 'POST') return response.writeHead(status).end();
      return request.on('data', (chunk: Buffer) => forms.push(chunk.toString())).on('end', () => response.end(good));
    });
    using upstream = upstreamAt(server.origin, { credentials });
    expect((await upstream.client.getManifest('a', 'v1', { accept, signal })).bytes).toEqual(manifest);
    expect(Object.fromEntries(new URLSearchParams(forms.join('')))).toEqual({
      grant_type: 'password',
      client_id: 'millpond',
      service: 'reg',
      scope: 'repository:a:pull',
      username: 'robot',
      password: 'open:sesame',
    });
    expect(server.asked.join(' ')).not.toContain('sesame');
  });

  test('whose token has expired before its time: a 403 is answered with a new one, and only if it may be that', async () => {
    let nowMs = Date.now();
    let valid = 'first';
    let tokens = 0;
    await using server = await startServer(({ request, response, url }) => {
      if (url.pathname === '/token') {
        tokens += 1;
        return response.end(JSON.stringify({ token: valid, expires_in: 43_200 }));
      }
      const { authorization } = request.headers;
      if (authorization === `Bearer ${valid}`) {
        return response.writeHead(200, { 'content-type': ociManifest }).end(manifest);
      }
      const headers = { 'www-authenticate': `Bearer realm="${url.origin}/token"` };
      return authorization === undefined ? response.writeHead(401, headers).end() : response.writeHead(403).end();
    });
    using upstream = upstreamAt(server.origin, { now: () => nowMs });
    const pull = () => upstream.client.getManifest('a', 'v1', { accept, signal });
    await pull();
    valid = 'second';
    // It lives for a minute at least: this is about the repository.
    nowMs += 30_000;
    await expect(pull()).rejects.toMatchObject({ status: 403 });
    expect(tokens).toBe(1);
    nowMs += 31_000;
    expect((await pull()).bytes).toEqual(manifest);
    expect(tokens).toBe(2);
  });
});

test('a token realm that begins with two slashes is another host', async () => {
  await using other = await startRegistry();
  await using server = await startServer(({ response, url }) =>
    response.writeHead(401, { 'www-authenticate': `Bearer realm="//${other.host}/token"`, host: url.host }).end(),
  );
  using upstream = upstreamAt(server.origin, { credentials });
  await expect(upstream.client.getManifest('a', 'v1', { accept, signal })).rejects.toThrow('token realm');
  expect(other.requests).toEqual([]);
});
