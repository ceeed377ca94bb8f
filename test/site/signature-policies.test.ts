import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { json } from '../support/client.ts';
import {
  attachBundle,
  attachSimple,
  messageBundle,
  payloadOf,
  simpleSignature,
  statementBundle,
} from '../support/sigstore.ts';
import { repository, startSigned } from './signed-mirror.ts';

test('an image whose signature was stripped is refused, whatever it was before elsewhere', async () => {
  await using mirror = await startSigned();
  const { registry, key } = mirror;
  const image = registry.addImage(repository, 'v1');
  const signature = simpleSignature(payloadOf(image.digest), key);
  attachSimple(registry, { repository, digest: image.digest, place: 'tag', signatures: [signature] });
  registry.removeTag(repository, `${image.digest.replace(':', '-')}.sig`);
  expect((await mirror.manifest('v1')).status).toBe(403);
});

test('the parts of a signed index are served, also alone, and those of no signed index are not', async () => {
  await using mirror = await startSigned();
  const { registry, key } = mirror;
  const parts = ['amd64', 'arm64'].map((architecture) =>
    registry.addImage(repository, undefined, { layers: [architecture] }),
  );
  const stray = registry.addImage(repository, undefined, { layers: ['stray'] });
  const index = registry.addIndex(
    repository,
    'v1',
    parts.map((manifest, at) => ({ manifest, platform: { os: 'linux', architecture: ['amd64', 'arm64'][at]! } })),
  );
  registry.addIndex(repository, 'unsigned', [{ manifest: stray, platform: { os: 'linux', architecture: 'amd64' } }]);
  attachSimple(registry, {
    repository,
    digest: index.digest,
    place: 'tag',
    signatures: [simpleSignature(payloadOf(index.digest), key)],
  });
  expect((await mirror.manifest('v1')).status).toBe(200);
  for (const { digest } of parts) expect((await mirror.manifest(digest)).status).toBe(200);
  expect((await mirror.manifest('unsigned')).status).toBe(403);
  expect((await mirror.manifest(stray.digest)).status).toBe(403);
});

test('signatures, attestations and lists of them need no signature; an image cannot pass for one', async () => {
  await using mirror = await startSigned();
  const { registry, key, other } = mirror;
  const image = registry.addImage(repository, 'v1');
  const { digest } = image;
  const signature = attachSimple(registry, {
    repository,
    digest,
    place: 'tag',
    signatures: [simpleSignature(payloadOf(digest), other)],
  });
  attachBundle(registry, { repository, digest, bundle: statementBundle(digest, key) });
  expect((await mirror.manifest(signature)).status).toBe(200);
  expect((await mirror.manifest(`${digest.replace(':', '-')}.sig`)).status).toBe(200);
  const listed = await mirror.site.get(`/v2/${repository}/referrers/${digest}?ns=reg.example`);
  const [referrer] = json<{ manifests: { digest: string }[] }>(listed).manifests;
  expect((await mirror.manifest(referrer!.digest)).status).toBe(200);
  const disguised = registry.addReferrer(repository, image, {
    artifactType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    layers: ['an image'],
  });
  registry.tag(repository, 'disguised', disguised.digest);
  expect((await mirror.manifest('disguised')).status).toBe(403);
});

test.each(['a statement', 'the manifest itself'] as const)(
  'a bundle with %s counts in a registry without referrers, where cosign 2 lists it under a wrong type',
  async (signed) => {
    await using mirror = await startSigned({}, { referrers: false });
    const { registry, key } = mirror;
    const { digest, bytes } = registry.addImage(repository, 'v1');
    const bundle = signed === 'a statement' ? statementBundle(digest, key) : messageBundle(bytes, key);
    const referrer = attachBundle(registry, { repository, digest, bundle });
    const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: referrer, size: 1 };
    const manifests = [{ ...entry, artifactType: 'application/vnd.oci.empty.v1+json' }];
    const index = 'application/vnd.oci.image.index.v1+json';
    registry.addManifest(
      repository,
      digest.replace(':', '-'),
      { schemaVersion: 2, mediaType: index, manifests },
      index,
    );
    expect((await mirror.manifest('v1')).status).toBe(200);
    const other = registry.addImage(repository, 'v2', { layers: ['other'] });
    expect((await mirror.manifest(other.digest)).status).toBe(403);
  },
);

