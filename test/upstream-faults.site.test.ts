import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { json } from './support/client.ts';
import { type RegistryOptions, type ScriptedRegistry, startRegistry } from './support/registry.ts';
import { startTestSite } from './support/site.ts';

const cache = { tagTtl: '0s', negativeTtl: '0s' };
/** For an upstream that says nothing, and only then: one that answers must not be too late for it on a busy machine. */
const impatient = { cache, timeouts: { headers: '4s', answer: '9s' } };

/** A mirror of one registry with one image stored, whose clock stands still until it is moved. */
async function startFaultSite(options: Omit<RegistryOptions, 'token'> & { readonly token?: true } = {}) {
  let nowMs = Date.now();
  const now = () => nowMs;
  await using owned = new AsyncDisposableStack();
  const upstream = owned.use(await startRegistry({ ...options, token: options.token && { now } }));
  const site = owned.use(
    await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], rateLimitFloor: 10 } },
      config: { cache },
      now,
    }),
  );
  const stored = upstream.addImage('library/app', 'stored');
  const absent = upstream.addImage('library/app', 'absent', { layers: ['not stored'] });
  for (const reference of ['stored', stored.digest]) await site.get(`/v2/library/app/manifests/${reference}`);
  for (const blob of [stored.config, ...stored.layers]) await site.get(`/v2/library/app/blobs/${blob.digest}`);
  const metrics = async () => (await site.get('/metrics')).body.toString();
  await expect.poll(metrics).toMatch(/^millpond_fills_running 0$/m);
  upstream.forgetRequests();
  const held = owned.move();
  return {
    upstream,
    site,
    metrics,
    pass: (ms: number) => {
      nowMs += ms;
    },
    pullStored: () => site.get('/v2/library/app/manifests/stored'),
    /** Everything a client could want that is not stored. */
    pullAbsent: () =>
      Promise.all(
        ['manifests/absent', `manifests/${absent.digest}`, `blobs/${absent.layers[0]?.digest}`].map((path) =>
          site.get(`/v2/library/app/${path}`),
        ),
      ),
    asked: () => upstream.requests.length + upstream.tokenServer.requests.length,
    logged: (phrase: string) => site.logLines.filter(({ msg }) => msg === phrase),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function limit(upstream: ScriptedRegistry, where: 'everything' | 'the token endpoint'): void {
  const fault = { kind: 'status', status: 429, headers: { 'Retry-After': '60' } } as const;
  upstream.tokenServer.place(undefined, fault);
  if (where === 'everything') upstream.fault(undefined, fault);
}

test.each(['everything', 'the token endpoint'] as const)(
  '429 with Retry-After on %s: what is stored is served stale, the rest refused, one request of each kind a minute goes out',
  async (where) => {
    await using scene = await startFaultSite({ token: true });
    const { upstream, pass } = scene;
    limit(upstream, where);
    // The token of before is over, so that a new one is needed.
    pass(60_000);
    expect((await scene.pullStored()).headers['cache-status']).toBe('millpond; hit; detail=stale');
    for (let minute = 0; minute < 3; minute += 1) {
      for (let tenSeconds = 0; tenSeconds < 6; tenSeconds += 1) {
        const reply = await scene.pullStored();
        expect(reply).toMatchObject({ status: 200, complete: true });
        expect(reply.headers).toMatchObject({
          'cache-status': 'millpond; hit; detail=stale',
          warning: expect.stringContaining('limits our requests') as string,
        });
        for (const refused of await scene.pullAbsent()) {
          expect(refused.status).toBe(429);
          expect(json(refused)).toMatchObject({
            errors: [{ code: 'TOOMANYREQUESTS', detail: { upstream: 'docker.io' } }],
          });
          expect(Number(refused.headers['retry-after'])).toBe(60 - tenSeconds * 10);
        }
        pass(10_000);
      }
      // HEAD and GET of a manifest, and a blob, after the token that was not given; or a token, and a manifest without it.
      expect(scene.asked()).toBe(where === 'everything' ? 3 * (minute + 1) + 1 : 2 * (minute + 1));
    }
    const parts = where === 'everything' ? 4 : 1;
    expect(scene.logged('upstream left alone')).toHaveLength(parts);
    upstream.clearFaults();
    expect((await scene.pullAbsent()).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await scene.pullStored()).headers['cache-status']).toBe('millpond; fwd=stale; detail=revalidated');
    expect(scene.logged('upstream asked again')).toHaveLength(parts);
  },
);

test('429 on everything stops the requests for other repositories once several have had it and /v2/ too', async () => {
  await using scene = await startFaultSite();
  limit(scene.upstream, 'everything');
  for (const repository of ['app', 'other']) {
    expect((await scene.site.get(`/v2/library/${repository}/manifests/new`)).status).toBe(429);
  }
  const ready = async () => json<{ reasons: string[] }>(await scene.site.get('/readyz')).reasons[0];
  await expect.poll(ready).toMatch(/^upstream docker.io limits our requests: what is stored is served/);
  expect(scene.upstream.requests.map(({ path }) => path)).toEqual([
    '/v2/library/app/manifests/new',
    '/v2/library/other/manifests/new',
    '/v2/',
  ]);
  expect((await scene.site.get('/v2/library/third/manifests/new')).status).toBe(429);
  expect(scene.asked()).toBe(3);
});

