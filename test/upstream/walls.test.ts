import { describe, expect, test } from 'vitest';
import { type RegistryOptions, startRegistry } from '../support/registry.ts';
import { accept, bytesOf, failureOf, never, upstreamAt } from './support.ts';

const signal = never();
const credentials = { username: 'robot', password: 'sesame' };

async function start(options: RegistryOptions = {}, own: Parameters<typeof upstreamAt>[1] = {}) {
  const registry = await startRegistry(options);
  for (const repository of ['bad', 'worse', 'good']) registry.addImage(repository, 'v1');
  // Those that answer share it with those that say nothing: it is long for a busy machine.
  const upstream = upstreamAt(registry.origin, { timeouts: { headersMs: 5_000 }, ...own });
  return {
    registry,
    upstream,
    get: (repository: string) => upstream.client.getManifest(repository, 'v1', { accept, signal }),
    state: () => upstream.status().endpoints[0],
    async [Symbol.asyncDispose]() {
      upstream[Symbol.dispose]();
      await registry.close();
    },
  };
}

describe('what one repository does', () => {
  test.each([
    ['silence', { kind: 'silence' }],
    ['500', { kind: 'status', status: 500 }],
    ['reset', { kind: 'reset' }],
    ['429 for an hour', { kind: 'status', status: 429, headers: { 'Retry-After': '3600' } }],
  ] as const)('%s costs no other one a pull', async (_, fault) => {
    await using site = await start();
    site.registry.fault(/\/v2\/bad\//, fault);
    const bad = Array.from({ length: 12 }, () => failureOf(site.get('bad')));
    for (let round = 0; round < 8; round += 1) expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    await Promise.all(bad);
    for (let round = 0; round < 8; round += 1) {
      await failureOf(site.get('bad'));
      expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    }
    expect(site.state()?.state).toBe('available');
    expect(site.upstream.isAvailable).toBe(true);
  });

  test('answers whose bodies do not come take a quarter of the connections', async () => {
    await using site = await start({}, { maxConnections: 8 });
    const stalled = site.registry.fault(/\/v2\/bad\//, { kind: 'stall', afterBytes: 1 });
    const bad = Array.from({ length: 12 }, () => site.get('bad'));
    await expect.poll(() => site.registry.requestsFor(/\/v2\/bad\//).length).toBe(2);
    for (let round = 0; round < 8; round += 1) expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    expect(site.registry.requestsFor(/\/v2\/bad\//)).toHaveLength(2);
    stalled.release();
    expect((await Promise.all(bad)).every(({ bytes }) => bytes.length > 0)).toBe(true);
  });

  test.each([
    ['say nothing', { kind: 'silence' }],
    ['begin and do not end', { kind: 'stall', afterBytes: 1 }],
  ] as const)('more repositories than there are connections, which %s, leave others theirs', async (_, fault) => {
    await using site = await start({}, { maxConnections: 2, timeouts: { headersMs: 600_000 } });
    site.registry.fault(/\/v2\/stuck/, fault);
    const leaving = new AbortController();
    const stuck = Array.from({ length: 5 }, (__, index) => {
      site.registry.addImage(`stuck${index}`, 'v1');
      return site.upstream.client.getManifest(`stuck${index}`, 'v1', { accept, signal: leaving.signal });
    });
    const ended = Promise.allSettled(stuck);
    await expect.poll(() => site.registry.requestsFor(/stuck/).length).toBe(2);
    for (let round = 0; round < 4; round += 1) expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    expect(site.state()?.state).toBe('available');
    leaving.abort(new Error('left'));
    await ended;
  });

  test('a limit on manifests leaves blobs alone, also those of the same repository', async () => {
    await using site = await start();
    const blob = site.registry.addBlob('layer');
    site.registry.fault(/manifests/, { kind: 'status', status: 429, headers: { 'Retry-After': '60' } });
    await failureOf(site.get('bad'));
    const answer = await site.upstream.client.endpoints[0]!.openBlob('bad', blob.digest, { signal });
    expect((await bytesOf(answer)).toString()).toBe('layer');
  });

  test('a pause for it that another replica was asked for leaves the others alone', async () => {
    await using site = await start();
    const { url = '' } = site.state() ?? {};
    const part = { requests: 'manifest', repository: 'bad' } as const;
    site.upstream.pause({ url, service: 'registry', forMs: 60_000, part });
    expect(await failureOf(site.get('bad'))).toMatchObject({ code: 'TOOMANYREQUESTS' });
    expect(site.registry.requests).toEqual([]);
    expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    site.upstream.pause({ url, service: 'registry', forMs: 60_000, part: undefined });
    expect(await failureOf(site.get('good'))).toMatchObject({ code: 'TOOMANYREQUESTS' });
  });

  test('lists never count against pulls, however many repositories fail', async () => {
    await using site = await start();
    site.registry.fault(/tags/, { kind: 'silence' });
    const lists = ['bad', 'worse', 'good'].map((name) =>
      failureOf(site.upstream.client.listTags(name, '', { signal })),
    );
    await Promise.all(lists);
    expect(site.registry.requestsFor('/v2/')).toEqual([]);
    expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    expect(site.state()?.state).toBe('available');
  });

  test('several that fail alike are looked into by a neutral request, and no more follows where that works', async () => {
    await using site = await start();
    site.registry.fault(/\/v2\/(?:bad|worse)\//, { kind: 'silence' });
    await Promise.all([failureOf(site.get('bad')), failureOf(site.get('worse'))]);
    await expect.poll(() => site.registry.requestsFor('/v2/').length).toBe(1);
    expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    expect(site.state()?.state).toBe('available');
  });

  test('several that fail alike close all of it where the neutral request fails too', async () => {
    await using site = await start();
    site.registry.fault(undefined, { kind: 'silence' });
    await Promise.all([failureOf(site.get('bad')), failureOf(site.get('worse'))]);
    await expect.poll(() => site.state()?.state).toBe('broken');
    const before = site.registry.requests.length;
    expect(await failureOf(site.get('good'))).toMatchObject({ reason: 'left-alone' });
    expect(site.registry.requests).toHaveLength(before);
  });

  test('many stalled requests of one repository leave connections for the others', async () => {
    await using site = await start({}, { maxConnections: 8, timeouts: { headersMs: 20_000 } });
    const pause = site.registry.fault(/\/v2\/bad\//, { kind: 'pause' });
    const stalled = Array.from({ length: 40 }, (_, index) =>
      site.upstream.client.getManifest('bad', `t${index}`, { accept, signal }).catch(() => undefined),
    );
    await pause.reached;
    expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
    pause.release();
    await Promise.all(stalled);
  });
});

describe('what one repository demands', () => {
  test.each([
    ['is dead', { kind: 'reset' }],
    ['is silent', { kind: 'silence' }],
    ['says no', { kind: 'status', status: 401 }],
    ['is limited', { kind: 'status', status: 429, headers: { 'Retry-After': '3600' } }],
    ['is none', { kind: 'html' }],
  ] as const)('with a token service that %s costs the public ones nothing', async (_, fault) => {
    await using site = await start();
    const headers = { 'WWW-Authenticate': `Bearer realm="${site.registry.origin}/token",service="x"` };
    site.registry.fault(/\/v2\/bad\//, { kind: 'status', status: 401, headers });
    site.registry.fault(/^\/token/, fault);
    for (let round = 0; round < 4; round += 1) {
      await failureOf(site.get('bad'));
      for (const repository of ['good', 'worse']) {
        expect((await site.get(repository)).bytes.length).toBeGreaterThan(0);
      }
    }
    // None of them was asked with a token, or twice.
    expect(site.registry.requestsFor(/\/v2\/(?:good|worse)\//).map(({ status }) => status)).toEqual(Array(8).fill(200));
  });

  test('what it demanded is forgotten when no token is to be had: it is asked without one', async () => {
    await using site = await start({ token: { expiresInSeconds: 60 } });
    await site.get('good');
    site.registry.tokens.revokeAll();
    site.registry.tokenServer.place(undefined, { kind: 'status', status: 500 });
    expect((await failureOf(site.get('good'))).message).toContain('token service that answered 500');
  });

  test('Basic is used beside a Bearer realm that may not be asked', async () => {
    await using site = await start({ basic: credentials }, { credentials: { kind: 'inline', ...credentials } });
    const headers = { 'WWW-Authenticate': 'Bearer realm="https://evil.example/token", Basic realm="x"' };
    site.registry.fault(undefined, { kind: 'headers', headers });
    expect((await site.get('good')).bytes.length).toBeGreaterThan(0);
  });

  test('a scope below a path is that of the path, and the challenge’s is tried once after it', async () => {
    for (const [challengeScope, asked] of [
      ['repository:hub/good:pull', ['repository:hub/good:pull']],
      ['repository:other/good:pull,push', ['repository:hub/good:pull', 'repository:other/good:pull']],
      ['registry:catalog:*', ['repository:hub/good:pull']],
    ] as const) {
      await using registry = await startRegistry({ token: { challengeScope } });
      registry.addImage('hub/good', 'v1');
      using upstream = upstreamAt(`${registry.origin}/v2/hub`);
      const pull = upstream.client.getManifest('good', 'v1', { accept, signal });
      // The registry itself takes tokens for its own name alone.
      registry.fault(({ headers }) => asked.length === 2 && headers.authorization !== undefined, {
        kind: 'status',
        status: 401,
        headers: { 'WWW-Authenticate': `Bearer realm="${registry.origin}/token",scope="${challengeScope}"` },
      });
      await pull.catch(() => undefined);
      expect(registry.tokenServer.requests.map(({ query }) => query.get('scope'))).toEqual(asked);
    }
  });
});