test('repositories beside the policy are served as they are', async () => {
  await using mirror = await startSigned();
  mirror.registry.addImage('library/free', 'v1');
  expect((await mirror.manifest('v1', 'library/free')).status).toBe(200);
  expect(mirror.registry.requestsFor(/\.sig$/)).toEqual([]);
});

test('a registry that cannot be asked for signatures is no reason to serve without', async () => {
  await using mirror = await startSigned();
  const image = mirror.registry.addImage(repository, 'v1');
  mirror.registry.fault(/\.sig$|referrers/, { kind: 'status', status: 500 });
  const failed = await mirror.manifest('v1');
  expect(failed.status).toBe(502);
  mirror.registry.clearFaults();
  attachSimple(mirror.registry, {
    repository,
    digest: image.digest,
    place: 'tag',
    signatures: [simpleSignature(payloadOf(image.digest), mirror.key)],
  });
  await expect.poll(async () => (await mirror.manifest('v1')).status).toBe(200);
});

test('a policy that only warns serves with a warning, a line in the log and a count', async () => {
  await using mirror = await startSigned({ mode: 'warn' });
  const image = mirror.registry.addImage(repository, 'v1');
  const served = await mirror.manifest('v1');
  expect([served.status, served.headers['docker-content-digest']]).toEqual([200, image.digest]);
  expect(served.headers['warning']).toMatch(
    /^299 - ".*carries no signature; upstreams.*signatures\[0\] asks for one by /,
  );
  expect(mirror.site.logLines.filter(({ msg }) => msg === 'no valid signature')).toMatchObject([
    { repository: 'reg.example/org/app', mode: 'warn' },
  ]);
  expect(await mirror.metrics()).toMatch(/^millpond_signature_verdicts_total\{result="warned"\} 1$/m);
});

test('once verified, an image is served without its registry, and its signature is there for clients', async () => {
  await using mirror = await startSigned();
  const { registry, key } = mirror;
  const image = registry.addImage(repository, 'v1');
  const { digest } = image;
  attachSimple(registry, { repository, digest, place: 'tag', signatures: [simpleSignature(payloadOf(digest), key)] });
  expect((await mirror.manifest('v1')).status).toBe(200);
  for (const { digest: blob } of [image.config, ...image.layers])
    await mirror.site.get(`/v2/${repository}/blobs/${blob}?ns=reg.example`);
  await registry.suspend();
  expect((await mirror.manifest('v1')).status).toBe(200);
  expect((await mirror.manifest(digest)).status).toBe(200);
  expect((await mirror.manifest(`${digest.replace(':', '-')}.sig`)).status).toBe(200);
});

test('a key that is replaced takes its verdicts with it, and answers that were kept by them', async () => {
  await using mirror = await startSigned();
  const { registry, key, other } = mirror;
  const { digest } = registry.addImage(repository, 'v1');
  attachSimple(registry, { repository, digest, place: 'tag', signatures: [simpleSignature(payloadOf(digest), key)] });
  for (let count = 0; count < 3; count += 1) expect((await mirror.manifest(digest)).status).toBe(200);
  await writeFile(mirror.keyFile, other.publicPem);
  await expect.poll(async () => (await mirror.manifest(digest)).status).toBe(403);
  await writeFile(mirror.keyFile, key.publicPem);
  await expect.poll(async () => (await mirror.manifest(digest)).status).toBe(200);
});

test('signatures by keys need an entry in the log where the policy says so', async () => {
  await using mirror = await startSigned({ transparencyLog: true });
  const { registry, key } = mirror;
  const { digest } = registry.addImage(repository, 'v1');
  attachSimple(registry, { repository, digest, place: 'tag', signatures: [simpleSignature(payloadOf(digest), key)] });
  const denied = await mirror.manifest('v1');
  expect([denied.status, denied.body.toString()]).toEqual([403, expect.stringContaining('is not valid')]);
});
