import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { OwnedUpstream } from '../../src/upstream/create-upstream.ts';
import type { Fault } from '../support/faults.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, bytesOf, failureOf, never, unknownDigest, upstreamAt } from './support.ts';

const content = Buffer.from('0123456789'.repeat(1000));
const firstEndpoint = (upstream: ReturnType<typeof upstreamAt>) => upstream.client.endpoints[0]!;

async function startServer(listener: RequestListener) {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

test('a manifest comes with its exact bytes, type and digest', async () => {
  await using registry = await startRegistry();
  const image = registry.addImage('library/tiny', 'v1', { layers: [content] });
  using upstream = upstreamAt(registry.origin);
  const manifest = await upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  expect(manifest).toEqual({ bytes: image.bytes, contentType: image.mediaType, digest: image.digest });
  const head = await upstream.client.headManifest('library/tiny', 'v1', { accept, signal: never() });
  expect(head).toEqual({ size: image.size, contentType: image.mediaType, digest: image.digest });
  expect(registry.requests[0]?.headers).toMatchObject({ accept: accept.join(', '), 'accept-encoding': 'identity' });
  expect(registry.requests[0]?.headers['user-agent']).toMatch(/^millpond\/\d/);
});

test('a cold blob costs exactly one request', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  using upstream = upstreamAt(registry.origin);
  const answer = await firstEndpoint(upstream).openBlob('library/tiny', blob.digest, { signal: never() });
  expect(answer).toMatchObject({ size: content.length, start: 0 });
  expect(await bytesOf(answer)).toEqual(content);
  expect(registry.requests).toHaveLength(1);
});

test('a digest header that is missing or malformed is no digest', async () => {
  await using registry = await startRegistry({ digestHeader: false });
  registry.addImage('library/tiny', 'v1');
  using upstream = upstreamAt(registry.origin);
  const ask = () => upstream.client.headManifest('library/tiny', 'v1', { accept, signal: never() });
  expect((await ask()).digest).toBeUndefined();
  registry.fault(undefined, { kind: 'headers', headers: { 'Docker-Content-Digest': 'sha256:tiny' } });
  expect((await ask()).digest).toBeUndefined();
});

test('an upstream that does not know HEAD is asked by GET, and by GET alone from then on', async () => {
  await using registry = await startRegistry();
  const { digest, mediaType: contentType, size, bytes } = registry.addImage('library/tiny', 'v1');
  registry.fault(({ method }) => method === 'HEAD', { kind: 'status', status: 405 });
  using upstream = upstreamAt(registry.origin);
  for (let round = 0; round < 2; round += 1) {
    const head = await upstream.client.headManifest('library/tiny', 'v1', { accept, signal: never() });
    expect(head).toEqual({ digest, contentType, size, answer: { bytes, contentType, digest } });
  }
  expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET', 'GET']);
});

test.each<[number, string, number]>([
  [404, 'BLOB_UNKNOWN', 404],
  [403, 'DENIED', 403],
  [401, 'DENIED', 403],
  [429, 'TOOMANYREQUESTS', 429],
  [400, 'UNAVAILABLE', 502],
  [408, 'UNAVAILABLE', 502],
  [416, 'UNAVAILABLE', 502],
  [500, 'UNAVAILABLE', 502],
  [204, 'UNAVAILABLE', 502],
  [304, 'UNAVAILABLE', 502],
])('an upstream that answers %i for a blob gives %s', async (status, code, ownStatus) => {
  await using registry = await startRegistry();
  const challenge = { 'WWW-Authenticate': 'Digest realm="secret-realm"' };
  // A 403 that says for how long is a limit.
  const headers = status === 403 ? challenge : { ...challenge, 'Retry-After': '7' };
  registry.fault(undefined, { kind: 'status', status, headers, body: 'secret text' });
  using upstream = upstreamAt(registry.origin);
  const error = await failureOf(firstEndpoint(upstream).openBlob('library/tiny', unknownDigest, { signal: never() }));
  expect(error).toMatchObject({ code, status: ownStatus, detail: expect.objectContaining({ upstream: 'docker.io' }) });
  expect(error.headers).toEqual(status === 429 ? { 'Retry-After': '7' } : {});
  expect(JSON.stringify(error.toBody())).not.toContain('secret');
});