test('an upstream that accepts and never answers is waited for once, and found again by the next probe', async () => {
  await using scene = await startFaultSite();
  const { upstream, pass } = scene;
  await scene.site.reconfigure(impatient);
  const silence = upstream.fault(undefined, { kind: 'silence' });
  expect((await scene.pullStored()).headers['cache-status']).toBe('millpond; hit; detail=stale');
  // By HEAD, and by GET beside it.
  expect(scene.asked()).toBe(2);
  for (let round = 0; round < 3; round += 1) {
    const stale = await scene.pullStored();
    expect(stale).toMatchObject({ status: 200, complete: true });
    expect(stale.headers.warning).toContain('did not answer in time; it is not asked again before the next probe');
    for (const [index, refused] of (await scene.pullAbsent()).entries()) {
      // Blobs are another kind of request, and are waited for once too.
      const isFirstBlob = index === 2 && round === 0;
      expect(refused.status).toBe(isFirstBlob ? 504 : 502);
      const [error] = json<{ errors: { message: string }[] }>(refused).errors;
      if (!isFirstBlob) expect(error?.message).toContain('before the next probe');
    }
  }
  expect(scene.asked()).toBe(3);

  pass(5_000);
  await scene.pullStored();
  await scene.pullStored();
  expect(scene.asked()).toBe(4);

  silence.release();
  pass(5_000);
  expect((await scene.pullStored()).headers['cache-status']).toBe('millpond; fwd=stale; detail=revalidated');
  for (const reply of await scene.pullAbsent()) expect(reply.status).toBe(200);
});

test('nothing stored and an upstream that never answers: one error after the time-out, then at once', async () => {
  await using scene = await startFaultSite();
  await scene.site.reconfigure(impatient);
  scene.upstream.fault(undefined, { kind: 'silence' });
  const blob = scene.upstream.addBlob('never sent');
  const path = `/v2/library/app/blobs/${blob.digest}`;
  const together = await Promise.all([scene.site.get(path), scene.site.get(path), scene.site.get(path)]);
  for (const reply of together) expect([502, 504]).toContain(reply.status);
  expect((await scene.site.get(path)).status).toBe(502);
  expect(scene.asked()).toBe(1);
});

test('/readyz, the metrics and the log say which upstream is left alone, and that it is asked again', async () => {
  await using scene = await startFaultSite();
  const { site, upstream, metrics, pass } = scene;
  expect(json(await site.get('/readyz'))).toEqual({ status: 'ok', reasons: [] });
  expect(await metrics()).toContain('millpond_upstream_available{upstream="docker.io"} 1');
  expect(await metrics()).not.toContain('millpond_upstream_ratelimit_remaining{');

  const headers = { 'Retry-After': '60', 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '0;w=21600' };
  upstream.fault(undefined, { kind: 'status', status: 429, headers });
  await scene.pullStored();
  await scene.pullStored();
  const ready = await site.get('/readyz');
  expect(ready.status).toBe(200);
  expect(json(ready)).toEqual({
    status: 'degraded',
    reasons: ['upstream docker.io limits our requests for one repository: what is stored of it is served'],
  });
  const numbers = await metrics();
  expect(numbers).toContain('millpond_upstream_available{upstream="docker.io"} 1');
  expect(numbers).toContain('millpond_upstream_ratelimit_remaining{upstream="docker.io"} 0');
  expect(numbers).toContain('millpond_upstream_refusals_total{upstream="docker.io",reason="limited"} 1');
  expect(scene.logged('upstream left alone')).toEqual([
    expect.objectContaining({
      level: 40,
      upstream: 'docker.io',
      service: 'registry',
      url: `${upstream.origin}/`,
      requests: 'manifest-head',
      repository: 'library/app',
      state: 'limited',
      reason: 'limits our requests',
      seconds: 60,
    }),
  ]);

  upstream.clearFaults();
  pass(60_000);
  await scene.pullStored();
  expect(json(await site.get('/readyz'))).toEqual({ status: 'ok', reasons: [] });
  expect(await metrics()).toContain('millpond_upstream_available{upstream="docker.io"} 1');
  expect(scene.logged('upstream asked again')).toHaveLength(1);
});

test('a token service that is gone is reported as such', async () => {
  await using scene = await startFaultSite({ token: true });
  scene.pass(60_000);
  scene.upstream.tokenServer.place(undefined, { kind: 'silence' });
  await scene.pullStored();
  await scene.pullStored();
  expect(json(await scene.site.get('/readyz'))).toEqual({
    status: 'degraded',
    reasons: [
      'upstream docker.io has a token service that did not answer in time for one repository: what is stored of it is served',
    ],
  });
  expect(await scene.metrics()).toContain(
    'millpond_upstream_refusals_total{upstream="docker.io",reason="token_broken"} 2',
  );
  // The token, and the manifest without one.
  expect(scene.asked()).toBe(2);
});

test('a request with more than 32 KiB of headers is refused with 431, one with less is served', async () => {
  await using scene = await startFaultSite();
  const ask = async (bytes: number) => {
    const { hostname, port } = new URL(scene.site.origin);
    const socket = connect(Number(port), hostname);
    socket.write(`GET /v2/ HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\nX-Long: ${'x'.repeat(bytes)}\r\n\r\n`);
    return (await text(socket)).split('\r\n', 1)[0];
  };
  expect(await ask(30 * 1024)).toBe('HTTP/1.1 200 OK');
  expect(await ask(40 * 1024)).toMatch(/^HTTP\/1\.1 431 /);
});
