import { describe, expect, test } from 'vitest';
import { ociIndex } from '../../src/oci/media-types.ts';
import { settled } from '../mirror/support.ts';
import { json, type Reply } from '../support/client.ts';
import { fallbackTag } from '../support/contents.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

interface Index {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly manifests: readonly { digest: string; artifactType?: string }[];
}

function expectIndex(reply: Reply, digests: readonly string[]): void {
  expect(reply).toMatchObject({ status: 200, complete: true });
  expect(reply.headers['content-type']).toBe(ociIndex);
  const index = json<Index>(reply);
  expect(index).toMatchObject({ schemaVersion: 2, mediaType: ociIndex });
  expect(index.manifests.map(({ digest }) => digest).toSorted((a, b) => a.localeCompare(b))).toEqual(
    digests.toSorted((a, b) => a.localeCompare(b)),
  );
}

const signatureType = 'application/vnd.example.signature';
const listType = 'application/vnd.example.sbom';

describe.each([
  { where: 'the referrers API', referrers: true },
  { where: 'the fallback tag', referrers: false },
])('referrers from $where', ({ referrers }) => {
  test.each(['sha256', 'sha512'] as const)(
    'of a %s subject are listed, filtered, and empty where there are none',
    async (algorithm) => {
      await using upstream = await startRegistry({ referrers });
      await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
      const image = upstream.addImage('library/app', '1', { algorithm });
      const signature = upstream.addReferrer('library/app', image, { artifactType: signatureType });
      const list = upstream.addReferrer('library/app', image, { artifactType: listType, layers: ['x'] });
      const path = `/v2/library/app/referrers/${image.digest}`;
      expectIndex(await site.get(path), [signature.digest, list.digest]);
      const filtered = await site.get(`${path}?artifactType=${encodeURIComponent(signatureType)}&ns=docker.io`);
      expectIndex(filtered, [signature.digest]);
      expect(filtered.headers['oci-filters-applied']).toBe('artifactType');
      expectIndex(await site.get(`${path}?artifactType=none`), []);
      expectIndex(await site.get(`/v2/library/app/referrers/sha256:${'0'.repeat(64)}`), []);
      expectIndex(await site.get(`/v2/library/unheard-of/referrers/${image.digest}`), []);
      expect((await site.head(path)).headers['content-type']).toBe(ociIndex);
      expect(upstream.requests.some((request) => request.query.has('ns'))).toBe(false);
    },
  );
});

test('referrers that are known here stand in for an upstream that cannot answer, an empty list does not', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1');
  const bare = upstream.addImage('library/app', '2', { layers: ['bare'] });
  const signature = upstream.addReferrer('library/app', image, { artifactType: signatureType });
  for (const { digest } of [image, bare, signature]) await site.get(`/v2/library/app/manifests/${digest}`);
  upstream.fault(undefined, { kind: 'status', status: 503 });
  const stale = await site.get(`/v2/library/app/referrers/${image.digest}`);
  expectIndex(stale, [signature.digest]);
  expect(stale.headers['cache-status']).toBe('millpond; hit; detail=stale');
  expect((await site.get(`/v2/library/app/referrers/${bare.digest}`)).status).toBe(502);
});