test('what is not there has the code of its kind', async () => {
  await using registry = await startRegistry({ referrers: false });
  using upstream = upstreamAt(registry.origin);
  const { client } = upstream;
  const signal = never();
  expect(await failureOf(client.getManifest('a/b', 'v1', { accept, signal }))).toMatchObject({
    code: 'MANIFEST_UNKNOWN',
  });
  expect(await failureOf(client.headManifest('a/b', 'v1', { accept, signal }))).toMatchObject({
    code: 'MANIFEST_UNKNOWN',
  });
  expect(await failureOf(client.headBlob('a/b', unknownDigest, { signal }))).toMatchObject({ code: 'BLOB_UNKNOWN' });
  registry.fault(/tags/, { kind: 'status', status: 404 });
  expect(await failureOf(client.listTags('a/b', '', { signal }))).toMatchObject({ code: 'NAME_UNKNOWN' });
  expect(await client.listReferrers('a/b', unknownDigest, '', { signal })).toBeUndefined();
  for (const status of [400, 405, 406, 501]) {
    registry.fault(/referrers/, { kind: 'status', status }, { times: 1 });
    expect(await client.listReferrers('a/b', unknownDigest, '', { signal })).toBeUndefined();
  }
});

test.each(['relative', 'absolute', 'opaque'] as const)(
  'pages of tags follow each other by a %s Link',
  async (linkStyle) => {
    await using registry = await startRegistry({ linkStyle });
    for (const tag of ['a', 'b', 'c']) registry.addImage('library/tiny', tag);
    using upstream = upstreamAt(registry.origin);
    const { client } = upstream;
    const first = await client.listTags('library/tiny', 'n=2&ns=docker.io', { signal: never() });
    expect(JSON.parse(first.bytes.toString())).toMatchObject({ tags: ['a', 'b'] });
    expect(registry.requests[0]?.query.toString()).toBe('n=2');
    const second = await client.listTags('library/tiny', first.nextQuery ?? '', { signal: never() });
    expect(JSON.parse(second.bytes.toString())).toMatchObject({ tags: ['c'] });
    expect(second.nextQuery).toBeUndefined();
  },
);

test('a manifest larger than allowed is refused, announced or not', async () => {
  await using registry = await startRegistry();
  registry.addImage('library/tiny', 'v1', { annotations: { note: 'x'.repeat(3000) } });
  using upstream = upstreamAt(registry.origin, { maxManifestBytes: 2000 });
  const ask = () => failureOf(upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() }));
  expect(await ask()).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('2000 bytes') as string });
  registry.fault(undefined, { kind: 'chunked' });
  expect(await ask()).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('2000 bytes') as string });
});

test('a range is asked for and checked', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  using upstream = upstreamAt(registry.origin);
  const open = (range: { offset?: number; end?: number }) =>
    firstEndpoint(upstream).openBlob('library/tiny', blob.digest, { signal: never(), ...range });
  const tail = await open({ offset: 9000 });
  expect(tail).toMatchObject({ start: 9000, size: content.length });
  expect(await bytesOf(tail)).toEqual(content.subarray(9000));
  expect(await bytesOf(await open({ offset: 5, end: 15 }))).toEqual(content.subarray(5, 15));
  expect(registry.requests.map(({ headers }) => headers.range)).toEqual(['bytes=9000-', 'bytes=5-14']);

  registry.fault(undefined, { kind: 'ignore-range' }, { times: 1 });
  const whole = await open({ offset: 9000 });
  expect(whole).toMatchObject({ start: 0, size: content.length });
  expect(await bytesOf(whole)).toEqual(content);

  for (const value of [undefined, 'bytes 0-999/10000', 'bytes 9000-9998/10000', 'nonsense']) {
    registry.fault(undefined, { kind: 'content-range', value }, { times: 1 });
    expect(await failureOf(open({ offset: 9000 }))).toMatchObject({ code: 'UNAVAILABLE' });
  }
});

