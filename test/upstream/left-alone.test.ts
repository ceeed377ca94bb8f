import { expect, test } from 'vitest';
import type { UpstreamOptions } from '../../src/upstream/options.ts';
import { Refusal } from '../../src/upstream/passage.ts';
import { type RegistryOptions, type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { accept, bytesOf, failureOf, never, unknownDigest, upstreamAt } from './support.ts';

type OwnOptions = Partial<Omit<UpstreamOptions, 'urls' | 'now'>>;

/** An upstream of one or several registries, whose clock stands still until it is moved. */
async function startUpstream(options: RegistryOptions = {}, own: OwnOptions & { readonly registries?: number } = {}) {
  const { registries: count = 1, ...rest } = own;
  let nowMs = 1_000_000;
  const registries: ScriptedRegistry[] = [];
  for (let index = 0; index < count; index += 1) {
    const registry = await startRegistry(options);
    registry.addImage('library/tiny', 'v1');
    registry.addImage('library/other', 'v1');
    registries.push(registry);
  }
  const origins = registries.map(({ origin }) => origin);
  const upstream = upstreamAt(origins, { ...rest, now: () => nowMs });
  const ask = (signal: AbortSignal = never(), repository = 'library/tiny') =>
    upstream.client.headManifest(repository, 'v1', { accept, signal });
  return {
    upstream,
    registries,
    registry: registries[0]!,
    ask,
    fail: (signal?: AbortSignal, repository?: string) => failureOf(ask(signal, repository)),
    pass: (ms: number) => {
      nowMs += ms;
    },
    state: () => upstream.status().endpoints[0]!,
    async [Symbol.asyncDispose]() {
      upstream[Symbol.dispose]();
      for (const registry of registries) await registry.close();
    },
  };
}

function tinyManifests(state: string, reason: string) {
  return { requests: 'manifest', repository: 'library/tiny', state, reason };
}

test('an upstream that never answers is asked once, and again by one request after the interval', async () => {
  await using site = await startUpstream({}, { timeouts: { headersMs: 5_000 } });
  const silence = site.registry.fault(undefined, { kind: 'silence' });
  expect(await site.fail()).toMatchObject({ status: 504 });
  const refused = await Promise.all(Array.from({ length: 10 }, () => site.fail()));
  for (const error of refused) expect(error).toBeInstanceOf(Refusal);
  // A GET beside the HEAD.
  expect(site.registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  site.registry.forgetRequests();
  site.pass(5_000);
  silence.release();
  const [probe, ...others] = await Promise.allSettled([site.ask(), site.ask(), site.ask()]);
  expect(probe?.status).toBe('fulfilled');
  for (const other of others)
    expect(other).toMatchObject({ status: 'rejected', reason: expect.any(Refusal) as unknown });
  expect(site.registry.requests).toHaveLength(1);
  await site.ask();
  expect(site.state().state).toBe('available');
});

test('a caller who runs out of time breaks the connection if it waited a fair while, one who leaves does not', async () => {
  await using site = await startUpstream({}, { timeouts: { headersMs: 60_000 }, answerMs: 3_000 });
  const pause = site.registry.fault(undefined, { kind: 'silence' });
  const leaving = new AbortController();
  const left = site.ask(leaving.signal);
  await pause.reached;
  const reason = new Error('client left');
  leaving.abort(reason);
  await expect(left).rejects.toBe(reason);
  expect(await site.fail(AbortSignal.timeout(5))).toMatchObject({ status: 504 });
  expect(site.state().state).toBe('available');
  expect(await site.fail(AbortSignal.timeout(3_000))).toMatchObject({ status: 504 });
  expect(site.state()).toMatchObject({
    state: 'available',
    parts: [tinyManifests('broken', 'did not answer in time')],
  });
});

test('a client that leaves while its request is the probe lets the next one be it', async () => {
  await using site = await startUpstream({}, { timeouts: { headersMs: 5_000 } });
  const silence = site.registry.fault(undefined, { kind: 'silence' }, { times: 2 });
  await site.fail();
  await silence.reached;
  site.pass(5_000);
  const pause = site.registry.fault(undefined, { kind: 'pause' }, { times: 1 });
  const leaving = new AbortController();
  const probe = site.ask(leaving.signal);
  await pause.reached;
  expect(await site.fail()).toBeInstanceOf(Refusal);
  leaving.abort(new Error('client left'));
  await expect(probe).rejects.toThrow('client left');
  await site.ask();
  expect(site.state().state).toBe('available');
});

test('connections refused three times in a row are not tried again until the interval is over', async () => {
  await using site = await startUpstream();
  await site.registry.suspend();
  for (let count = 0; count < 3; count += 1) expect(await site.fail()).not.toBeInstanceOf(Refusal);
  await site.registry.resume();
  const refused = await site.fail();
  expect(refused).toBeInstanceOf(Refusal);
  expect(refused.message).toContain(
    `cannot be reached at ${site.registry.origin} (ECONNREFUSED); it is not asked again before the next probe`,
  );
  expect(site.registry.requests).toHaveLength(0);
  site.pass(5_000);
  await site.ask();
});

test('five answers of 500 in a row end the asking, one good answer in between does not let it come to that', async () => {
  await using site = await startUpstream();
  const blob = site.registry.addBlob('content');
  // Not through the client, which would ask again.
  const get = async () => {
    const [endpoint] = site.upstream.client.endpoints;
    return await bytesOf(await endpoint!.openBlob('library/tiny', blob.digest, { signal: never() }));
  };
  for (const expected of [4, 5]) {
    site.registry.fault(undefined, { kind: 'status', status: 500 }, { times: expected });
    for (let count = 0; count < expected; count += 1) expect(await failureOf(get())).not.toBeInstanceOf(Refusal);
    if (expected === 4) await get();
  }
  expect(await failureOf(get())).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
  expect(site.registry.requests).toHaveLength(10);
});

test('a body that is cut or stalls after its headers breaks nothing', async () => {
  await using site = await startUpstream({}, { timeouts: { idleMs: 5_000 } });
  const { registry, upstream } = site;
  const blob = registry.addBlob(Buffer.alloc(100_000, 'x'));
  const read = async () =>
    bytesOf(await upstream.client.endpoints[0]!.openBlob('library/tiny', blob.digest, { signal: never() }));
  for (const kind of ['cut', 'cut', 'cut', 'stall'] as const) {
    registry.fault(undefined, { kind, afterBytes: 1000 }, { times: 1 });
    expect(await failureOf(read())).toMatchObject({ code: 'UNAVAILABLE' });
  }
  expect(site.state().state).toBe('available');
  expect(await read()).toHaveLength(100_000);
});

test('what a redirect target does is not held against the registry', async () => {
  await using site = await startUpstream({}, { timeouts: { headersMs: 5_000 } });
  const { registry, upstream } = site;
  const blob = registry.addBlob('content');
  registry.fault(/blobs/, { kind: 'redirect' });
  const open = () =>
    failureOf(upstream.client.endpoints[0]!.openBlob('library/tiny', blob.digest, { signal: never() }));
  registry.cdn.place(undefined, { kind: 'silence' }, { times: 1 });
  expect(await open()).toMatchObject({ status: 504 });
  registry.cdn.place(undefined, { kind: 'status', status: 429, headers: { 'Retry-After': '60' } }, { times: 1 });
  expect(await open()).toMatchObject({ code: 'TOOMANYREQUESTS', headers: { 'Retry-After': '60' } });
  await registry.cdn.suspend();
  for (let count = 0; count < 3; count += 1) await open();
  expect(site.state().state).toBe('available');
  await site.ask();
});

test.each<[number, string | undefined, number]>([
  [429, '60', 60],
  [429, '10', 10],
  [503, '60', 60],
])('an answer %i with Retry-After %s is the last for that long', async (status, retryAfter, seconds) => {
  await using site = await startUpstream();
  const headers: Record<string, string> = retryAfter === undefined ? {} : { 'Retry-After': retryAfter };
  site.registry.fault(undefined, { kind: 'status', status, headers });
  const expected = { code: 'TOOMANYREQUESTS', status: 429, headers: { 'Retry-After': String(seconds) } };
  expect(await site.fail()).toMatchObject(expected);
  expect(await site.fail()).toMatchObject({ ...expected, detail: { upstream: 'docker.io' } });
  site.pass(seconds * 1000 - 1);
  await site.fail();
  // What a HEAD is told is decided by a GET.
  const once = ['HEAD', 'GET'];
  expect(site.registry.requests.map(({ method }) => method)).toEqual(once);
  site.pass(1);
  await Promise.all([site.fail(), site.fail(), site.fail()]);
  expect(site.registry.requests.map(({ method }) => method)).toEqual([...once, ...once]);
});

test('the other URLs of an upstream are asked while one is left alone', async () => {
  await using site = await startUpstream({}, { registries: 2 });
  const [first, second] = site.registries as [ScriptedRegistry, ScriptedRegistry];
  first.fault(undefined, { kind: 'status', status: 429 });
  for (let count = 0; count < 3; count += 1) await site.ask();
  // By HEAD and by GET.
  expect([first.requests.length, second.requests.length]).toEqual([2, 3]);
  expect(site.upstream.status().endpoints.map(({ url, parts }) => [url, parts])).toMatchObject([
    [
      `${first.origin}/`,
      [
        tinyManifests('limited', 'limits our requests'),
        { ...tinyManifests('limited', 'limits our requests'), requests: 'manifest-head' },
      ],
    ],
    [`${second.origin}/`, undefined],
  ]);
});

test('a token service that limits us is left alone, and what has a token goes on', async () => {
  await using site = await startUpstream({ token: { expiresInSeconds: 3600 } });
  const { registry, pass } = site;
  await site.ask();
  registry.forgetRequests();
  registry.tokenServer.place(undefined, { kind: 'status', status: 429, headers: { 'Retry-After': '60' } });
  const expected = { code: 'TOOMANYREQUESTS', headers: { 'Retry-After': '60' } };
  expect(await site.fail(never(), 'library/other')).toMatchObject(expected);
  const refused = await site.fail(never(), 'library/other');
  expect(refused).toMatchObject(expected);
  expect(refused.message).toContain('has a token service that limits our requests; it is not asked again for 60 s');
  await site.ask();
  // Without a token it is asked without one, once.
  expect(registry.requests.map(({ path, status }) => [path, status])).toEqual([
    ['/v2/library/other/manifests/v1', 401],
    ['/v2/library/tiny/manifests/v1', 200],
  ]);
  expect(registry.tokenServer.requests).toHaveLength(1);
  expect(site.state()).toMatchObject({
    state: 'available',
    tokenService: { state: 'available', parts: [{ requests: 'token', repository: 'library/other', state: 'limited' }] },
  });
  pass(60_000);
  registry.clearFaults();
  await site.ask(never(), 'library/other');
  expect(site.state().tokenService).toEqual({ state: 'available' });
});

test('no token is asked for while the registry itself is left alone', async () => {
  await using site = await startUpstream({ token: { expiresInSeconds: 60 } });
  await site.ask();
  site.registry.forgetRequests();
  site.registry.fault(undefined, { kind: 'status', status: 429, headers: { 'Retry-After': '90' } });
  await site.fail();
  site.pass(60_000);
  expect(await site.fail()).toBeInstanceOf(Refusal);
  expect(site.registry.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  expect(site.registry.tokenServer.requests).toHaveLength(0);
});

test.each<[string, number, number]>([
  ['its own time-out', 2_000, 20_000],
  ['that of the waiting request', 20_000, 3_000],
])('a token service that never answers is broken by %s, the registry is not', async (_, headersMs, answerMs) => {
  await using site = await startUpstream({ token: {} }, { timeouts: { headersMs }, answerMs });
  site.registry.tokenServer.place(undefined, { kind: 'silence' });
  await Promise.allSettled([site.ask(AbortSignal.timeout(answerMs)), site.ask(AbortSignal.timeout(answerMs))]);
  await expect.poll(() => site.state().tokenService.parts?.[0]?.state).toBe('broken');
  expect(site.state()).toMatchObject({ state: 'available', tokenService: { state: 'available' } });
  const error = await site.fail();
  expect(error).toBeInstanceOf(Refusal);
  expect(error.message).toContain('has a token service that did not answer in time');
  expect(site.registry.tokenServer.requests).toHaveLength(1);
});

test('headers of 200 KiB are read, headers of 300 KiB are an answer that cannot be used', async () => {
  await using site = await startUpstream();
  const header = (bytes: number) => ({ kind: 'headers', headers: { 'X-Long': 'x'.repeat(bytes) } }) as const;
  site.registry.fault(undefined, header(200 * 1024), { times: 1 });
  await site.ask();
  site.registry.fault(undefined, header(300 * 1024));
  for (let count = 0; count < 4; count += 1) {
    const error = await site.fail();
    expect(error).toMatchObject({ code: 'UNAVAILABLE', status: 502, cause: { code: 'HPE_HEADER_OVERFLOW' } });
    expect(error).not.toBeInstanceOf(Refusal);
  }
  const ask = site.upstream.client.headBlob('library/tiny', unknownDigest, { signal: never() });
  expect(await failureOf(ask)).not.toBeInstanceOf(Refusal);
});
