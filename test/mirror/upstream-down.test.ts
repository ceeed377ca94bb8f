import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { nameJournalFile } from '../../src/store/files/layout.ts';
import type { Fault } from '../support/faults.ts';
import { startRegistry } from '../support/registry.ts';
import { patient, startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { settled } from './support.ts';

const config = { cache: { tagTtl: '0s', negativeTtl: '0s' } };
/** For an upstream that says nothing, and only then: one that answers must not be too late for it on a busy machine. */
const impatient = { ...config, timeouts: { headers: '1s', answer: '5s' } };
const idle = { ...config, timeouts: { idle: '1s' } };
const path = '/v2/library/app';

describe.each([
  { kind: 'status', status: 500 },
  { kind: 'status', status: 503 },
  { kind: 'status', status: 429, headers: { 'Retry-After': '7' } },
  { kind: 'silence' },
  { kind: 'reset' },
] satisfies Fault[])('an upstream that cannot answer ($kind $status)', (fault) => {
  test('leaves what is stored, says that the tag is stale, and lets no client wait for the rest', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const image = upstream.addImage('library/app', '1');
    const other = upstream.addImage('library/app', '2', { layers: ['other'] });
    await site.get(`${path}/manifests/1`);
    const blobs = [image.config, ...image.layers];
    for (const blob of blobs) await site.get(`${path}/blobs/${blob.digest}`);
    await settled(site);
    if (fault.kind === 'silence') await site.reconfigure(impatient);
    upstream.fault(undefined, fault);

    for (const reply of [await site.get(`${path}/manifests/1`), await site.head(`${path}/manifests/1`)]) {
      expect(reply.status).toBe(200);
      expect(reply.headers).toMatchObject({
        'cache-status': 'millpond; hit; detail=stale',
        'docker-content-digest': image.digest,
        age: expect.stringMatching(/^\d+$/) as string,
        warning: expect.stringMatching(/^299 - "[^"\\]+"$/) as string,
      });
    }
    expect(await site.get(`${path}/manifests/${image.digest}`)).toMatchObject({ status: 200, sha256: image.digest });
    for (const blob of blobs) {
      expect(await site.get(`${path}/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    }
    const wanting = [
      'manifests/2',
      `manifests/${other.digest}`,
      `blobs/${other.layers[0]?.digest}`,
      `referrers/${other.digest}`,
    ];
    for (const what of wanting) {
      const reply = await site.get(`${path}/${what}`);
      expect(fault.status === 429 ? [429] : [502, 504]).toContain(reply.status);
      expect(reply.headers['content-type']).toBe('application/json');
      const { errors } = JSON.parse(reply.body.toString()) as { errors: { code: string; message: string }[] };
      expect(errors[0]?.code).toBe(fault.status === 429 ? 'TOOMANYREQUESTS' : 'UNAVAILABLE');
      expect(errors[0]?.message).not.toBe('');
    }
    const tags = await site.get(`${path}/tags/list`);
    expect(JSON.parse(tags.body.toString())).toMatchObject({ name: 'library/app', tags: ['1'] });
    expect((await site.get('/v2/')).status).toBe(200);
  });
});

test('an upstream that is gone, listener and all, leaves what is stored too', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const image = upstream.addImage('library/app', '1');
  await site.get(`${path}/manifests/1`);
  for (const blob of [image.config, ...image.layers]) await site.get(`${path}/blobs/${blob.digest}`);
  await settled(site);
  await upstream.suspend();
  expect((await site.get(`${path}/manifests/1`)).headers['cache-status']).toBe('millpond; hit; detail=stale');
  expect((await site.get(`${path}/manifests/2`)).status).toBe(502);
});

test('403 and 404 are answers: they are not covered with what was', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  upstream.addImage('library/app', '1');
  await site.get(`${path}/manifests/1`);
  const denied = upstream.fault(undefined, { kind: 'status', status: 403 });
  expect((await site.get(`${path}/manifests/1`)).status).toBe(403);
  denied.release();
  upstream.fault(undefined, { kind: 'status', status: 404 });
  expect((await site.get(`${path}/manifests/1`)).status).toBe(404);
});

test('a tag older than staleIfError is not served any more', async () => {
  await using upstream = await startRegistry();
  const expired = { cache: { tagTtl: '0s', staleIfError: '0s' } };
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: expired });
  upstream.addImage('library/app', '1');
  await site.get(`${path}/manifests/1`);
  upstream.fault(undefined, { kind: 'status', status: 500 });
  expect((await site.get(`${path}/manifests/1`)).status).toBe(502);
});

test('a new digest that HEAD announces and GET cannot give leaves what the tag was', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const before = upstream.addImage('library/app', '1', { layers: ['before'] });
  await site.get(`${path}/manifests/1`);
  for (const blob of [before.config, ...before.layers]) await site.get(`${path}/blobs/${blob.digest}`);
  await settled(site);
  const after = upstream.addImage('library/app', '1', { layers: ['after'] });
  const broken = upstream.fault(({ method }) => method === 'GET', { kind: 'status', status: 500 });
  const stale = await site.get(`${path}/manifests/1`);
  expect(stale).toMatchObject({ status: 200, sha256: before.digest });
  expect(stale.headers).toMatchObject({ 'cache-status': 'millpond; hit; detail=stale' });
  expect(stale.headers.warning).toMatch(/^299 - "/);
  broken.release();
  expect(await site.get(`${path}/manifests/1`)).toMatchObject({ status: 200, sha256: after.digest });
});

test('a new digest that HEAD announces and GET cannot give is refused where what the tag was is not whole', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const before = upstream.addImage('library/app', '1', { layers: ['before'] });
  await site.get(`${path}/manifests/1`);
  await site.get(`${path}/blobs/${before.config.digest}`);
  await settled(site);
  upstream.addImage('library/app', '1', { layers: ['after'] });
  upstream.fault(({ method }) => method === 'GET', { kind: 'status', status: 500 });
  expect((await site.get(`${path}/manifests/1`)).status).toBe(502);
});

test('an image whose manifest gives a stored blob another size is not whole: its tag is not served stale', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const layer = upstream.addBlob({ size: 1000, seed: 'another size' });
  await site.get(`${path}/blobs/${layer.digest}`);
  for (const [tag, size] of [
    ['wrong', 999],
    ['right', 1000],
  ] as const) {
    const { mediaType } = upstream.addImage('library/app', tag);
    const body = { schemaVersion: 2, mediaType, layers: [{ mediaType: 'application/x', digest: layer.digest, size }] };
    upstream.addManifest('library/app', tag, body, mediaType);
    expect((await site.get(`${path}/manifests/${tag}`)).status).toBe(200);
  }
  await settled(site);
  upstream.fault(undefined, { kind: 'status', status: 500 });
  expect((await site.get(`${path}/manifests/wrong`)).status).toBe(502);
  expect((await site.get(`${path}/manifests/right`)).status).toBe(200);
});

test('a tag that was removed upstream does not come back when the upstream goes down', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
  const image = upstream.addImage('library/app', '1');
  await site.get(`${path}/manifests/1`);
  for (const blob of [image.config, ...image.layers]) await site.get(`${path}/blobs/${blob.digest}`);
  await settled(site);
  upstream.removeTag('library/app', '1');
  expect((await site.get(`${path}/manifests/1`)).status).toBe(404);
  upstream.fault(undefined, { kind: 'status', status: 500 });
  expect((await site.get(`${path}/manifests/1`)).status).toBe(502);
  // By its digest it is here for ever.
  expect((await site.get(`${path}/manifests/${image.digest}`)).status).toBe(200);
});

describe('an upstream that answers and then stalls', () => {
  test('is given up after the idle time, and the client is cut, not left waiting', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: idle });
    const blob = upstream.addBlob({ size: 1024 * 1024, seed: 'stalls' });
    upstream.fault(({ headers }) => headers.range === undefined, { kind: 'stall', afterBytes: 500_000 });
    upstream.fault(({ headers }) => headers.range !== undefined, { kind: 'status', status: 403 });
    expect(await site.get(`${path}/blobs/${blob.digest}`)).toMatchObject({ status: 200, complete: false });
  });

  test('is asked again for the rest', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: idle });
    const blob = upstream.addBlob({ size: 1024 * 1024, seed: 'stalls once' });
    upstream.fault(blob.digest, { kind: 'stall', afterBytes: 500_000 }, { times: 1 });
    const reply = await site.get(`${path}/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  });

  test('does not keep a client that leaves before the headers', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: patient });
    const blob = upstream.addBlob({ size: 1024 * 1024, seed: 'left early' });
    const pause = upstream.fault(undefined, { kind: 'pause' });
    const leaving = new AbortController();
    const waiting = ['manifests/1', `blobs/${blob.digest}`, 'tags/list'].map((what) =>
      site.get(`${path}/${what}`, { signal: leaving.signal }).catch((error: Error) => error.name),
    );
    await expect.poll(() => upstream.requests.length).toBe(3);
    leaving.abort();
    expect(await Promise.all(waiting)).toEqual(['AbortError', 'AbortError', 'AbortError']);
    const left = () => site.logLines.filter(({ msg, result }) => msg === 'request' && result === 'left').length;
    await expect.poll(left).toBe(3);
    pause.release();
  });
});

