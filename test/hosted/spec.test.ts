import { utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { basic, htpasswdFile } from '../access/support.ts';
import { localArtifact, localImage } from '../support/images.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { begin, codeOf, pushBlob, pushImage, putManifest, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const image = localImage({ label: 'one' });
const path = (last: string, name = repository) => `/v2/${name}/${last}`;
const unknown = `sha256:${'0'.repeat(64)}`;

test('a name, a tag or a digest that is none is refused', async () => {
  await using site = await startHostedSite();
  for (const [target, code] of [
    [path('manifests/1', 'local/A'), 'NAME_INVALID'],
    [path(`manifests/${'x'.repeat(129)}`), 'MANIFEST_INVALID'],
    [path('manifests/.hidden'), 'MANIFEST_INVALID'],
    [path('manifests/sha256:xyz'), 'DIGEST_INVALID'],
    [path('blobs/latest'), 'DIGEST_INVALID'],
  ] as const) {
    const answer = await send(site, ['GET', target]);
    expect({ target, status: answer.status, code: codeOf(answer) }).toEqual({ target, status: 400, code });
  }
});

test('HEAD has the digest and the length of GET', async () => {
  await using site = await startHostedSite();
  await pushImage(site, repository, image, '1');
  const [blob] = image.blobs;
  for (const [target, digest] of [
    [path('manifests/1'), image.digest],
    [path(`manifests/${image.digest}`), image.digest],
    [path(`blobs/${blob!.digest}`), blob!.digest],
  ] as const) {
    const [head, got] = [await send(site, ['HEAD', target]), await send(site, ['GET', target])];
    expect({ status: head.status, bytes: head.body.length }).toEqual({ status: 200, bytes: 0 });
    expect(head.headers['content-length']).toBe(String(got.body.length));
    for (const { headers } of [head, got]) expect(headers['docker-content-digest']).toBe(digest);
  }
  for (const last of ['manifests/2', `manifests/${unknown}`, `blobs/${unknown}`]) {
    expect((await send(site, ['HEAD', path(last)])).status).toBe(404);
  }
});

test('parameters of Content-Type are ignored, and not given back', async () => {
  await using site = await startHostedSite();
  for (const blob of image.blobs) await pushBlob(site, repository, blob);
  const put = await putManifest(site, repository, {
    reference: '1',
    manifest: image,
    type: `${image.mediaType}; charset=utf-8`,
  });
  expect(put.status).toBe(201);
  expect((await send(site, ['GET', path('manifests/1')])).headers['content-type']).toBe(ociManifest);
});

test('a manifest is accepted before its subject', async () => {
  await using site = await startHostedSite();
  const early = localArtifact({ artifactType: 'application/x-early', subject: image });
  expect((await pushImage(site, repository, early)).headers['oci-subject']).toBe(image.digest);
});

test('an upload has an id of its own', async () => {
  await using site = await startHostedSite();
  const locations = [await begin(site, repository), await begin(site, repository)];
  expect(new Set(locations).size).toBe(2);
  for (const location of locations) expect(location).toMatch(/\/blobs\/uploads\/[0-9a-f]{32}$/);
});

test('an upload that receives nothing expires', async () => {
  await using folder = await temporaryFolder();
  const cacheDir = join(folder.path, 'cache');
  let location: string;
  {
    await using site = await startHostedSite({ cacheDir });
    location = await begin(site, repository);
  }
  const past = new Date('2020-01-01');
  await utimes(join(cacheDir, 'hosted', 'uploads', location.split('/').at(-1)!, 'data'), past, past);
  await using site = await startHostedSite({ cacheDir });
  await expect.poll(async () => (await send(site, ['GET', location])).status).toBe(404);
});

test('a dozen tags are set by one push', async () => {
  await using site = await startHostedSite();
  for (const blob of image.blobs) await pushBlob(site, repository, blob);
  const tags = Array.from({ length: 12 }, (_, index) => `t${index}`);
  const query = tags.map((tag) => `tag=${tag}`).join('&');
  const put = await putManifest(site, repository, { reference: `${image.digest}?${query}`, manifest: image });
  expect(put).toMatchObject({ status: 201, headers: { 'oci-tag': tags.join(', ') } });
});

test('a repository that is not here is 404', async () => {
  await using site = await startHostedSite();
  for (const last of ['manifests/1', `manifests/${unknown}`, `blobs/${unknown}`, 'tags/list']) {
    expect((await send(site, ['GET', path(last, 'local/none')])).status).toBe(404);
  }
});

test('n=0 is an empty list of tags', async () => {
  await using site = await startHostedSite();
  await pushImage(site, repository, image, '1');
  const { body, headers } = await send(site, ['GET', path('tags/list?n=0')]);
  expect(JSON.parse(body.toString())).toEqual({ name: repository, tags: [] });
  expect(headers['link']).toBeUndefined();
});

test('referrers of what is not here are an empty index', async () => {
  await using site = await startHostedSite();
  const { status, body, headers } = await send(site, ['GET', path(`referrers/${unknown}`, 'local/none')]);
  expect({ status, type: headers['content-type'] }).toEqual({ status: 200, type: ociIndex });
  expect(JSON.parse(body.toString())).toEqual({ schemaVersion: 2, mediaType: ociIndex, manifests: [] });
  expect((await send(site, ['GET', path('referrers/sha256:xyz')])).status).toBe(400);
});

test('a referrer is listed with its type and its annotations', async () => {
  await using site = await startHostedSite();
  await pushImage(site, repository, image, '1');
  const typed = localArtifact({ artifactType: 'application/x-a', subject: image, annotations: { a: 'b' } });
  await pushImage(site, repository, typed);
  const subject = { mediaType: image.mediaType, digest: image.digest, size: image.size };
  const config = image.blobs[0]!;
  const plain = {
    schemaVersion: 2,
    mediaType: ociManifest,
    config: { mediaType: 'application/x-config', digest: config.digest, size: config.size },
    layers: [],
    subject,
  };
  const index = { schemaVersion: 2, mediaType: ociIndex, manifests: [], subject };
  for (const [tag, manifest] of [
    ['plain', plain],
    ['index', index],
  ] as const) {
    const headers = { 'content-type': manifest.mediaType };
    const body = JSON.stringify(manifest);
    expect((await send(site, ['PUT', path(`manifests/${tag}`)], { headers, body })).status).toBe(201);
  }
  const { body } = await send(site, ['GET', path(`referrers/${image.digest}`)]);
  const { manifests } = JSON.parse(body.toString()) as { manifests: { artifactType?: string; annotations?: object }[] };
  expect(manifests.map(({ artifactType }) => artifactType ?? 'none').toSorted()).toEqual([
    'application/x-a',
    'application/x-config',
    'none',
  ]);
  expect(manifests.find(({ artifactType }) => artifactType === 'application/x-a')?.annotations).toEqual({ a: 'b' });
});

test('429 says when to ask again', async () => {
  await using folder = await temporaryFolder();
  const auth = { htpasswdFile: await htpasswdFile(folder.path, { ann: 'a-secret' }) };
  await using site = await startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    config: { hosted: { repositories: ['local/**'] }, auth },
  });
  for (let attempt = 0; ; attempt += 1) {
    const headers = basic('eve', `wrong-${attempt}`);
    const answer = await send(site, ['GET', path('tags/list')], { headers });
    if (answer.status === 401) continue;
    expect(answer.status).toBe(429);
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
    break;
  }
});
