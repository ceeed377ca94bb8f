import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { pushBlob, pushImage, putManifest, send } from '../hosted/support.ts';
import { runCommand } from '../support/commands.ts';
import { localArtifact, localBlob, localImage, localIndex } from '../support/images.ts';
import { layoutOf, named, writeTar } from '../support/layouts.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { expectServed } from './archive-place.ts';

const upstreams = { 'registry.test': { urls: ['http://127.0.0.1:1'] } };

/** A mirror that hosts `local/**`, with a folder in which commands find it. */
async function hostedPlace(hosted: object = {}, rest: object = {}) {
  const folder = await temporaryFolder();
  const cacheDir = join(folder.path, 'data');
  const config = { hosted: { repositories: ['local/**'], ...hosted }, ...rest };
  await writeFile(
    join(folder.path, 'millpond.yaml'),
    JSON.stringify({ upstreams, cache: { dir: cacheDir }, ...config }),
  );
  return {
    path: (name: string) => join(folder.path, name),
    run: (...args: readonly string[]) => runCommand(args, folder.path),
    serve: () => startTestSite({ upstreams, cacheDir, config }),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

const image = localIndex('hosted', ['amd64', 'arm64']);
const sbom = localArtifact({ artifactType: 'application/spdx+json', subject: image, layers: [localBlob('an sbom')] });

async function referrersOf(site: TestSite): Promise<unknown> {
  const { body } = await site.get(`/v2/local/app/referrers/${image.digest}`);
  return JSON.parse(body.toString());
}

async function filled(site: TestSite): Promise<void> {
  expect((await pushImage(site, 'local/app', image, '1')).status).toBe(201);
  expect((await pushImage(site, 'local/app', sbom)).status).toBe(201);
}

test.each(['beside a mirror', 'alone'])(
  'export and import carry hosted images with their referrers: %s',
  async (how) => {
    await using from = await hostedPlace();
    await using to = await hostedPlace();
    const archive = from.path('app.tar');
    let referrers: unknown;
    {
      await using site = await from.serve();
      await filled(site);
      referrers = await referrersOf(site);
      if (how === 'beside a mirror') {
        expect(await from.run('export', 'local/app:1', '--output', archive)).toMatchObject({ code: 0, stderr: '' });
      }
    }
    if (how === 'alone') {
      expect(await from.run('export', 'local/app:1', '--output', archive)).toMatchObject({ code: 0, stderr: '' });
      expect(await to.run('import', archive)).toMatchObject({ code: 0, stderr: '' });
    }
    await using site = await to.serve();
    if (how === 'beside a mirror') expect(await to.run('import', archive)).toMatchObject({ code: 0, stderr: '' });
    await expectServed(site, 'local/app', image, '1');
    await expectServed(site, 'local/app', sbom);
    expect(await referrersOf(site)).toEqual(referrers);
    // Only what is hosted can be deleted.
    expect((await send(site, ['DELETE', '/v2/local/app/manifests/1'])).status).toBe(202);
    expect((await site.get('/v2/local/app/manifests/1')).status).toBe(404);
  },
);

test('an image that a rule of hosted repositories forbids is refused, and its tag stays', async () => {
  await using here = await hostedPlace({ immutableTags: ['v*'] });
  await using site = await here.serve();
  const old = localImage({ label: 'old' });
  const young = localImage({ label: 'young' });
  expect((await pushImage(site, 'local/app', old, 'v1')).status).toBe(201);
  const archive = await writeTar(
    here.path('young.tar'),
    layoutOf([
      { manifest: young, annotations: named('local/app:v1') },
      { manifest: young, annotations: named('local/app:2') },
    ]),
  );
  const { code, stdout, stderr } = await here.run('import', archive);
  expect([code, `${stdout}${stderr}`]).toEqual([1, expect.stringContaining('the tag v1 is immutable')]);
  await expectServed(site, 'local/app', old, 'v1');
  await expectServed(site, 'local/app', young, '2');
});

test.each(['beside a mirror', 'alone'])('an imported image is held for scanning as a pushed one: %s', async (how) => {
  await using here = await hostedPlace({}, { hold: [{ repositories: ['local/**'] }] });
  const files = layoutOf([{ manifest: image, annotations: named('local/app:1') }]);
  const archive = await writeTar(here.path('app.tar'), files);
  if (how === 'alone') expect((await here.run('import', archive)).code).toBe(0);
  await using site = await here.serve();
  if (how === 'beside a mirror') expect((await here.run('import', archive)).code).toBe(0);
  const { status, body } = await site.get('/v2/local/app/manifests/1');
  expect([status, body.toString()]).toEqual([403, expect.stringContaining('held for scanning')]);
});

test('an archive without a blob gives no hosted repository what another one has', async () => {
  await using here = await hostedPlace();
  await using site = await here.serve();
  const secret = localImage({ label: 'secret' });
  expect((await pushImage(site, 'local/secret', secret, '1')).status).toBe(201);
  const files = layoutOf([{ manifest: secret, annotations: named('local/thief:1') }]);
  for (const { digest } of secret.blobs) delete files[`blobs/${digest.replace(':', '/')}`];
  const archive = await writeTar(here.path('thief.tar'), files);
  expect((await here.run('import', archive)).code).not.toBe(0);
  expect((await site.get('/v2/local/thief/manifests/1')).status).toBe(404);
  for (const blob of secret.blobs) {
    expect((await site.get(`/v2/local/thief/blobs/${blob.digest}`)).status).toBe(404);
  }
});

test('a hosted image is exported as far as it was pushed, unless it has lost a layer', async () => {
  await using here = await hostedPlace({ sparseIndexes: true });
  await using site = await here.serve();
  const [amd64] = image.manifests;
  expect((await pushImage(site, 'local/app', amd64!)).status).toBe(201);
  expect((await putManifest(site, 'local/app', { reference: '1', manifest: image })).status).toBe(201);
  const sparse = await here.run('export', 'local/app:1', '--dry-run');
  expect(sparse).toMatchObject({ code: 0, stdout: expect.stringContaining('without linux/arm64') as string });
  const layer = amd64!.blobs.at(-1)!;
  expect((await send(site, ['DELETE', `/v2/local/app/blobs/${layer.digest}`])).status).toBe(202);
  const refused = await here.run('export', 'local/app:1', '--output', here.path('app.tar'));
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('is not whole in its hosted repository')]);
  expect((await pushBlob(site, 'local/app', layer)).status).toBe(201);
  expect((await here.run('export', 'local/app:1', '--output', here.path('app.tar'))).code).toBe(0);
});

test('a replica that does not keep the hosted repositories says where to import them', async () => {
  await using folder = await temporaryFolder();
  const secretFile = join(folder.path, 'secret');
  await writeFile(secretFile, 'x'.repeat(64));
  await using here = await hostedPlace(
    { owner: 'http://127.0.0.1:2' },
    { redis: { url: 'redis://127.0.0.1:1' }, cluster: { advertise: 'http://127.0.0.1:3', secretFile } },
  );
  const archive = await writeTar(
    here.path('app.tar'),
    layoutOf([{ manifest: image, annotations: named('local/app:1') }]),
  );
  const { code, stderr } = await here.run('import', archive);
  expect([code, stderr]).toEqual([1, expect.stringContaining('local/app is kept by another replica')]);
});