test.each([
  { kind: 'cut', afterBytes: 4000 },
  { kind: 'short', declared: 'whole' },
  { kind: 'content-length', difference: 10 },
] as const)('a body that ends early ($kind) throws', async (fault) => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  registry.fault(undefined, fault);
  using upstream = upstreamAt(registry.origin);
  const answer = await firstEndpoint(upstream).openBlob('library/tiny', blob.digest, { signal: never() });
  expect(await failureOf(bytesOf(answer))).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
});

test('a chunked body that is cut throws as well', async () => {
  await using server = await startServer((_, response) => {
    response.writeHead(200);
    response.write('half', () => response.destroy());
  });
  using upstream = upstreamAt(server.url);
  const answer = await firstEndpoint(upstream).openBlob('a', unknownDigest, { signal: never() });
  expect(answer.size).toBeUndefined();
  expect(await failureOf(bytesOf(answer))).toMatchObject({ code: 'UNAVAILABLE' });
});

test('an encoded body is decoded where that makes it right, a page of HTML is left to the digest', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  using upstream = upstreamAt(registry.origin);
  const open = () => firstEndpoint(upstream).openBlob('library/tiny', blob.digest, { signal: never() });
  registry.fault(undefined, { kind: 'gzip' }, { times: 1 });
  expect(await bytesOf(await open())).toEqual(content);
  registry.fault(undefined, { kind: 'html' }, { times: 1 });
  const page = await open();
  expect(page.contentType).toContain('text/html');
  expect(digestOf(await bytesOf(page))).not.toBe(blob.digest);
});

test('silence ends in 504: before the headers, in the middle of a body', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  using upstream = upstreamAt(registry.origin, { timeouts: { headersMs: 5_000, idleMs: 5_000 }, probeMs: 0 });
  const open = () => firstEndpoint(upstream).openBlob('library/tiny', blob.digest, { signal: never() });
  registry.fault(undefined, { kind: 'silence' }, { times: 1 });
  expect(await failureOf(open())).toMatchObject({ code: 'UNAVAILABLE', status: 504 });
  registry.fault(undefined, { kind: 'stall', afterBytes: 4000 }, { times: 1 });
  expect(await failureOf(bytesOf(await open()))).toMatchObject({ code: 'UNAVAILABLE', status: 504 });
});

test('an abandoned wait fails with its own reason, a deadline with 504', async () => {
  await using registry = await startRegistry();
  registry.fault(undefined, { kind: 'silence' });
  using upstream = upstreamAt(registry.origin);
  const controller = new AbortController();
  const call = firstEndpoint(upstream).openBlob('library/tiny', unknownDigest, { signal: controller.signal });
  const reason = new Error('client left');
  controller.abort(reason);
  await expect(call).rejects.toBe(reason);
  const late = firstEndpoint(upstream).openBlob('library/tiny', unknownDigest, { signal: AbortSignal.timeout(50) });
  expect(await failureOf(late)).toMatchObject({ code: 'UNAVAILABLE', status: 504 });
});

test('a refused connection and one that is reset are 502', async () => {
  await using registry = await startRegistry();
  using upstream = upstreamAt(registry.origin);
  const ask = () => failureOf(upstream.client.getManifest('a', 'v1', { accept, signal: never() }));
  registry.fault(undefined, { kind: 'reset' });
  expect(await ask()).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
  await registry.suspend();
  expect(await ask()).toMatchObject({ code: 'UNAVAILABLE', status: 502, cause: { code: 'ECONNREFUSED' } });
});

