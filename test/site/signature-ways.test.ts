import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launcher, run } from '../cli/spawn.ts';
import { startFleet } from '../cluster/support.ts';
import { localImage } from '../support/images.ts';
import { layoutOf, named, writeTar } from '../support/layouts.ts';
import { startRegistry } from '../support/registry.ts';
import { attachSimple, payloadOf, signingKey, simpleSignature } from '../support/sigstore.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { repository, startSigned } from './signed-mirror.ts';

const ociManifest = 'application/vnd.oci.image.manifest.v1+json';

test('a good signature in another repository does not count', async () => {
  await using mirror = await startSigned();
  const { registry, key } = mirror;
  const image = registry.addImage(repository, 'v1');
  const { digest } = registry.addManifest('org/other', 'v1', image.bytes.toString(), ociManifest);
  attachSimple(registry, {
    repository: 'org/other',
    digest,
    place: 'tag',
    signatures: [simpleSignature(payloadOf(digest), key)],
  });
  expect((await mirror.manifest('v1', 'org/other')).status).toBe(200);
  expect((await mirror.manifest('v1')).status).toBe(403);
});

test('a condition, a range or a HEAD tells nothing of an image without a signature', async () => {
  await using mirror = await startSigned();
  const { registry, site } = mirror;
  const { digest } = registry.addImage(repository, 'v1');
  for (const reference of ['v1', digest]) {
    const conditions: Record<string, string>[] = [
      { 'if-none-match': `"${digest}"` },
      { 'if-none-match': '*' },
      { range: 'bytes=0-1' },
    ];
    for (const headers of conditions) {
      for (const method of ['GET', 'HEAD']) {
        const answer = await site.get(`/v2/${repository}/manifests/${reference}?ns=reg.example`, { method, headers });
        expect([answer.status, answer.headers.etag, answer.headers['docker-content-digest']]).toEqual([
          403,
          undefined,
          undefined,
        ]);
      }
    }
  }
});

test('what an archive brought is under the policy', async () => {
  await using mirror = await startSigned();
  const { site } = mirror;
  const image = localImage({ label: 'imported' });
  const file = join(site.cacheDir, '..', 'images.tar');
  await writeTar(file, layoutOf([{ manifest: image, annotations: named(`reg.example/${repository}:imported`) }]));
  const environment = { MILLPOND_CACHE_DIR: site.cacheDir };
  expect((await run(launcher, ['import', file], { cwd: site.cacheDir, environment })).code).toBe(0);
  expect((await mirror.manifest(image.digest)).status).toBe(403);
  expect((await site.get(`/v2/${repository}/blobs/${image.digest}?ns=reg.example`)).status).toBe(403);
  expect((await site.get(`/v2/${repository}/blobs/${image.config.digest}?ns=reg.example`)).status).toBe(200);
});

describeWith(['redis-server'], 'replicas', () => {
  test('with a policy refuse what another one without it has', async () => {
    await using folder = await temporaryDirectory('signed');
    const keyFile = join(folder.path, 'cosign.pub');
    await writeFile(keyFile, signingKey().publicPem);
    await using registry = await startRegistry();
    const open = { 'reg.example': { urls: [registry.origin] } };
    await using fleet = await startFleet({ replicas: 1, upstreams: open });
    const guarded = await fleet.add({
      upstreams: { 'reg.example': { urls: [registry.origin], signatures: [{ keys: [keyFile] }] } },
    });
    const image = registry.addImage(repository, 'v1');
    const path = (reference: string) => `/v2/${repository}/manifests/${reference}?ns=reg.example`;
    expect((await fleet.sites[0]!.get(path('v1'))).status).toBe(200);
    for (const reference of ['v1', image.digest]) expect((await guarded.get(path(reference))).status).toBe(403);
    expect((await guarded.get(`/v2/${repository}/blobs/${image.digest}?ns=reg.example`)).status).toBe(403);
  });
});
