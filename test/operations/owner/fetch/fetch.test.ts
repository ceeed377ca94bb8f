import { describe, expect, test } from 'vitest';
import { runOnControl } from '../../../../src/cli/control-client.ts';
import type { FetchEvent, FetchParameters } from '../../../../src/operations/protocol/fetch.ts';
import { filesIn, filesOf } from '../../../mirror/support.ts';
import { json } from '../../../support/client.ts';
import { fallbackTag } from '../../../support/contents.ts';
import { startRegistry } from '../../../support/registry.ts';
import { patient, startTestSite, type TestSite, temporaryFolder } from '../../../support/site.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64', variant: 'v8' };
const unknown = { os: 'unknown', architecture: 'unknown' };

async function fetchImages(
  site: TestSite,
  parameters: FetchParameters,
  { signal = new AbortController().signal, take }: { signal?: AbortSignal; take?: (event: FetchEvent) => void } = {},
): Promise<FetchEvent[]> {
  const events: FetchEvent[] = [];
  const input: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
  };
  for await (const event of runOnControl(site.cacheDir, 'fetch', parameters, { signal, input })) {
    events.push(event as FetchEvent);
    take?.(event as FetchEvent);
  }
  return events;
}

function endOf(events: readonly FetchEvent[]) {
  const last = events.at(-1);
  if (last?.kind !== 'end') throw new Error('the fetch has no end');
  return last;
}

const sizeOf = (blobs: readonly { readonly size: number }[]) => blobs.reduce((sum, { size }) => sum + size, 0);

const of = <Kind extends FetchEvent['kind']>(events: readonly FetchEvent[], kind: Kind) =>
  events.filter((event): event is Extract<FetchEvent, { kind: Kind }> => event.kind === kind);

describe('a fetch into a cache that is too small for it', () => {
  test('keeps whole images, as many as there is room for, and names the others', async () => {
    await using upstream = await startRegistry();
    const KB = 1000;
    const names = Array.from({ length: 12 }, (_, index) => `v${index}`);
    for (const name of names) {
      upstream.addImage('app', name, { layers: [0, 1].map((index) => ({ size: 200 * KB, seed: `${name} ${index}` })) });
    }
    upstream.addImage('large', '1', { layers: [{ size: 4000 * KB, seed: 'large' }] });
    const upstreams = { 'reg.example': { urls: [upstream.origin] } };
    await using site = await startTestSite({ upstreams, config: { cache: { maxSize: `${3000 * KB}B` } } });
    const images = names.map((name) => ({ image: `reg.example/app:${name}` }));
    const events = await fetchImages(site, { images: [...images, { image: 'reg.example/large:1' }] });
    const { fetched, failed, failures } = endOf(events);
    expect({ fetched, failed }).toEqual({ fetched: 7, failed: 6 });
    expect(failures.map(({ error }) => error)).toEqual(
      failures.map(() => 'cache.maxSize has no room for it beside what is pinned and what else is being fetched'),
    );
    // What is reported to be here is here.
    upstream.forgetRequests();
    const here = of(events, 'fetched').map(({ image }) => ({ image }));
    expect(endOf(await fetchImages(site, { images: here }))).toMatchObject({ fetched: 7, failed: 0, fetchedBytes: 0 });
  });
});