test('URLs are tried in order, and not found is definite only when all of them said so', async () => {
  await using first = await startRegistry();
  await using second = await startRegistry();
  const image = second.addImage('library/tiny', 'v1');
  using upstream = upstreamAt([first.origin, second.origin]);
  const ask = () => upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  expect((await ask()).digest).toBe(image.digest);
  expect([first.requests.length, second.requests.length]).toEqual([1, 1]);
  second.removeTag('library/tiny', 'v1');
  expect(await failureOf(ask())).toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  first.fault(undefined, { kind: 'status', status: 503 });
  expect(await failureOf(ask())).toMatchObject({ code: 'UNAVAILABLE' });
  first.clearFaults();
  first.fault(undefined, { kind: 'status', status: 403 });
  expect(await failureOf(ask())).toMatchObject({ code: 'MANIFEST_UNKNOWN' });
});

test('a path of the URL is kept before /v2/, and continued after it', async () => {
  const asked: (string | undefined)[] = [];
  await using server = await startServer((request, response) => {
    asked.push(request.url);
    response.end('{}');
  });
  for (const path of ['', '/', '/prefix/', '/v2/docker.io', '/v2']) {
    using upstream = upstreamAt(`${server.url}${path}`);
    await upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  }
  expect(asked).toEqual([
    '/v2/library/tiny/manifests/v1',
    '/v2/library/tiny/manifests/v1',
    '/prefix/v2/library/tiny/manifests/v1',
    '/v2/docker.io/library/tiny/manifests/v1',
    '/v2/library/tiny/manifests/v1',
  ]);
});

test('connections are used again, after errors too, and never leak', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  using upstream = upstreamAt(registry.origin);
  const open = () => firstEndpoint(upstream).openBlob('library/tiny', blob.digest, { signal: never() });
  registry.fault(undefined, { kind: 'status', status: 500, body: 'short text' }, { times: 3 });
  for (let round = 0; round < 3; round += 1) await failureOf(open());
  for (let round = 0; round < 3; round += 1) await bytesOf(await open());
  expect(new Set(registry.requests.map(({ connection }) => connection)).size).toBe(1);
  registry.fault(undefined, { kind: 'status', status: 500, body: 'x'.repeat(1_000_000) }, { times: 1 });
  await failureOf(open());
  await bytesOf(await open());
  await expect.poll(() => registry.openConnections).toBe(1);
});

test('redirects that have bodies, many in a row, neither use up connections nor open more', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  const location = `/v2/b/blobs/${blob.digest}`;
  const redirect = { kind: 'status', status: 307, headers: { Location: location }, body: 'x'.repeat(4000) } as const;
  registry.fault(/\/v2\/a\//, redirect);
  using upstream = upstreamAt(registry.origin, { maxConnections: 2 });
  for (let round = 0; round < 20; round += 1) {
    const answer = await firstEndpoint(upstream).openBlob('a', blob.digest, { signal: never() });
    expect(await bytesOf(answer)).toEqual(content);
  }
  expect(registry.requests).toHaveLength(40);
  expect(new Set(registry.requests.map(({ connection }) => connection)).size).toBe(1);
});

test('a kept connection that the upstream had just closed causes no error', async () => {
  let requests = 0;
  await using server = await startServer((request, response) => {
    requests += 1;
    if (requests === 2) request.socket.destroy();
    else response.end('{}');
  });
  using upstream = upstreamAt(server.url);
  const ask = () => upstream.client.getManifest('a', 'v1', { accept, signal: never() });
  await ask();
  expect((await ask()).bytes.toString()).toBe('{}');
  expect(requests).toBe(3);
});

test('URLs that carry credentials or are no http address are refused', () => {
  expect(() => upstreamAt('https://user:pass@reg.example')).toThrow(/upstreams\.docker\.io\.auth/);
  expect(() => upstreamAt('ftp://reg.example')).toThrow(/not an http/);
  expect(() => upstreamAt([])).toThrow(/no URL/);
});

