import { expect, test } from 'vitest';
import { basic, htpasswdFile } from '../access/support.ts';
import { pushImage } from '../hosted/support.ts';
import { settled } from '../mirror/support.ts';
import { json, type Reply } from '../support/client.ts';
import { localIndex } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

interface Details {
  readonly digest: string;
  readonly whole: boolean;
  readonly kept: string;
  readonly platforms: readonly { platform: string | null; digest: string; whole: boolean }[];
  readonly layers: readonly { digest: string; stored: boolean; sharedWith?: string[] }[];
  readonly history: readonly { createdBy: string | null; empty: boolean }[];
  readonly referrers: readonly { digest: string; artifactType?: string }[];
  readonly pulls: number;
  readonly pulled: string | null;
}

const detailsOf = (reply: Reply): Details => {
  expect(reply.status, reply.body.toString()).toBe(200);
  expect(reply.headers['content-type']).toBe('application/vnd.millpond.image.v1+json');
  return json<Details>(reply);
};

const config = (history: object[]) =>
  JSON.stringify({ os: 'linux', architecture: 'arm64', variant: 'v8', created: '2026-01-02T03:04:05Z', history });

test('a cached image has what is known of it, as far as it is here', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({
    upstreams: { 'docker.io': upstream },
    config: { cache: { pins: ['library/app:1'] } },
  });
  const base = upstream.addBlob({ size: 1_000, seed: 'base' });
  const history = [
    { created_by: 'COPY app /', created: '2026-01-02T03:04:05Z' },
    { created_by: 'CMD', empty_layer: true },
  ];
  const image = upstream.addImage('library/app', '1', { layers: [base, 'not pulled'], config: config(history) });
  const other = upstream.addImage('library/other', '1', { layers: [base] });
  const sbom = upstream.addReferrer('library/app', image, { artifactType: 'application/spdx+json' });
  for (const path of [
    'app/manifests/1',
    `app/manifests/${sbom.digest}`,
    `app/blobs/${image.config.digest}`,
    `app/blobs/${base.digest}`,
    'other/manifests/1',
    `other/blobs/${other.config.digest}`,
    `other/blobs/${base.digest}`,
  ])
    await site.get(`/v2/library/${path}`);
  await settled(site);
  const before = upstream.requests.length;
  const found = detailsOf(await site.get('/v2/library/app/_millpond/images/1'));
  expect(found).toMatchObject({
    repository: 'docker.io/library/app',
    tag: '1',
    digest: image.digest,
    hosted: false,
    type: 'image',
    whole: false,
    platforms: [{ platform: 'linux/arm64/v8', digest: image.digest, whole: false }],
    config: { digest: image.config.digest, stored: true },
    history: [
      { createdBy: 'COPY app /', empty: false },
      { createdBy: 'CMD', empty: true },
    ],
    referrers: [{ digest: sbom.digest, artifactType: 'application/spdx+json' }],
    source: { upstream: 'docker.io', by: 'upstream' },
    kept: 'pinned',
    created: '2026-01-02T03:04:05Z',
  });
  expect(found.layers).toMatchObject([
    { digest: base.digest, stored: true, sharedWith: ['docker.io/library/other'] },
    { stored: false, sharedWith: [] },
  ]);
  for (const path of [
    '/v2/_millpond/images/library/app:1',
    `/v2/_millpond/images/docker.io/library/app@${image.digest}`,
    '/v2/_millpond/images/app%3A1?ns=docker.io',
  ]) {
    expect(detailsOf(await site.get(path)).digest).toBe(image.digest);
  }
  expect(detailsOf(await site.get('/v2/library/other/_millpond/images/1'))).toMatchObject({
    whole: true,
    kept: expect.stringMatching(/^(?:recent|use)$/) as string,
  });
  await expect.poll(async () => detailsOf(await site.get('/v2/library/app/_millpond/images/1')).pulls).toBe(1);
  expect(upstream.requests.length).toBe(before);
});

