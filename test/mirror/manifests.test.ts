import { describe, expect, test } from 'vitest';
import {
  dockerManifest,
  dockerManifestList,
  dockerSchema1Signed,
  manifestMediaTypes,
  ociIndex,
  ociManifest,
} from '../../src/oci/media-types.ts';
import type { Fault } from '../support/faults.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { filesOf } from './support.ts';

const all = { accept: manifestMediaTypes.join(', ') };
const alwaysAsk = { cache: { tagTtl: '0s' } };
const path = '/v2/library/app/manifests';

describe('a manifest passes unchanged', () => {
  test.each([
    { name: 'an image', mediaType: ociManifest, body: '{ "schemaVersion":2,\n"config":{},  "layers" : [] }\n\n' },
    { name: 'a Docker image', mediaType: dockerManifest, body: '{"schemaVersion":2,"layers":[],"x":"é"}' },
    { name: 'a manifest list', mediaType: dockerManifestList, body: '{"manifests":[ ]}' },
    { name: 'a schema 1 manifest', mediaType: dockerSchema1Signed, body: '{"schemaVersion":1,"fsLayers":[]}' },
    { name: 'one with parameters', mediaType: `${ociManifest}; charset=UTF-8`, body: '{"layers":[]}' },
    { name: 'one of an unknown type', mediaType: 'application/x.artifact+json', body: '{"blobs":[]}' },
  ])('$name, by tag and by digest, by GET and HEAD', async ({ mediaType, body }) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const manifest = upstream.addManifest('library/app', '1', body, mediaType);
    for (const reference of ['1', manifest.digest, '1', manifest.digest]) {
      const got = await site.get(`${path}/${reference}`);
      const head = await site.head(`${path}/${reference}`);
      expect(got).toMatchObject({ status: 200, complete: true, sha256: manifest.digest });
      expect(got.headers).toMatchObject({
        'content-type': mediaType,
        'content-length': String(manifest.size),
        'docker-content-digest': manifest.digest,
        etag: `"${manifest.digest}"`,
      });
      expect(got.headers['cache-control']).toBe(reference === '1' ? undefined : 'public, max-age=31536000, immutable');
      expect(head.status).toBe(200);
      for (const name of ['content-type', 'content-length', 'docker-content-digest', 'etag', 'cache-control']) {
        expect(head.headers[name]).toBe(got.headers[name]);
      }
    }
  });

  test('also by sha512, the digest that was asked for', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1', { algorithm: 'sha512', layers: ['512'] });
    const manifest = await site.get(`${path}/${image.digest}`);
    expect(manifest).toMatchObject({ status: 200, sha512: image.digest });
    expect(manifest.headers['docker-content-digest']).toBe(image.digest);
    const [layer] = image.layers;
    expect(await site.get(`/v2/library/app/blobs/${layer?.digest}`)).toMatchObject({ sha512: layer?.digest });
    expect(await filesOf(site)).toContain(`blobs/sha512/${layer?.digest.slice(7)}`);
    expect((await site.get(`${path}/${image.digest}`)).headers['cache-status']).toBe('millpond; hit');
  });
});