describe('a fetch', () => {
  test('brings everything of an image here: index, platforms, blobs, signatures, referrers and theirs', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    const images = [
      { manifest: upstream.addImage('a/app', undefined, { layers: ['base', 'one'] }), platform: amd64 },
      { manifest: upstream.addImage('a/app', undefined, { layers: ['base', 'two'] }), platform: arm64 },
    ];
    const index = upstream.addIndex('a/app', '1.0', images);
    const list = upstream.addReferrer('a/app', index, { artifactType: 'application/spdx+json', layers: ['contents'] });
    const signature = upstream.addReferrer('a/app', list, {
      artifactType: 'application/x-signature',
      layers: ['signed'],
    });
    const cosign = upstream.addImage('a/app', `${fallbackTag(index.digest)}.sig`, { layers: ['cosign'] });
    const attested = upstream.addImage('a/app', `${fallbackTag(images[1]!.manifest.digest)}.att`, { layers: ['att'] });
    const upstreams = { 'reg.example': { urls: [upstream.origin] } };
    const manifests = [index, list, signature, cosign, attested, ...images.map(({ manifest }) => manifest)];
    {
      await using site = await startTestSite({ upstreams, cacheDir: folder.path });
      const events = await fetchImages(site, { images: [{ image: 'reg.example/a/app:1.0' }] });
      expect(of(events, 'resolved')).toMatchObject([
        { image: 'reg.example/a/app:1.0', digest: index.digest, manifests: 7, referrers: 4 },
      ]);
      expect(of(events, 'fetched')).toHaveLength(1);
      expect(endOf(events)).toMatchObject({ images: 1, fetched: 1, failed: 0, failures: [] });
      upstream.forgetRequests();
      const again = await fetchImages(site, { images: [{ image: 'reg.example/a/app:1.0' }] });
      expect(endOf(again)).toMatchObject({ fetched: 1, fetchedBytes: 0 });
      expect(
        upstream.requests.filter(({ method }) => method === 'GET').every(({ path }) => path.includes('/referrers/')),
      ).toBe(true);
    }
    await upstream.close();
    await using site = await startTestSite({ upstreams, cacheDir: folder.path, config: { offline: true } });
    const get = async (path: string) => await site.get(`/v2/a/app/${path}?ns=reg.example`);
    for (const reference of ['1.0', `${fallbackTag(index.digest)}.sig`, ...manifests.map(({ digest }) => digest)]) {
      expect((await get(`manifests/${reference}`)).status, reference).toBe(200);
    }
    const blobs = [...images.map(({ manifest }) => manifest), list, signature, cosign, attested].flatMap((image) => [
      image.config,
      ...image.layers,
    ]);
    for (const { digest } of blobs) expect((await get(`blobs/${digest}`)).status).toBe(200);
    for (const [subject, referrer] of [
      [index, list],
      [list, signature],
    ] as const) {
      expect(json(await get(`referrers/${subject.digest}`))).toMatchObject({
        manifests: [{ digest: referrer.digest }],
      });
    }
    expect(json(await get('tags/list'))).toMatchObject({ tags: expect.arrayContaining(['1.0']) as unknown });
    const refused = await fetchImages(site, { images: [{ image: 'reg.example/a/app:1.0' }] }).catch(String);
    expect(refused).toContain('this mirror is offline: nothing can be fetched');
  });

  test('of some platforms leaves the others, but not what belongs to these', async () => {
    await using upstream = await startRegistry();
    const [one, two, attestation, other] = ['one', 'two', 'attestation', 'other'].map((layer) =>
      upstream.addImage('app', undefined, { layers: [layer] }),
    );
    const attests = (digest: string) => ({
      'vnd.docker.reference.type': 'attestation-manifest',
      'vnd.docker.reference.digest': digest,
    });
    const entry = ({ digest, size, mediaType }: typeof one & {}, platform: object, annotations?: object) => ({
      digest,
      size,
      mediaType,
      platform,
      annotations,
    });
    const manifests = [
      entry(one!, amd64),
      entry(two!, arm64),
      entry(attestation!, unknown, attests(two!.digest)),
      entry(other!, unknown, attests(one!.digest)),
    ];
    upstream.addManifest(
      'app',
      'latest',
      { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests },
      'application/vnd.oci.image.index.v1+json',
    );
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const parameters = { images: [{ image: 'reg.example/app' }], platforms: ['linux/arm64'] };
    expect(endOf(await fetchImages(site, parameters))).toMatchObject({ fetched: 1, failed: 0 });
    const asked = (digest: string) => upstream.requestsFor(digest).length;
    for (const manifest of [two!, attestation!]) expect(asked(manifest.layers[0]!.digest)).toBe(1);
    for (const manifest of [one!, other!]) expect(asked(manifest.layers[0]!.digest)).toBe(0);
    const none = await fetchImages(site, { images: [{ image: 'reg.example/app', platforms: ['linux/s390x'] }] });
    expect(endOf(none).failures).toEqual([
      {
        image: 'reg.example/app:latest',
        error: 'there is no image for linux/s390x; there are linux/amd64, linux/arm64/v8',
      },
    ]);
  });

  test('finds the referrers of a registry that keeps them under the fallback tag, and none where none are wanted', async () => {
    await using upstream = await startRegistry({ referrers: false });
    const image = upstream.addImage('app', 'v1');
    const signature = upstream.addReferrer('app', image, {
      artifactType: 'application/x-signature',
      layers: ['signed'],
    });
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const without = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }], referrers: false });
    expect(of(without, 'resolved')).toMatchObject([{ manifests: 1, referrers: 0 }]);
    const events = await fetchImages(site, {
      images: [{ image: 'reg.example/app:v1', referrers: true }],
      referrers: false,
    });
    expect(of(events, 'resolved')).toMatchObject([{ manifests: 2, referrers: 1 }]);
    expect(upstream.requestsFor(signature.layers[0]!.digest)).toHaveLength(1);
  });

  test('of an image that has only some of the wanted platforms takes these, and names the others', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', undefined);
    upstream.addIndex('app', 'v1', [{ manifest: image, platform: amd64 }]);
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const platforms = ['linux/amd64', 'linux/arm64'];
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }], platforms });
    expect(of(events, 'resolved')).toMatchObject([{ manifests: 2, lacks: ['linux/arm64'] }]);
    expect(of(events, 'fetched')).toMatchObject([{ lacks: ['linux/arm64'] }]);
    expect(endOf(events)).toMatchObject({ fetched: 1, failed: 0 });
  });

  test.each([400, 403, 406, 501])('takes a %i in place of the referrers API for none', async (status) => {
    await using upstream = await startRegistry({ referrers: false });
    const image = upstream.addImage('app', 'v1');
    upstream.addReferrer('app', image, { artifactType: 'application/x-signature', layers: ['signed'] });
    upstream.fault(/\/referrers\//, { kind: 'status', status });
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }] });
    expect(of(events, 'resolved')).toMatchObject([{ manifests: 2, referrers: 1 }]);
    expect(of(events, 'waiting')).toEqual([]);
    expect(endOf(events)).toMatchObject({ fetched: 1, failed: 0 });
  });

  test('takes a signature that is refused for none, as long as its image is not refused too', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1');
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const images = [{ image: `reg.example/app@${image.digest}` }];
    upstream.fault(/manifests\/sha256-/, { kind: 'status', status: 403 });
    expect(endOf(await fetchImages(site, { images }))).toMatchObject({ fetched: 1, failed: 0 });
    upstream.fault(/manifests\/sha256:/, { kind: 'status', status: 403 });
    const refused = endOf(await fetchImages(site, { images }));
    expect(refused).toMatchObject({ fetched: 0, failed: 1 });
    expect(refused.failures[0]?.error).toContain('does not give app to anonymous clients');
  });

  test('leaves out what is listed as a referrer and has been deleted, and says so', async () => {
    await using upstream = await startRegistry({ referrers: false });
    const image = upstream.addImage('app', 'v1');
    const deleted = upstream.addReferrer('app', image, { artifactType: 'application/x-old', layers: ['old'] });
    const kept = upstream.addReferrer('app', image, { artifactType: 'application/x-signature', layers: ['signed'] });
    upstream.removeManifest('app', deleted.digest);
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }] });
    expect(of(events, 'left-out')).toEqual([
      {
        kind: 'left-out',
        image: 'reg.example/app:v1',
        name: `reg.example/app@${deleted.digest}`,
        reason: 'upstream reg.example has no such manifest in app',
      },
    ]);
    expect(endOf(events)).toMatchObject({ fetched: 1, failed: 0 });
    expect(upstream.requestsFor(kept.layers[0]!.digest)).toHaveLength(1);
  });

  test('leaves out a signature of which a blob has been deleted, but no image', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1', { layers: ['layer'] });
    const layers = ['gone', image.layers[0]!];
    const signature = upstream.addReferrer('app', image, { artifactType: 'application/x-signature', layers });
    upstream.removeBlob(signature.layers[0]!.digest);
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const images = [{ image: 'reg.example/app:v1' }];
    const events = await fetchImages(site, { images });
    expect(of(events, 'left-out')).toMatchObject([
      { name: `reg.example/app@${signature.digest}`, reason: 'upstream reg.example has no such blob in app' },
    ]);
    expect(endOf(events)).toMatchObject({ fetched: 1, failed: 0 });
    // What the image itself needs is needed, whatever else names it.
    const broken = upstream.addImage('app', 'v2', { layers: ['needed'] });
    upstream.addReferrer('app', broken, { artifactType: 'application/x-signature', layers: [broken.layers[0]!] });
    upstream.removeBlob(broken.layers[0]!.digest);
    expect(endOf(await fetchImages(site, { images: [{ image: 'reg.example/app:v2' }] }))).toMatchObject({ failed: 1 });
  });

  test('of an image that is here through another repository ends with all of it here, and fetches no blob again', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    const one = upstream.addImage('dev/app', '1', { layers: ['base', 'one'] });
    const two = upstream.addImage('prod/app', undefined, { layers: ['base', 'two'] });
    const images = [
      { manifest: upstream.addImage('prod/app', 'plain', one), platform: amd64 },
      { manifest: two, platform: arm64 },
    ];
    const index = upstream.addIndex('prod/app', '1', images);
    const upstreams = { 'reg.example': { urls: [upstream.origin] } };
    {
      await using site = await startTestSite({ upstreams, cacheDir: folder.path });
      await fetchImages(site, { images: [{ image: 'reg.example/dev/app:1' }] });
      upstream.forgetRequests();
      const events = await fetchImages(site, { images: [{ image: 'reg.example/prod/app:1' }] });
      expect(endOf(events)).toMatchObject({
        fetched: 1,
        failed: 0,
        fetchedBytes: sizeOf([two.config, two.layers[1]!]),
      });
      const blobs = upstream.requests.filter(({ path }) => path.includes('/blobs/')).map(({ path }) => path);
      expect(blobs.toSorted()).toEqual(
        [two.config, two.layers[1]!].map(({ digest }) => `/v2/prod/app/blobs/${digest}`).toSorted(),
      );
      const plain = await fetchImages(site, { images: [{ image: 'reg.example/prod/app:plain' }] });
      expect(endOf(plain)).toMatchObject({ fetched: 1, fetchedBytes: 0 });
    }
    await upstream.close();
    await using site = await startTestSite({ upstreams, cacheDir: folder.path, config: { offline: true } });
    for (const path of ['1', 'plain', index.digest, one.digest, two.digest].map((name) => `manifests/${name}`)) {
      expect((await site.get(`/v2/prod/app/${path}?ns=reg.example`)).status, path).toBe(200);
    }
    for (const { digest } of [...one.layers, one.config, ...two.layers, two.config]) {
      expect((await site.get(`/v2/prod/app/blobs/${digest}?ns=reg.example`)).status).toBe(200);
    }
  });

  test('counts what several images share once, for the image that it was fetched for', async () => {
    await using upstream = await startRegistry();
    const shared = { size: 50_000 };
    for (const tag of ['1', '2']) upstream.addImage('a/app', tag, { layers: [shared, `own ${tag}`] });
    upstream.addImage('b/app', '3', { layers: [shared] });
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const images = ['a/app:1', 'a/app:2', 'b/app:3'].map((name) => ({ image: `reg.example/${name}` }));
    const events = await fetchImages(site, { images });
    const rows = of(events, 'fetched').map(({ fetchedBytes }) => fetchedBytes);
    expect(rows).toHaveLength(3);
    expect(rows.reduce((sum, bytes) => sum + bytes, 0)).toBe(endOf(events).fetchedBytes);
  });

  test('ends where things refer to each other', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1');
    upstream.tag('app', `${fallbackTag(image.digest)}.sig`, image.digest);
    let last = image;
    for (let depth = 0; depth < 8; depth += 1) {
      last = upstream.addReferrer('app', last, { artifactType: 'application/x-deep', layers: [`deep ${depth}`] });
    }
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }] });
    expect(of(events, 'resolved')).toMatchObject([{ manifests: 5, referrers: 4 }]);
  });

  test('takes the tags that patterns and ranges mean, from a list of many pages', async () => {
    await using upstream = await startRegistry({ tagPageSize: 2 });
    for (const tag of ['1.2.0', '1.2.1', '1.10.0', '2.0.0', 'latest', 'nightly']) upstream.addImage('app', tag);
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const names = async (tags: string[], limit?: number) => {
      const events = await fetchImages(site, { images: [{ image: 'reg.example/app', tags, limit }], referrers: false });
      return [...of(events, 'fetched'), ...of(events, 'failed')]
        .map(({ image }) => image.split(':')[1] ?? '')
        .toSorted();
    };
    expect(await names(['^1.2'], 2)).toEqual(['1.10.0', '1.2.1']);
    expect(await names(['n*', 'latest'])).toEqual(['latest', 'nightly']);
    upstream.forgetRequests();
    expect(await names(['1.2.0'])).toEqual(['1.2.0']);
    expect(upstream.requests.some(({ path }) => path.includes('/tags/'))).toBe(false);
    const none = await fetchImages(site, { images: [{ image: 'reg.example/app', tags: ['3.*'] }] });
    expect(endOf(none).failures).toEqual([
      { image: 'reg.example/app', error: 'none of the 6 tags of reg.example/app is 3.*' },
    ]);
  });

  test('takes no signature for an image of its own where patterns choose among the tags', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'latest');
    for (const suffix of ['', '.sig', '.att', '.sbom']) {
      upstream.addImage('app', `${fallbackTag(image.digest)}${suffix}`, { layers: [`attached ${suffix}`] });
    }
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app', tags: ['*'], limit: 1 }] });
    expect(of(events, 'fetched').map((event) => event.image)).toEqual(['reg.example/app:latest']);
    const signed = { image: 'reg.example/app', tags: ['sha256-*'] };
    expect(endOf(await fetchImages(site, { images: [signed] }))).toMatchObject({ images: 1, failed: 1 });
  });

  test('tells of each image that fails and why, and fetches the others', async () => {
    await using upstream = await startRegistry();
    const broken = upstream.addImage('broken', 'v1', { layers: ['not there'] });
    upstream.removeBlob(broken.layers[0]!.digest);
    upstream.addImage('whole', 'v1');
    await using site = await startTestSite({
      upstreams: { 'reg.example': { urls: [upstream.origin], repositories: { deny: ['secret/**'] } } },
    });
    const images = ['broken:v1', 'whole:v1', 'whole:v1', 'none:v1', 'secret/x'].map((name) => ({
      image: `reg.example/${name}`,
    }));
    const end = endOf(await fetchImages(site, { images: [...images, { image: 'other.example/x' }] }));
    expect(end).toMatchObject({ images: 5, fetched: 1, failed: 4 });
    expect(Object.fromEntries(end.failures.map(({ image, error }) => [image, error]))).toEqual({
      'reg.example/broken:v1': 'upstream reg.example has no such blob in broken',
      'reg.example/none:v1': 'upstream reg.example has no such manifest in none',
      'reg.example/secret/x': 'upstreams.reg.example.repositories does not allow secret/x',
      'other.example/x': expect.stringContaining('is not a configured upstream'),
    });
  });

  test('waits where an upstream asks for it, and goes on where a connection was cut', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1', { layers: [{ size: 3_000_000, seed: 1 }] });
    // Longer than what is waited out for any request.
    const limit = { kind: 'status', status: 429, headers: { 'retry-after': '3' } } as const;
    upstream.fault('/v2/app/manifests/v1', limit, { times: 1 });
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const cut = upstream.fault(image.layers[0]!.digest, { kind: 'cut', afterBytes: 1_000_000 }, { times: 1 });
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }] });
    expect(of(events, 'waiting')[0]).toMatchObject({
      seconds: 3,
      reason: expect.stringContaining('limits our requests'),
    });
    expect(endOf(events)).toMatchObject({ fetched: 1, failed: 0 });
    expect(cut.met).toBe(1);
    // What had come before the cut was not asked for again.
    expect(upstream.bytesSent(image.layers[0]!.digest)).toBeLessThan(3_500_000);
  });

  test('takes what a tag is now, not what it may still be served as', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('app', 'v1', { layers: ['old'] });
    let time = Date.now();
    await using site = await startTestSite({
      upstreams: { 'reg.example': { urls: [upstream.origin], tagTtl: '1m', staleWhileRevalidate: '1d' } },
      now: () => time,
    });
    const images = [{ image: 'reg.example/app:v1' }];
    expect(endOf(await fetchImages(site, { images }))).toMatchObject({ fetched: 1 });
    const next = upstream.addImage('app', 'v1', { layers: ['new'] });
    time += 3_600_000;
    const events = await fetchImages(site, { images });
    expect(of(events, 'fetched')).toMatchObject([{ digest: next.digest, fetchedBlobs: 1 }]);
  });

  test('does not wait longer than its limit, and says what it would have waited for', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('app', 'v1');
    upstream.fault(undefined, { kind: 'status', status: 429, headers: { 'retry-after': '3600' } });
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }], longestPauseMs: 60_000 });
    expect(of(events, 'waiting')).toEqual([]);
    expect(endOf(events).failures).toEqual([
      { image: 'reg.example/app:v1', error: expect.stringContaining('limits our requests') },
    ]);
  });

  test('counts as fetched what it has fetched itself, not what a client has brought meanwhile', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1', { layers: ['first', 'second'] });
    const [first, second] = image.layers;
    const pause = upstream.fault(first!.digest, { kind: 'pause' }, { times: 1 });
    await using site = await startTestSite({ upstreams: { 'reg.example': upstream }, config: patient });
    const fetching = fetchImages(site, { images: [{ image: 'reg.example/app:v1' }], concurrency: 1 });
    await pause.reached;
    expect((await site.get(`/v2/reg.example/app/blobs/${second!.digest}`)).status).toBe(200);
    await expect
      .poll(async () => (await site.get('/metrics')).body.toString(), { interval: 5 })
      .toMatch(/^millpond_fills_running 1$/m);
    pause.release();
    const events = await fetching;
    const fetchedBytes = image.config.size + first!.size;
    expect(of(events, 'fetched')).toMatchObject([{ fetchedBlobs: 2, fetchedBytes }]);
    expect(endOf(events)).toMatchObject({ fetched: 1, fetchedBytes });
  });

  test('ends when its caller leaves, and the next one continues what is half here', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1', { layers: [{ size: 3_000_000, seed: 2 }] });
    const digest = image.layers[0]!.digest;
    const stall = upstream.fault(digest, { kind: 'stall', afterBytes: 2_000_000 }, { times: 1 });
    await using site = await startTestSite({ upstreams: { 'reg.example': { urls: [upstream.origin] } } });
    const stop = new AbortController();
    const fetching = fetchImages(site, { images: [{ image: 'reg.example/app:v1' }] }, { signal: stop.signal });
    await stall.reached;
    expect(
      (await filesIn(site.cacheDir)).some((file) => file.endsWith(digest.slice(7)) && file.startsWith('blobs/')),
    ).toBe(false);
    stop.abort(new Error('interrupted'));
    await expect(fetching).rejects.toThrow('interrupted');
    stall.release();
    const events = await fetchImages(site, { images: [{ image: 'reg.example/app:v1' }] });
    expect(endOf(events)).toMatchObject({ fetched: 1, failed: 0 });
    expect((await filesOf(site)).filter((file) => file.startsWith('ingest/'))).toEqual([]);
    expect(upstream.bytesSent(digest)).toBeLessThan(3_500_000);
  });
});