describe('offline', () => {
  test('no upstream is contacted; what is stored is served whatever its age, the rest is 404 that says why', async () => {
    await using upstream = await startRegistry();
    await using cache = await temporaryDirectory();
    const upstreams = { 'docker.io': upstream };
    const image = upstream.addImage('library/app', '1');
    const other = upstream.addImage('library/app', '2', { layers: ['other'] });
    const signature = upstream.addReferrer('library/app', image, { artifactType: 'application/x.sig' });
    const blobs = [image.config, ...image.layers];
    {
      await using online = await startTestSite({ upstreams, cacheDir: cache.path });
      await online.get(`${path}/manifests/1`);
      await online.get(`${path}/manifests/${signature.digest}`);
      for (const blob of blobs) await online.get(`${path}/blobs/${blob.digest}`);
    }
    upstream.forgetRequests();
    const offline = { offline: true, cache: { tagTtl: '0s', staleIfError: '0s' } };
    await using site = await startTestSite({ upstreams, cacheDir: cache.path, config: offline });
    expect(await site.get(`${path}/manifests/1`)).toMatchObject({ status: 200, sha256: image.digest });
    expect(await site.get(`${path}/manifests/${image.digest}`)).toMatchObject({ status: 200 });
    for (const blob of blobs) {
      expect(await site.get(`${path}/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    }
    const older = 'application/vnd.docker.distribution.manifest.v2+json';
    const narrow = await site.get(`${path}/manifests/1`, { headers: { accept: older } });
    expect(narrow.status).toBe(404);
    expect(narrow.body.toString()).toContain(`only as ${image.mediaType}, which this client does not accept`);
    const tags = await site.get(`${path}/tags/list`);
    expect(JSON.parse(tags.body.toString())).toEqual({ name: 'library/app', tags: ['1'] });
    const referrers = await site.get(`${path}/referrers/${image.digest}`);
    expect(JSON.parse(referrers.body.toString())).toMatchObject({ manifests: [{ digest: signature.digest }] });
    const layer = other.layers[0]?.digest;
    for (const what of ['manifests/2', `manifests/${other.digest}`, `blobs/${layer}`]) {
      for (const reply of [await site.get(`${path}/${what}`), await site.get(`/v2/else/${what}`)]) {
        expect(reply.status).toBe(404);
        expect(reply.body.toString()).toContain('offline');
      }
      expect((await site.head(`${path}/${what}`)).status).toBe(404);
    }
    // Bytes that are here for one repository are not for another while its upstream cannot be asked.
    expect((await site.get(`/v2/else/blobs/${image.layers[0]?.digest}`)).status).toBe(404);
    expect(await site.get('/v2/else/tags/list')).toMatchObject({ status: 404 });
    expect(upstream.requests).toEqual([]);
    expect(upstream.openConnections).toBe(0);
  });
});

test('a catalog that cannot be read is set aside; without the names kept beside it, blobs are confirmed again before they are served', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const upstreams = { 'docker.io': upstream };
  const blob = upstream.addBlob({ size: 200_000, seed: 'catalog' });
  {
    await using site = await startTestSite({ upstreams, cacheDir: cache.path });
    await site.get(`${path}/blobs/${blob.digest}`);
  }
  await writeFile(join(cache.path, 'catalog.sqlite'), 'this is no database'.repeat(1000));
  await rm(join(cache.path, nameJournalFile));
  upstream.forgetRequests();
  await using site = await startTestSite({ upstreams, cacheDir: cache.path });
  expect(await readFile(join(cache.path, 'catalog.sqlite.broken'), 'utf8')).toContain('this is no database');
  for (let turn = 0; turn < 2; turn += 1) {
    expect(await site.get(`${path}/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
  }
  // Where the bytes came from is not known any more: the upstream shows parts of them, once.
  expect(upstream.requests.map(({ headers }) => headers.range !== undefined)).toEqual([true, true, true, true]);
  expect(upstream.bytesSent(blob.digest)).toBe(4 * 4096);
});