describe('a tag', () => {
  test('is asked for once while fresh, by any client', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const replies = await Promise.all(Array.from({ length: 20 }, () => site.get(`${path}/1`)));
    for (const reply of replies) expect(reply).toMatchObject({ status: 200, sha256: image.digest });
    // Nothing was known of it: one request, which counts as the one pull.
    expect(upstream.requests.map(({ method }) => method)).toEqual(['GET']);
    expect((await site.get(`${path}/1`)).headers['cache-status']).toBe('millpond; hit');
    expect(upstream.requests).toHaveLength(1);
  });

  test('of which nothing is known costs a client that only looks no pull', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const head = await site.get(`${path}/1`, { method: 'HEAD' });
    expect(head).toMatchObject({ status: 200 });
    expect(head.headers['docker-content-digest']).toBe(image.digest);
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD']);
    expect(await site.get(`${path}/1`)).toMatchObject({ status: 200, sha256: image.digest });
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  test('past its time is confirmed by one HEAD, which costs no pull', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: alwaysAsk });
    const image = upstream.addImage('library/app', '1');
    await site.get(`${path}/1`);
    upstream.forgetRequests();
    const again = await site.get(`${path}/1`);
    expect(again).toMatchObject({ status: 200, sha256: image.digest });
    expect(again.headers['cache-status']).toBe('millpond; fwd=stale; detail=revalidated');
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD']);
  });

  test('that has moved is followed, and what it was stays reachable by digest', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: alwaysAsk });
    const before = upstream.addImage('library/app', 'latest', { layers: ['before'] });
    await site.get(`${path}/latest`);
    const after = upstream.addImage('library/app', 'latest', { layers: ['after'] });
    upstream.removeManifest('library/app', before.digest);
    expect(await site.get(`${path}/latest`)).toMatchObject({ status: 200, sha256: after.digest });
    expect(await site.get(`${path}/${before.digest}`)).toMatchObject({ status: 200, sha256: before.digest });
    upstream.removeTag('library/app', 'latest');
    const gone = await site.get(`${path}/latest`);
    expect(gone.status).toBe(404);
    expect(JSON.parse(gone.body.toString())).toMatchObject({ errors: [{ code: 'MANIFEST_UNKNOWN' }] });
    expect(await site.get(`${path}/${after.digest}`)).toMatchObject({ status: 200, sha256: after.digest });
  });

  test('that is not there is asked for once within negativeTtl, by HEAD and GET', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const missing = `${path}/sha256-${'0'.repeat(64)}.sig`;
    expect((await site.head(missing)).status).toBe(404);
    expect((await site.get(missing)).status).toBe(404);
    expect((await site.get(missing)).headers['content-type']).toBe('application/json');
    // What a HEAD says no to is asked for by GET, once.
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  test('is found as soon as it is there where nothing is remembered', async () => {
    await using upstream = await startRegistry();
    const config = { cache: { negativeTtl: '0s' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    expect((await site.get(`${path}/late`)).status).toBe(404);
    const image = upstream.addImage('library/app', 'late');
    expect(await site.get(`${path}/late`)).toMatchObject({ status: 200, sha256: image.digest });
  });

  test.each([
    { what: 'has no HEAD', fault: { kind: 'status', status: 405 } },
    { what: 'has no HEAD yet', fault: { kind: 'status', status: 501 } },
    { what: 'answers HEAD as JSON', fault: { kind: 'headers', headers: { 'Content-Type': 'application/json' } } },
    { what: 'answers HEAD without type', fault: { kind: 'headers', headers: { 'Content-Type': undefined } } },
    { what: 'sends no digest', fault: { kind: 'headers', headers: { 'Docker-Content-Digest': undefined } } },
    { what: 'sends a malformed digest', fault: { kind: 'headers', headers: { 'Docker-Content-Digest': 'sha256:1' } } },
  ] satisfies { what: string; fault: Fault }[])('of an upstream that $what is found by GET', async ({ fault }) => {
    await using upstream = await startRegistry({ digestHeader: !('headers' in fault) || undefined });
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    upstream.fault(({ method }) => method === 'HEAD', fault);
    const image = upstream.addImage('library/app', '1');
    const head = await site.head(`${path}/1`);
    expect(head.headers).toMatchObject({
      'content-type': ociManifest,
      'content-length': String(image.size),
      'docker-content-digest': image.digest,
    });
    expect(await site.get(`${path}/1`)).toMatchObject({ status: 200, sha256: image.digest });
    expect(upstream.requests.filter(({ method }) => method === 'GET')).toHaveLength(1);
  });
});

describe('Accept', () => {
  test('of a narrow client decides what it gets, and never what others get', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', undefined, { mediaTypes: 'docker' });
    const index = upstream.addIndex('library/app', '1', [{ manifest: image }]);
    upstream.tag('library/app', '1', image.digest, { variant: true });
    const narrow = { headers: { accept: dockerManifest } };
    const wide = { headers: all };
    for (let turn = 0; turn < 2; turn += 1) {
      expect(await site.get(`${path}/1`, narrow)).toMatchObject({ status: 200, sha256: image.digest });
      expect(await site.get(`${path}/1`, wide)).toMatchObject({ status: 200, sha256: index.digest });
      expect(await site.get(`${path}/1`, { headers: { accept: '*/*' } })).toMatchObject({ sha256: index.digest });
      expect(await site.get(`${path}/1`)).toMatchObject({ sha256: index.digest });
      expect((await site.head(`${path}/1`, narrow)).headers['docker-content-digest']).toBe(image.digest);
    }
    const asked = upstream.requests
      .filter((request) => request.path.endsWith('/1'))
      .map(({ headers }) => headers.accept);
    expect(asked).toHaveLength(2);
    expect(asked).toContain(dockerManifest);
    expect(asked).toContainEqual(expect.stringContaining(ociIndex));
  });

  test('of a client that takes nothing of what there is gets what there is', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const reply = await site.get(`${path}/1`, { headers: { accept: dockerManifest } });
    expect(reply).toMatchObject({ status: 200, sha256: image.digest });
    expect(reply.headers['content-type']).toBe(ociManifest);
  });
});

