import { describe, expect, test } from 'vitest';
import type { Reply } from '../support/client.ts';
import type { AddedImage } from '../support/contents.ts';
import { type Behaviour, behaviours, startHostileRegistry } from '../support/hostile.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

function addImages(upstream: ScriptedRegistry): AddedImage[] {
  return [1, 2, 3].map((number) =>
    upstream.addImage('library/app', `v${number}`, {
      config: { size: 3 * KiB, seed: `config ${number}` },
      layers: [
        { size: 200 * KiB, seed: `layer ${number}` },
        { size: MiB, seed: 'base' },
      ],
    }),
  );
}

/** Pulls an image as a client does. */
async function pull(site: TestSite, ns: string, image: AddedImage, tag: string): Promise<Reply[]> {
  const get = (path: string) => site.get(`/v2/library/app/${path}?ns=${ns}`);
  const manifests = [await get(`manifests/${tag}`), await get(`manifests/${image.digest}`)];
  const blobs = await Promise.all([image.config, ...image.layers].map(({ digest }) => get(`blobs/${digest}`)));
  return [...manifests, ...blobs];
}

function digestsOf(image: AddedImage): string[] {
  return [image.digest, image.digest, image.config.digest, ...image.layers.map(({ digest }) => digest)];
}

describe('an upstream beside one that gives', () => {
  test.each(Object.entries(behaviours))('%s (%s) has all its pulls right, of the same blobs too', async (name) => {
    await using healthy = await startRegistry();
    const images = addImages(healthy);
    await using hostile = await startHostileRegistry(healthy, name as Behaviour);
    const upstreams = { 'hostile.example': hostile, 'healthy.example': healthy };
    await using site = await startTestSite({ upstreams, config: { timeouts: { drain: '50ms' } } });
    // The bad ones come first, and stay.
    const bad = new AbortController();
    const badPaths = [
      'tags/list',
      ...images.flatMap((image, index) => [
        `manifests/v${index + 1}`,
        `referrers/${image.digest}`,
        ...[image.config, ...image.layers].map(({ digest }) => `blobs/${digest}`),
      ]),
    ];
    const answered = badPaths.map((path) =>
      site.get(`/v2/library/app/${path}?ns=hostile.example`, { signal: bad.signal }).catch(() => undefined),
    );
    await hostile.reached;
    for (const [index, image] of images.entries()) {
      const replies = await pull(site, 'healthy.example', image, `v${index + 1}`);
      expect(replies.map(({ status, sha256 }) => `${status} ${sha256}`)).toEqual(
        digestsOf(image).map((digest) => `200 ${digest}`),
      );
    }
    bad.abort();
    // Nor has the bad one wrong bytes for its own clients.
    for (const [index, reply] of (await Promise.all(answered)).entries()) {
      const [, digest] = /blobs\/(.+)$/.exec(badPaths[index]!) ?? [];
      if (digest !== undefined && reply?.status === 200 && reply.complete) expect(reply.sha256).toBe(digest);
    }
  });
});

describe('ninety downloads that drip', () => {
  test('of three upstreams hold no place that a fourth one needs', async () => {
    await using healthy = await startRegistry();
    const drips = Array.from({ length: 90 }, (_, index) => healthy.addBlob({ size: 100 * KiB, seed: `drip ${index}` }));
    const wanted = Array.from({ length: 20 }, (_, index) => healthy.addBlob({ size: MiB, seed: `good ${index}` }));
    await using one = await startHostileRegistry(healthy, 'drip');
    await using two = await startHostileRegistry(healthy, 'drip');
    await using three = await startHostileRegistry(healthy, 'drip');
    const names = ['one.example', 'two.example', 'three.example'];
    await using site = await startTestSite({
      upstreams: { [names[0]!]: one, [names[1]!]: two, [names[2]!]: three, 'healthy.example': healthy },
      config: { timeouts: { drain: '50ms' } },
    });
    const bad = new AbortController();
    for (const [index, { digest }] of drips.entries()) {
      const path = `/v2/library/app/blobs/${digest}?ns=${names[index % 3]}`;
      site.get(path, { signal: bad.signal }).catch(() => undefined);
    }
    await expect.poll(() => one.asked + two.asked + three.asked).toBeGreaterThanOrEqual(48);
    const replies = await Promise.all(
      wanted.map(({ digest }) => site.get(`/v2/library/app/blobs/${digest}?ns=healthy.example`)),
    );
    expect(replies.map(({ status, sha256 }) => `${status} ${sha256}`)).toEqual(
      wanted.map(({ digest }) => `200 ${digest}`),
    );
    bad.abort();
  });

  test('of one upstream hold no place of its other blobs for long', async () => {
    await using healthy = await startRegistry();
    const blobs = ['one', 'two', 'three'].map((seed) => healthy.addBlob({ size: MiB, seed }));
    await using site = await startTestSite({
      upstreams: { 'docker.io': healthy },
      config: { cache: { maxFills: 2 }, timeouts: { drain: '50ms' } },
    });
    const bad = new AbortController();
    const stalls = blobs.slice(0, 2).map(({ digest }) => healthy.fault(digest, { kind: 'stall', afterBytes: 10 }));
    for (const { digest } of blobs.slice(0, 2)) {
      site.get(`/v2/library/app/blobs/${digest}`, { signal: bad.signal }).catch(() => undefined);
    }
    await Promise.all(stalls.map(({ reached }) => reached));
    const [, , wanted] = blobs;
    expect(await site.get(`/v2/library/app/blobs/${wanted!.digest}`)).toMatchObject({ sha256: wanted!.digest });
    bad.abort();
  });
});