test('a hosted index has its platforms, and whether each is whole', async () => {
  await using site = await startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    config: { hosted: { repositories: ['local/**'] } },
  });
  const index = localIndex('app', ['amd64', 'arm64']);
  await pushImage(site, 'local/app', index, '1');
  expect(detailsOf(await site.get('/v2/local/app/_millpond/images/1'))).toMatchObject({
    repository: 'local/app',
    hosted: true,
    type: 'index',
    whole: true,
    kept: 'hosted',
    source: { upstream: null, by: 'push' },
    platforms: [
      { platform: 'linux/amd64', whole: true },
      { platform: 'linux/arm64', whole: true },
    ],
  });
  const [child] = index.manifests;
  const image = detailsOf(await site.get(`/v2/local/app/_millpond/images/${child!.digest}`));
  expect(image).toMatchObject({ digest: child!.digest, type: 'image', whole: true });
  expect(image.layers[0]).not.toHaveProperty('sharedWith');
});

test('what is not here is 404 without asking the upstream, and what cannot be read is refused', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  upstream.addImage('library/app', '1');
  for (const [path, status, code] of [
    ['library/app/_millpond/images/1', 404, 'MANIFEST_UNKNOWN'],
    [`library/app/_millpond/images/sha256:${'0'.repeat(64)}`, 404, 'MANIFEST_UNKNOWN'],
    ['_millpond/images/app', 404, 'MANIFEST_UNKNOWN'],
    ['_millpond/images/', 404, 'EXTENSION_UNKNOWN'],
    ['library/app/_millpond/images/-bad', 400, 'MANIFEST_INVALID'],
    ['_millpond/images/app@sha256:12', 400, 'DIGEST_INVALID'],
    ['_millpond/images/UPPER:1', 400, 'NAME_INVALID'],
    ['_millpond/images/a:b:c', 400, 'NAME_INVALID'],
    ['_millpond/images/elsewhere.test/app:1', 404, 'NAME_UNKNOWN'],
  ] as const) {
    const reply = await site.get(`/v2/${path}`);
    expect([path, reply.status, json<{ errors: { code: string }[] }>(reply).errors[0]?.code]).toEqual([
      path,
      status,
      code,
    ]);
  }
  expect(upstream.requests).toEqual([]);
});

test('images that share a layer are shown as far as the caller may know of them, and an image to callers that may pull it', async () => {
  await using upstream = await startRegistry();
  await using folder = await temporaryFolder();
  const file = await htpasswdFile(folder.path, { ann: 'a-secret' });
  const policies = [{ users: ['ann'], repositories: ['registry.test/open/**'], actions: ['pull', 'search'] }];
  const base = upstream.addBlob({ size: 100, seed: 'base' });
  for (const name of ['open/a', 'open/b', 'secret/c']) upstream.addImage(name, '1', { layers: [base] });
  const options = { upstreams: { 'registry.test': upstream }, cacheDir: `${folder.path}/cache` };
  {
    await using open = await startTestSite(options);
    for (const name of ['open/a', 'open/b', 'secret/c']) {
      await open.get(`/v2/registry.test/${name}/manifests/1`);
      await open.get(`/v2/registry.test/${name}/blobs/${base.digest}`);
    }
  }
  await using site = await startTestSite({
    ...options,
    config: { auth: { htpasswdFile: file, anonymous: false, policies } },
  });
  const headers = basic('ann', 'a-secret');
  const [layer] = detailsOf(await site.get('/v2/registry.test/open/a/_millpond/images/1', { headers })).layers;
  expect(layer).toMatchObject({ stored: true, sharedWith: ['registry.test/open/b'] });
  for (const path of [
    'registry.test/secret/c/_millpond/images/1',
    '_millpond/images/registry.test/secret/c:1',
    '_millpond/images/registry.test/secret/none:1',
  ]) {
    expect((await site.get(`/v2/${path}`, { headers })).status, path).toBe(403);
  }
});
