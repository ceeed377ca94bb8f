import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { settled } from './mirror/support.ts';
import { type Link, startLink } from './support/link.ts';
import { startRegistry } from './support/registry.ts';
import { startTestSite, type TestSite } from './support/site.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const second = 1000;
const MiB = 1024 * 1024;
const clients = 50;
const tag = '/v2/library/app/manifests/v1';
/** Of a hop: what asks, and what is asked. */
const hops = ['the registry and the first mirror', 'the first mirror and the second', 'the second and the third'];

/** A registry, and behind it one mirror after the other, the last of them twice; each asks over a link of its own. */
async function startChain(common: object = {}) {
  let nowMs = Date.now();
  await using owned = new AsyncDisposableStack();
  let stack: AsyncDisposableStack = owned;
  const origin = owned.use(await startRegistry());
  const folder = owned.use(await temporaryDirectory('chain'));
  const links: Link[] = [];
  const sites: TestSite[] = [];
  const start = async (hop: number, name: string, config: object = {}): Promise<TestSite> =>
    stack.use(
      await startTestSite({
        upstreams: { 'docker.io': { urls: [hop === 0 ? links[0]!.origin : `${links[hop]!.origin}/v2/docker.io`] } },
        config: {
          cache: { tagTtl: '60s', staleIfError: '1h' },
          ...common,
          ...config,
        },
        cacheDir: `${folder.path}/${name}`,
        now: () => nowMs,
      }),
    );
  for (let hop = 0; hop < 3; hop += 1) {
    links.push(owned.use(await startLink(hop === 0 ? origin.origin : sites[hop - 1]!.origin)));
    sites.push(await start(hop, `mirror ${hop}`));
  }
  const twin = await start(2, 'twin');
  const held = owned.move();
  stack = held;
  return {
    origin,
    links,
    sites,
    ends: [sites[2]!, twin],
    pass: (ms: number) => void (nowMs += ms),
    /** Stops the mirror of a hop, and starts it again with another configuration. */
    async restart(hop: number, config: object): Promise<TestSite> {
      await sites[hop]!.stop();
      const site = await start(hop, `mirror ${hop}`, config);
      if (hop < 2) links[hop + 1]!.target = site.origin;
      return site;
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** So many clients at each mirror pull an image. @returns the statuses and digests that differ from what is right */
async function herd(
  sites: readonly TestSite[],
  image: { digest: string; config: { digest: string }; layers: readonly { digest: string }[] },
): Promise<string[]> {
  const wrong: string[] = [];
  const pull = async (site: TestSite): Promise<void> => {
    const manifest = await site.get(tag);
    if (manifest.sha256 !== image.digest) wrong.push(`${manifest.status} ${manifest.sha256}`);
    for (const { digest } of [image.config, ...image.layers]) {
      const { status, sha256 } = await site.get(`/v2/library/app/blobs/${digest}`);
      if (sha256 !== digest) wrong.push(`${digest} ${status} ${sha256}`);
    }
  };
  await Promise.all(sites.flatMap((site) => Array.from({ length: clients }, () => pull(site))));
  return wrong;
}

describe('a chain of three mirrors with fifty clients at each end', () => {
  test('asks the registry once for each part of an image', async () => {
    await using chain = await startChain();
    const { origin, ends } = chain;
    const image = origin.addImage('library/app', 'v1', {
      layers: [
        { size: MiB, seed: 'a' },
        { size: MiB, seed: 'b' },
      ],
    });
    expect(await herd(ends, image)).toEqual([]);
    // A HEAD that takes too long is followed by a GET of the tag, which has the manifest too.
    const isManifest = (path: string): boolean => path.includes('/manifests/');
    const gets = origin.requests.filter(({ method }) => method === 'GET').map(({ path }) => path);
    expect(gets.filter(isManifest)).toHaveLength(1);
    const blobs = gets.filter((path) => !isManifest(path)).map((path) => path.split('/').at(-1));
    const parts = [image.config.digest, ...image.layers.map(({ digest }) => digest)];
    expect(blobs).toHaveLength(parts.length);
    expect(new Set(blobs)).toEqual(new Set(parts));
  });

  test.each(
    hops.flatMap((what, hop) => [
      { what, hop, how: 'cut' as const },
      { what, hop, how: 'silent' as const },
    ]),
  )('gets all of it where connections between $what are $how in the middle', async ({ hop, how }) => {
    // Only a silence is to last as long as that: a busy machine may be slow.
    await using chain = await startChain(how === 'silent' ? { timeouts: { idle: '3s' } } : {});
    const { origin, ends, links } = chain;
    const size = 2 * MiB;
    const image = origin.addImage('library/app', 'v1', { layers: [{ size, seed: `${how} ${hop}` }] });
    // The manifest and the config have passed: what is held is the layer.
    const hold = links[hop]!.holdAfter(MiB);
    const pulled = herd(ends, image);
    await hold.reached;
    if (how === 'cut') hold.cut();
    else hold.leave();
    expect(await pulled).toEqual([]);
    // What had passed the hop is not fetched again.
    expect(origin.bytesSent(image.layers[0]!.digest)).toBeLessThan(size + MiB);
    const gets = origin.requests.filter(({ method, digest }) => method === 'GET' && digest === image.layers[0]!.digest);
    expect(gets.length).toBe(hop === 0 ? 2 : 1);
  });

  test.each(hops.map((_, hop) => hop))(
    'serves below mirror %i what it holds, as old as it is, when all above is gone',
    async (hop) => {
      await using chain = await startChain();
      const { origin, sites, links, pass } = chain;
      const image = origin.addImage('library/app', 'v1', { layers: [{ size: 1000, seed: 'held' }] });
      const holder = sites[hop]!;
      await holder.get(tag);
      for (const { digest } of [image.config, ...image.layers]) await holder.get(`/v2/library/app/blobs/${digest}`);
      await settled(holder);
      if (hop === 0) await origin.suspend();
      else await sites[hop - 1]!.stop();
      links[hop]!.target = 'http://127.0.0.1:1';
      pass(30 * second);
      const below = hop === 2 ? [sites[2]!] : chain.ends;
      for (const site of below) expect((await site.get(tag)).headers['age']).toBe('30');
      pass(10 * 60 * second);
      expect(await herd(below, image)).toEqual([]);
      for (const site of below) {
        const { status, headers } = await site.get(tag);
        expect([status, headers['age'], headers['cache-status']]).toEqual([200, '630', 'millpond; hit; detail=stale']);
        expect(headers['warning']).toContain('could not confirm it');
      }
      // And no longer than it may be.
      pass(60 * 60 * second);
      for (const site of below) expect((await site.get(tag)).status).toBe(502);
    },
  );

  test.each(
    hops.flatMap((what, hop) => [
      { what, hop, how: 'says nothing' as const },
      { what, hop, how: 'answers 429' as const },
    ]),
  )('serves what is held below $what, as old as it is, while what is asked there $how', async ({ hop, how }) => {
    await using chain = await startChain();
    const { origin, sites, links, pass } = chain;
    const image = origin.addImage('library/app', 'v1', { layers: [{ size: 1000, seed: `${how} ${hop}` }] });
    const holder = sites[hop]!;
    await holder.get(tag);
    for (const { digest } of [image.config, ...image.layers]) await holder.get(`/v2/library/app/blobs/${digest}`);
    await settled(holder);
    let asked = 0;
    const other = createServer((_, response) => {
      asked += 1;
      if (how === 'answers 429') response.writeHead(429, { 'retry-after': '600' }).end();
    });
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    links[hop]!.target = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    // Connections that are kept lead to what was there before.
    links[hop]!.holdAfter(Number.POSITIVE_INFINITY).cut();
    pass(90 * second);
    const below = hop === 2 ? [sites[2]!] : chain.ends;
    for (const site of below) {
      const { status, headers } = await site.get(tag);
      expect([status, headers['age'], headers['cache-status']]).toEqual([200, '90', 'millpond; hit; detail=stale']);
    }
    expect(await herd(below, image)).toEqual([]);
    expect(asked).toBeGreaterThan(0);
    for (const site of below) {
      const { status, headers } = await site.get('/v2/library/other/manifests/v1');
      // Of a mirror in between, it is its 504 that comes first.
      expect(how === 'answers 429' ? [429] : [502, 504]).toContain(status);
      if (how === 'answers 429') expect(Number(headers['retry-after'])).toBeGreaterThan(500);
    }
    other.closeAllConnections();
    other.close();
  });

  test.each([0, 1, 2])('serves below mirror %i what it holds while it is offline', async (hop) => {
    await using chain = await startChain();
    const { origin, sites } = chain;
    const image = origin.addImage('library/app', 'v1', { layers: [{ size: 1000, seed: 'offline' }] });
    const holder = sites[hop]!;
    await holder.get(tag);
    for (const { digest } of [image.config, ...image.layers]) await holder.get(`/v2/library/app/blobs/${digest}`);
    await settled(holder);
    origin.forgetRequests();
    const restarted = await chain.restart(hop, { offline: true });
    const ends = hop === 2 ? [restarted] : chain.ends;
    expect(await herd(ends, image)).toEqual([]);
    // What it does not hold is not "not found" below it: the registry was not asked. It says so itself.
    const without = hop === 2 ? 404 : 502;
    for (const site of ends) expect((await site.get('/v2/library/app/manifests/v2')).status).toBe(without);
    expect(origin.requests).toEqual([]);
  });

  test('passes a limit of the registry on as one, to all that has to ask it, and serves what any mirror holds', async () => {
    await using chain = await startChain();
    const { origin, sites, ends, pass } = chain;
    const image = origin.addImage('library/app', 'v1', { layers: [{ size: 1000, seed: 'limit' }] });
    for (const path of [
      tag,
      ...[image.config, ...image.layers].map(({ digest }) => `/v2/library/app/blobs/${digest}`),
    ]) {
      await sites[1]!.get(path);
    }
    await settled(sites[1]!);
    pass(90 * second);
    origin.fault(undefined, { kind: 'status', status: 429, headers: { 'retry-after': '30' } });
    for (const site of ends) {
      const { status, headers } = await site.get('/v2/library/other/manifests/v1');
      expect([status, Number(headers['retry-after']) > 0]).toEqual([429, true]);
    }
    expect(await herd(ends, image)).toEqual([]);
    for (const site of ends) {
      const { status, headers } = await site.get(tag);
      expect([status, headers['age'], headers['cache-status']]).toEqual([200, '90', 'millpond; hit; detail=stale']);
    }
    origin.clearFaults();
    pass(31 * second);
    for (const site of ends) expect((await site.get(tag)).headers['warning']).toBeUndefined();
  });
});
