import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { settled } from './mirror/support.ts';
import { json } from './support/client.ts';
import { startRegistry } from './support/registry.ts';
import { startTestSite, type TestSite } from './support/site.ts';

const second = 1000;
const tag = '/v2/library/app/manifests/v1';

interface Failure {
  readonly errors: readonly { readonly code: string; readonly message: string }[];
}

/** A registry, a parent that asks it, and a child that asks the parent; one clock for both. */
async function startChain(config: { readonly parent?: object; readonly child?: object } = {}) {
  let nowMs = Date.now();
  const now = () => nowMs;
  await using owned = new AsyncDisposableStack();
  const origin = owned.use(await startRegistry());
  const cache = { tagTtl: '60s', staleIfError: '10m', negativeTtl: '10s' };
  const parent = owned.use(
    await startTestSite({ upstreams: { 'docker.io': origin }, config: { cache, ...config.parent }, now }),
  );
  const child = owned.use(
    await startTestSite({
      upstreams: { 'docker.io': { urls: [`${parent.origin}/v2/docker.io`] } },
      config: { cache, ...config.child },
      now,
    }),
  );
  const held = owned.move();
  return {
    origin,
    parent,
    child,
    pass: (ms: number) => {
      nowMs += ms;
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** Passes requests on to a mirror that may be another one each time, and whose address need not be known before. */
async function startFront() {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const front = {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    to: undefined as TestSite | undefined,
    /** What it answers by itself. */
    answer: (_url: string): { status: number; headers: Record<string, string> } | undefined => undefined,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  server.on('request', (request, response) => {
    const headers = { ...request.headers } as Record<string, string>;
    const method = request.method === 'HEAD' ? 'HEAD' : 'GET';
    const own = front.answer(request.url ?? '');
    if (own) {
      response.writeHead(own.status, own.headers).end();
      return;
    }
    void front.to?.get(request.url ?? '', { headers, method }).then((reply) => {
      response.writeHead(reply.status, reply.headers as Record<string, string>).end(reply.body);
    });
  });
  return front;
}

/** Brings an image whole into a mirror. */
async function pull(site: TestSite, image: { config: { digest: string }; layers: readonly { digest: string }[] }) {
  await site.get(tag);
  for (const { digest } of [image.config, ...image.layers]) await site.get(`/v2/library/app/blobs/${digest}`);
  await settled(site);
}

describe('a mirror behind a mirror', () => {
  test('gives ages that are those of the registry, and asks again when they are over', async () => {
    await using chain = await startChain();
    const { origin, child, pass } = chain;
    origin.addImage('library/app', 'v1');
    await chain.parent.get(tag);
    pass(50 * second);
    // The parent holds it for 50 s already: here it is fresh for 10 s more.
    expect((await child.get(tag)).headers['age']).toBe('50');
    pass(5 * second);
    expect((await child.get(tag)).headers).toMatchObject({ age: '55', 'cache-status': 'millpond; hit' });
    const moved = origin.addImage('library/app', 'v1', { layers: ['new'] });
    pass(6 * second);
    expect(await child.get(tag)).toMatchObject({ status: 200, sha256: moved.digest });
  });

  test('does not take the parent’s stale answer for a confirmation, and ends with staleIfError', async () => {
    await using chain = await startChain();
    const { origin, child, pass } = chain;
    const image = origin.addImage('library/app', 'v1');
    await pull(child, image);
    await origin.suspend();
    for (const minutes of [2, 4]) {
      pass(2 * 60 * second);
      for (const reply of [await child.get(tag), await child.head(tag)]) {
        expect(reply.status).toBe(200);
        expect(reply.headers).toMatchObject({
          age: String(minutes * 60),
          'cache-status': 'millpond; hit; detail=stale',
          warning: expect.stringMatching(/^299 - ".*could not confirm it/) as string,
        });
      }
    }
    pass(10 * 60 * second);
    expect((await child.get(tag)).status).toBe(502);
    await origin.resume();
    pass(10 * second);
    const back = await child.get(tag);
    expect(back.status).toBe(200);
    expect(back.headers['warning']).toBeUndefined();
  });

  test('does not remember again what the parent remembers of what is not there', async () => {
    await using chain = await startChain();
    const { origin, parent, child, pass } = chain;
    expect((await parent.get(tag)).status).toBe(404);
    pass(8 * second);
    expect((await child.get(tag)).status).toBe(404);
    origin.addImage('library/app', 'v1');
    pass(3 * second);
    expect((await child.get(tag)).status).toBe(200);
  });

  test.each([
    ['offline', 'destination_unavailable'],
    ['without the upstream in its table', 'destination_not_found'],
  ])('keeps what it holds while the parent is %s', async (what, error) => {
    let nowMs = Date.now();
    await using origin = await startRegistry();
    const image = origin.addImage('library/app', 'v1');
    await using right = await startTestSite({ upstreams: { 'docker.io': origin } });
    await using wrong = await startTestSite(
      what === 'offline'
        ? { upstreams: { 'docker.io': origin }, config: { offline: true } }
        : { upstreams: { 'quay.io': origin }, config: { defaultUpstream: null } },
    );
    await using front = await startFront();
    front.to = right;
    await using child = await startTestSite({
      upstreams: { 'docker.io': { urls: [`${front.origin}/v2/docker.io`] } },
      now: () => nowMs,
    });
    await pull(child, image);
    front.to = wrong;
    for (let round = 0; round < 2; round += 1) {
      nowMs += 61 * second;
      const reply = await child.get(tag);
      expect(reply).toMatchObject({ status: 200, sha256: image.digest });
      expect(reply.headers['warning']).toContain(`is a mirror that could not ask (${error})`);
    }
    // What it does not hold is not "not found": the registry was not asked.
    const missing = await child.get('/v2/library/app/manifests/v2');
    expect(missing.status).toBe(502);
    expect(json<Failure>(missing).errors[0]?.message).toContain(error);
  });

  test('passes on what is left of the upstream’s pulls', async () => {
    const headers = { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '7;w=21600' };
    await using origin = await startRegistry({ headers });
    origin.addImage('library/app', 'v1');
    await using parent = await startTestSite({ upstreams: { 'docker.io': origin } });
    await using child = await startTestSite({
      upstreams: { 'docker.io': { urls: [`${parent.origin}/v2/docker.io`] } },
    });
    const reply = await child.get(tag);
    expect(reply.headers).toMatchObject(headers);
    const metrics = (await child.get('/metrics')).body.toString();
    expect(metrics).toContain('millpond_upstream_ratelimit_remaining{upstream="docker.io"} 7');
  });

  test('says whose an error is', async () => {
    await using chain = await startChain();
    const { origin, parent } = chain;
    const statusOf = async (path = tag) => (await parent.get(path)).headers['proxy-status'];
    expect(await statusOf()).toBe('millpond; received-status=404');
    origin.fault(/limited/, { kind: 'status', status: 429 });
    expect(await statusOf('/v2/library/limited/manifests/v1')).toBe('millpond; received-status=429');
    origin.fault(/denied/, { kind: 'status', status: 403 });
    expect(await statusOf('/v2/library/denied/manifests/v1')).toBe('millpond; received-status=403');
    origin.fault(/failing/, { kind: 'status', status: 500 });
    expect(await statusOf('/v2/library/failing/manifests/v1')).toBe('millpond; error=destination_unavailable');
    expect(await statusOf('/v2/library/app/manifests/v1?ns=none.example')).toBe(
      'millpond; error=destination_not_found',
    );
    expect(await statusOf('/v2/library/APP/manifests/v1')).toBeUndefined();
  });

  test('has the parent’s own error before its own time is over, and asks other repositories on', async () => {
    const timeouts = { headers: '4s', answer: '8s' };
    await using chain = await startChain({ parent: { timeouts }, child: { timeouts } });
    const { origin, child } = chain;
    origin.addImage('library/app', 'v1');
    origin.fault(/silent/, { kind: 'silence' });
    const silent = await child.get('/v2/library/silent/manifests/v1');
    expect([502, 504]).toContain(silent.status);
    expect(json<Failure>(silent).errors[0]?.message).not.toContain('did not answer in time; it is not asked');
    expect((await child.get(tag)).status).toBe(200);
  });
});

describe('a parent without a place for one more blob', () => {
  test('holds up that blob and nothing else: its 503 is neither a limit of the registry nor a failure', async () => {
    await using chain = await startChain();
    const { origin, parent, child } = chain;
    const image = origin.addImage('library/app', 'v1', { layers: [{ size: 100_000, seed: 'quick' }] });
    const full = origin.addBlob({ size: 100_000, seed: 'full' });
    // What the parent answers where it has no place, in its own words.
    const said = { 'proxy-status': 'millpond; error=connection_limit_reached', 'retry-after': '60' };
    await using front = await startFront();
    front.to = parent;
    front.answer = (url) => (url.includes(full.digest) ? { status: 503, headers: said } : undefined);
    await using below = await startTestSite({
      upstreams: { 'docker.io': { urls: [`${front.origin}/v2/docker.io`] } },
    });
    const refused = await below.get(`/v2/library/app/blobs/${full.digest}`);
    expect([502, 503]).toContain(refused.status);
    await pull(below, image);
    for (const path of [tag, `/v2/library/app/blobs/${image.layers[0]!.digest}`, '/v2/library/app/tags/list']) {
      expect((await below.get(path)).status).toBe(200);
    }
    expect(below.logLines.filter(({ msg }) => msg === 'upstream limits us' || msg === 'upstream left alone')).toEqual(
      [],
    );
    front.answer = () => undefined;
    expect(await below.get(`/v2/library/app/blobs/${full.digest}`)).toMatchObject({ status: 200, sha256: full.digest });
    expect(child.logLines.filter(({ msg }) => msg === 'upstream left alone')).toEqual([]);
  });

  test('fetches two slow blobs at once for a client that waits, although it may fetch one', async () => {
    await using chain = await startChain({
      parent: { cache: { maxFills: 1 }, timeouts: { answer: '4s', headers: '3s' } },
    });
    const { origin, child } = chain;
    const image = origin.addImage('library/app', 'v1', { layers: [{ size: 100_000, seed: 'beside' }] });
    const slow = ['one', 'two'].map((seed) => origin.addBlob({ size: 300_000, seed }));
    const stalls = slow.map(({ digest }) => origin.fault(digest, { kind: 'stall', afterBytes: 100_000 }));
    const running = slow.map(({ digest }) => child.get(`/v2/library/app/blobs/${digest}`));
    await Promise.all(stalls.map(({ reached }) => reached));
    expect((await child.get(tag)).status).toBe(200);
    const [layer] = image.layers;
    expect(await child.get(`/v2/library/app/blobs/${layer!.digest}`)).toMatchObject({ status: 200 });
    for (const stall of stalls) stall.release();
    const replies = await Promise.all(running);
    expect(replies.map(({ sha256 }) => sha256)).toEqual(slow.map(({ digest }) => digest));
  });
});

describe('a loop', () => {
  test.each([1, 2])('over %i mirrors is said at once', async (count) => {
    await using front = await startFront();
    await using first = await startTestSite({
      upstreams: { 'docker.io': { urls: [`${front.origin}/v2/docker.io`] } },
    });
    await using other = await startTestSite({
      upstreams: { 'docker.io': { urls: [`${first.origin}/v2/docker.io`] } },
    });
    front.to = count === 1 ? first : other;
    const reply = await first.get(tag);
    expect(reply.status).toBe(502);
    expect(json<Failure>(reply).errors[0]?.message).toContain('is a mirror that could not ask');
    // Said, and not found out by a time-out.
    expect(first.logLines.filter(({ msg }) => msg === 'upstream left alone')).toEqual([]);
    await expect
      .poll(() => first.logLines.filter(({ status }) => status === 508).map(({ through }) => String(through)))
      .toContainEqual(expect.stringContaining('millpond-'));
  });
});