describe('what is no manifest', () => {
  test.each([
    { what: 'a page of HTML', fault: { kind: 'html' } },
    { what: 'other bytes', fault: { kind: 'flip' } },
    { what: 'one byte less', fault: { kind: 'short', declared: 'actual' } },
    { what: 'a body cut short', fault: { kind: 'short', declared: 'whole' } },
    { what: 'an error of status 200', fault: { kind: 'status', status: 200, body: '{"errors":[{"code":"X"}]}' } },
  ] satisfies { what: string; fault: Fault }[])('is 502 and not kept: $what', async ({ fault }) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    upstream.fault(({ method }) => method === 'GET', fault);
    for (const reference of ['1', image.digest]) {
      const reply = await site.get(`${path}/${reference}`);
      expect(reply.status).toBe(502);
      expect(JSON.parse(reply.body.toString())).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] });
    }
    expect(await filesOf(site)).toEqual([]);
    upstream.clearFaults();
    expect(await site.get(`${path}/1`)).toMatchObject({ status: 200, sha256: image.digest });
  });

  test('is not taken on trust by tag either, where the upstream gives no digest', async () => {
    await using upstream = await startRegistry({ digestHeader: false });
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const page = upstream.fault(undefined, { kind: 'html' });
    expect((await site.get(`${path}/1`)).status).toBe(502);
    page.release();
    expect(await filesOf(site)).toEqual([]);
    expect(await site.get(`${path}/1`)).toMatchObject({ status: 200, sha256: image.digest });
  });

  test('or is larger than 4 MiB is 502; one of 4 MiB is taken', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const bodyOf = (length: number) => '{"layers":[]}'.padEnd(length);
    upstream.addManifest('library/app', 'large', bodyOf(4 * 1024 * 1024 + 1), ociManifest);
    const largest = upstream.addManifest('library/app', 'largest', bodyOf(4 * 1024 * 1024), ociManifest);
    expect((await site.get(`${path}/large`)).status).toBe(502);
    expect(await site.get(`${path}/largest`)).toMatchObject({ status: 200, sha256: largest.digest });
  });
});

test('a digest that is no blob of a repository is still found as its manifest', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1');
  expect((await site.get(`/v2/library/app/blobs/${image.digest}`)).status).toBe(404);
  expect(await site.get(`${path}/${image.digest}`)).toMatchObject({ status: 200, sha256: image.digest });
});