test('a page of HTML in place of the referrers API is no list: the fallback tag is read', async () => {
  await using upstream = await startRegistry({ referrers: false });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1');
  const signature = upstream.addReferrer('library/app', image, { artifactType: signatureType });
  upstream.fault(/\/referrers\//, { kind: 'html' });
  expectIndex(await site.get(`/v2/library/app/referrers/${image.digest}`), [signature.digest]);
});

test.each([400, 401, 403, 406, 501])('a %i in place of the referrers API: the fallback tag is read', async (status) => {
  await using upstream = await startRegistry({ referrers: false });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1');
  const bare = upstream.addImage('library/app', '2', { layers: ['bare'] });
  const signature = upstream.addReferrer('library/app', image, { artifactType: signatureType });
  upstream.fault(/\/referrers\//, { kind: 'status', status });
  expectIndex(await site.get(`/v2/library/app/referrers/${image.digest}`), [signature.digest]);
  expectIndex(await site.get(`/v2/library/app/referrers/${bare.digest}`), []);
  upstream.fault(/manifests\/sha256-/, { kind: 'status', status: 403 });
  expectIndex(await site.get(`/v2/library/app/referrers/${bare.digest}`), []);
});

test('an empty list of the referrers API does not hide what is under the fallback tag', async () => {
  await using upstream = await startRegistry({ referrers: false });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1');
  const bare = upstream.addImage('library/app', '2', { layers: ['bare'] });
  const signature = upstream.addReferrer('library/app', image, { artifactType: signatureType });
  const body = JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests: [] });
  upstream.fault(/\/referrers\//, { kind: 'status', status: 200, headers: { 'content-type': ociIndex }, body });
  const path = `/v2/library/app/referrers/${image.digest}`;
  expectIndex(await site.get(path), [signature.digest]);
  expectIndex(await site.get(`${path}?artifactType=${encodeURIComponent(signatureType)}`), [signature.digest]);
  expectIndex(await site.get(`${path}?artifactType=none`), []);
  expectIndex(await site.get(`${path}?last=x`), []);
  for (let time = 0; time < 2; time += 1) {
    expectIndex(await site.get(`/v2/library/app/referrers/${bare.digest}`), []);
  }
  // That there is no such tag is remembered for a while.
  const asked = upstream.requestsFor(new RegExp(fallbackTag(bare.digest)));
  expect(asked.map(({ method }) => method)).toEqual(['GET']);
});

test('offline, what is under the fallback tag is listed as far as it is here, whether it names its subject or not', async () => {
  await using upstream = await startRegistry({ referrers: false });
  await using cache = await temporaryFolder();
  const upstreams = { 'docker.io': upstream };
  const image = upstream.addImage('library/app', '1');
  const named = upstream.addReferrer('library/app', image, { artifactType: signatureType });
  const plain = ['plain', 'not here'].map((layer) =>
    upstream.addImage('library/app', undefined, { artifactType: listType, layers: [layer] }),
  );
  const manifests = [named, ...plain].map(({ mediaType, digest, size }) => ({
    mediaType,
    digest,
    size,
    artifactType: digest === named.digest ? signatureType : listType,
  }));
  const list = { schemaVersion: 2, mediaType: ociIndex, manifests: [...manifests, null] };
  upstream.addManifest('library/app', fallbackTag(image.digest), list, ociIndex);
  {
    await using online = await startTestSite({ upstreams, cacheDir: cache.path });
    for (const reference of ['1', fallbackTag(image.digest), named.digest, plain[0]!.digest]) {
      expect((await online.get(`/v2/library/app/manifests/${reference}`)).status).toBe(200);
    }
    for (const { digest } of [plain[0]!.config, ...plain[0]!.layers]) {
      expect((await online.get(`/v2/library/app/blobs/${digest}`)).status).toBe(200);
    }
    await settled(online);
  }
  await using site = await startTestSite({ upstreams, cacheDir: cache.path, config: { offline: true } });
  const path = `/v2/library/app/referrers/${image.digest}`;
  expectIndex(await site.get(path), [named.digest, plain[0]!.digest]);
  expectIndex(await site.get(`${path}?artifactType=${encodeURIComponent(listType)}`), [plain[0]!.digest]);
});

test('a fallback tag that gives the subject itself, or no index, is no list', async () => {
  await using upstream = await startRegistry({ referrers: false });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const child = upstream.addImage('library/app', undefined);
  const index = upstream.addIndex('library/app', '1', [
    { manifest: child, platform: { os: 'linux', architecture: 'amd64' } },
  ]);
  upstream.tag('library/app', fallbackTag(index.digest), index.digest);
  upstream.tag('library/app', fallbackTag(child.digest), child.digest);
  const other = upstream.addImage('library/app', '2', { layers: ['other'] });
  upstream.addImage('library/app', fallbackTag(other.digest), { layers: ['no index'] });
  for (const { digest } of [index, child, other]) {
    expectIndex(await site.get(`/v2/library/app/referrers/${digest}`), []);
  }
});

test('referrers are no empty list where the upstream does not let us have the image', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1');
  await site.get('/v2/library/app/manifests/1');
  upstream.fault(/referrers|manifests/, { kind: 'status', status: 403 });
  expect((await site.get(`/v2/library/app/referrers/${image.digest}`)).status).toBe(403);
});

describe('tags', () => {
  test('pass as the upstream gives them, and are not there where it has none', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const tag of ['b', 'a', 'C']) upstream.addImage('library/app', tag);
    const reply = await site.get('/v2/library/app/tags/list');
    expect(json(reply)).toEqual({ name: 'library/app', tags: ['C', 'a', 'b'] });
    expect(reply.headers.link).toBeUndefined();
    const missing = await site.get('/v2/library/none/tags/list');
    expect(missing.status).toBe(404);
    expect(json(missing)).toMatchObject({ errors: [{ code: 'NAME_UNKNOWN' }] });
  });

  test('n=0 is an empty list without Link', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    upstream.addImage('library/app', '1');
    const reply = await site.get('/v2/library/app/tags/list?n=0');
    expect(json(reply)).toMatchObject({ tags: [] });
    expect(reply.headers.link).toBeUndefined();
  });

  test('of an opaque paging are followed to the end with the token to the letter', async () => {
    await using upstream = await startRegistry({ tagPageSize: 1, linkStyle: 'opaque' });
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const tag of ['1', '2', '3']) upstream.addImage('library/app', tag);
    const found: string[] = [];
    let next: string | undefined = '/v2/library/app/tags/list';
    for (let page = 0; next !== undefined && page < 9; page += 1) {
      const reply = await site.get(next);
      found.push(...json<{ tags: string[] }>(reply).tags);
      next = /^<([^>]+)>; rel="next"$/.exec(String(reply.headers.link))?.[1];
    }
    expect(found).toEqual(['1', '2', '3']);
  });

  test('that are known here stand in for an upstream that cannot answer, page by page', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const tag of ['1', '2', '3']) {
      upstream.addImage('library/app', tag);
      await site.get(`/v2/library/app/manifests/${tag}`);
    }
    upstream.fault(undefined, { kind: 'status', status: 503 });
    const first = await site.get('/v2/app/tags/list?n=2&ns=docker.io');
    expect(json(first)).toEqual({ name: 'library/app', tags: ['1', '2'] });
    expect(first.headers.link).toBe('</v2/app/tags/list?n=2&last=2&ns=docker.io>; rel="next"');
    expect(json(await site.get('/v2/app/tags/list?n=2&last=2'))).toMatchObject({ tags: ['3'] });
    expect(json(await site.get('/v2/app/tags/list?n=0'))).toMatchObject({ tags: [] });
  });
});