describe('an upstream with two URLs', () => {
  test('is read from the second where the first gives hardly anything', async () => {
    await using healthy = await startRegistry();
    const blob = healthy.addBlob({ size: MiB, seed: 'two urls' });
    await using hostile = await startHostileRegistry(healthy, 'drip');
    const upstreams = { 'docker.io': { urls: [hostile.origin, healthy.origin] } };
    await using site = await startTestSite({ upstreams });
    expect(await site.get(`/v2/library/app/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    expect(hostile.asked).toBeGreaterThan(0);
  });

  test('has a blob from the second at once where the first fails at its opening', async () => {
    await using healthy = await startRegistry();
    const blob = healthy.addBlob({ size: MiB, seed: 'two urls' });
    await using hostile = await startHostileRegistry(healthy, 'failing');
    const upstreams = { 'docker.io': { urls: [hostile.origin, healthy.origin] } };
    await using site = await startTestSite({ upstreams });
    expect(await site.get(`/v2/library/app/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    expect(hostile.asked).toBe(1);
  });
});

describe('a blob whose opening fails once', () => {
  test.each([
    ['status 503', { kind: 'status', status: 503 }],
    ['status 500', { kind: 'status', status: 500 }],
    ['a reset', { kind: 'reset' }],
    ['429', { kind: 'status', status: 429 }],
    ['503 that asks for a second', { kind: 'status', status: 503, headers: { 'Retry-After': '1' } }],
    ['the length of another blob', { kind: 'content-length', difference: 5 }],
  ] as const)('by %s is asked for again within the time of its client', async (_, fault) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const { layers } = upstream.addImage('library/app', 'v1', { layers: [{ size: MiB, seed: 'second try' }] });
    const blob = layers[0]!;
    await site.get('/v2/library/app/manifests/v1');
    upstream.fault(blob.digest, fault, { times: 1 });
    expect(await site.get(`/v2/library/app/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    expect(upstream.requestsFor(blob.digest)).toHaveLength(2);
  });

  test('by 404, or by a limit for longer than a client waits, is not', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const status of [404, 429]) {
      const blob = upstream.addBlob({ size: MiB, seed: `no second try ${status}` });
      upstream.fault(blob.digest, { kind: 'status', status, headers: { 'Retry-After': '60' } });
      expect((await site.get(`/v2/library/app/blobs/${blob.digest}`)).status).toBe(status);
      expect(upstream.requestsFor(blob.digest)).toHaveLength(1);
    }
  });
});

test('a manifest that gives a blob another size than the source does not join those who believe the source', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1', { layers: [{ size: MiB, seed: 'sized' }] });
  const [layer] = image.layers;
  // Asked for without a manifest, and answered with a length that is a lie.
  const lie = upstream.fault(layer!.digest, { kind: 'content-length', difference: 5_000 }, { times: 1 });
  const stall = upstream.fault(layer!.digest, { kind: 'stall', afterBytes: 1_000 }, { times: 1 });
  const first = site.get(`/v2/library/app/blobs/${layer!.digest}`);
  await lie.reached;
  await stall.reached;
  await site.get('/v2/library/app/manifests/1');
  expect(await site.get(`/v2/library/app/blobs/${layer!.digest}`)).toMatchObject({
    status: 200,
    sha256: layer!.digest,
  });
  stall.release();
  await first;
});