describe('what may be over at once is asked for again, once', () => {
  const manifest = (upstream: OwnedUpstream) =>
    upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  const head = (upstream: OwnedUpstream, more: object = {}) =>
    upstream.client.headManifest('library/tiny', 'v1', { accept, signal: never(), ...more });
  const tags = (upstream: OwnedUpstream) => upstream.client.listTags('library/tiny', '', { signal: never() });
  const pause = (seconds: number) =>
    ({ kind: 'status', status: 503, headers: { 'Retry-After': String(seconds) } }) as const;

  test.each<[string, Fault]>([
    ['500', { kind: 'status', status: 500 }],
    ['503', { kind: 'status', status: 503 }],
    ['408', { kind: 'status', status: 408 }],
    ['503 for a second', pause(1)],
    ['a reset', { kind: 'reset' }],
    ['a body that is cut', { kind: 'cut', afterBytes: 3 }],
  ])('after %s', async (_, fault) => {
    for (const ask of [manifest, head, tags]) {
      await using registry = await startRegistry();
      registry.addImage('library/tiny', 'v1');
      // A HEAD has no body to be cut, and the GET after it is the first.
      const isAsked = ({ method }: { readonly method: string }) => method === 'GET';
      const placed = registry.fault(isAsked, fault, { times: 1 });
      registry.fault(({ method }) => method === 'HEAD', { kind: 'status', status: 405 });
      using upstream = upstreamAt(registry.origin);
      await ask(upstream);
      expect(placed.met).toBe(1);
      expect(registry.requestsFor(isAsked)).toHaveLength(2);
    }
  });

  test.each<[string, Fault, number]>([
    ['502 twice', { kind: 'status', status: 502 }, 2],
    ['a long pause', pause(3), 1],
    ['a status of its own', { kind: 'status', status: 520 }, 1],
    ['400', { kind: 'status', status: 400 }, 1],
  ])('but not after %s', async (_, fault, times) => {
    await using registry = await startRegistry();
    registry.fault(undefined, fault);
    using upstream = upstreamAt(registry.origin);
    await failureOf(manifest(upstream));
    expect(registry.requests).toHaveLength(times);
  });

  test('not where something else can be given', async () => {
    await using registry = await startRegistry();
    registry.fault(undefined, { kind: 'status', status: 503 });
    using upstream = upstreamAt(registry.origin);
    expect(await failureOf(head(upstream, { hasSubstitute: () => Promise.resolve(true) }))).toMatchObject({
      status: 502,
    });
    expect(registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  test('by those that wait for the end of a short pause, of which the first goes alone', async () => {
    await using registry = await startRegistry();
    for (const tag of ['v1', 'v2', 'v3']) registry.addImage('library/tiny', tag);
    registry.fault(undefined, pause(1), { times: 1 });
    const closed = Promise.withResolvers<void>();
    const report = ({ kind }: { readonly kind: string }) => void (kind === 'closed' && closed.resolve());
    using upstream = upstreamAt(registry.origin, { report });
    const get = (tag: string) => upstream.client.getManifest('library/tiny', tag, { accept, signal: never() });
    const first = get('v1');
    await closed.promise;
    // Refused by the gate, and asked for again when the pause is over.
    await Promise.all([first, get('v2'), get('v3')]);
    expect(registry.requests).toHaveLength(4);
  });

  test('at the URLs where that may help, after all have been asked', async () => {
    await using first = await startRegistry();
    await using second = await startRegistry();
    first.addImage('library/tiny', 'v1');
    first.fault(undefined, { kind: 'status', status: 503 }, { times: 1 });
    using upstream = upstreamAt([first.origin, second.origin]);
    await manifest(upstream);
    expect([first.requests.length, second.requests.length]).toEqual([2, 1]);
  });

  test('and is over with the time of the client', async () => {
    await using registry = await startRegistry();
    const failing = registry.fault(undefined, pause(2));
    using upstream = upstreamAt(registry.origin);
    const leaving = new AbortController();
    const reason = new Error('client left');
    const asked = upstream.client.getManifest('library/tiny', 'v1', { accept, signal: leaving.signal });
    await failing.reached;
    leaving.abort(reason);
    await expect(asked).rejects.toBe(reason);
  });
});
