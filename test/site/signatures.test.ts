import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { json } from '../support/client.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import {
  attachBundle,
  attachSimple,
  FakeSigstore,
  payloadOf,
  type SigningKey,
  signingKey,
  simpleSignature,
  statementBundle,
} from '../support/sigstore.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

const repository = 'org/app';
const identity = {
  issuer: 'https://token.actions.test',
  subject: 'https://github.test/org/app/.github/workflows/ci.yml@refs/heads/main',
};

interface Setting {
  readonly registry: ScriptedRegistry;
  readonly key: SigningKey;
  readonly other: SigningKey;
  readonly sigstore: FakeSigstore;
}

/** A mirror of a registry whose images must be signed by a key or an identity. */
async function startSigned(policy: object = {}, registryOptions: Parameters<typeof startRegistry>[0] = {}) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const registry = owned.use(await startRegistry(registryOptions));
  const setting: Setting = { registry, key: signingKey(), other: signingKey(), sigstore: new FakeSigstore() };
  const [keyFile, rootFile] = [join(folder.path, 'cosign.pub'), join(folder.path, 'trusted_root.json')];
  await writeFile(keyFile, setting.key.publicPem);
  await writeFile(rootFile, JSON.stringify(setting.sigstore.trustRoot));
  const signatures = [
    {
      repositories: ['org/**'],
      keys: [keyFile],
      identities: [{ ...identity, subject: 'https://github.test/org/*@refs/heads/main' }],
      trustRoot: rootFile,
      ...policy,
    },
  ];
  const site = owned.use(
    await startTestSite({
      upstreams: { 'reg.example': { urls: [registry.origin], signatures } },
      config: { cache: { tagTtl: '0s', negativeTtl: '0s' } },
    }),
  );
  const held = owned.move();
  return {
    ...setting,
    site,
    keyFile,
    manifest: (reference: string, name = repository) => site.get(`/v2/${name}/manifests/${reference}?ns=reg.example`),
    head: (reference: string) => site.head(`/v2/${repository}/manifests/${reference}?ns=reg.example`),
    metrics: async () => (await site.get('/metrics')).body.toString(),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

const now = () => Date.now();

test.each<[string, (digest: string, setting: Setting) => void]>([
  [
    'a key, under the tag',
    (digest, { registry, key }) =>
      void attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [simpleSignature(payloadOf(digest), key)],
      }),
  ],
  [
    'a key, as a referrer of cosign 2',
    (digest, { registry, key }) =>
      void attachSimple(registry, {
        repository,
        digest,
        place: 'referrer',
        signatures: [simpleSignature(payloadOf(digest), key)],
      }),
  ],
  [
    'a key, in a bundle',
    (digest, { registry, key }) => attachBundle(registry, { repository, digest, bundle: statementBundle(digest, key) }),
  ],
  [
    'a key, after one of another key',
    (digest, { registry, key, other }) =>
      void attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [other, key].map((one) => simpleSignature(payloadOf(digest), one)),
      }),
  ],
  [
    'an identity, an hour ago, with an entry in the log',
    (digest, { registry, sigstore }) => {
      const signatures = [sigstore.sign(payloadOf(digest), { ...identity, atMs: now() - 3_600_000 })];
      attachSimple(registry, { repository, digest, place: 'tag', signatures });
    },
  ],
])('an image that is signed by %s is served', async (_, attach) => {
  await using mirror = await startSigned();
  const image = mirror.registry.addImage(repository, 'v1');
  attach(image.digest, mirror);
  expect((await mirror.head('v1')).status).toBe(200);
  const served = await mirror.manifest('v1');
  expect([served.status, served.headers['docker-content-digest']]).toEqual([200, image.digest]);
  expect((await mirror.manifest(image.digest)).status).toBe(200);
  expect(await mirror.metrics()).toMatch(/^millpond_signature_verdicts_total\{result="verified"\} 1$/m);
});

test.each<[string, (digest: string, setting: Setting) => void, RegExp]>([
  ['is not signed', () => undefined, /carries no signature/],
  [
    'is signed by another key',
    (digest, { registry, other }) =>
      void attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [simpleSignature(payloadOf(digest), other)],
      }),
    /by none of the configured keys/,
  ],
  [
    'has the good signature of another image',
    (digest, { registry, key }) => {
      const another = registry.addImage(repository, 'v0', { layers: ['another'] });
      attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [simpleSignature(payloadOf(another.digest), key)],
      });
    },
    /is of another image/,
  ],
  [
    'has the good bundle of another image',
    (digest, { registry, key }) => {
      const another = registry.addImage(repository, 'v0', { layers: ['another'] });
      attachBundle(registry, { repository, digest, bundle: statementBundle(another.digest, key) });
    },
    /is of another image/,
  ],
  [
    'has an attestation only',
    (digest, { registry, key }) =>
      attachBundle(registry, {
        repository,
        digest,
        bundle: statementBundle(digest, { ...key, predicateType: 'https://slsa.dev/provenance/v1' }),
      }),
    /of an attestation/,
  ],
  [
    'has a signature over something else',
    (digest, { registry, key }) =>
      void attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [simpleSignature(payloadOf(digest, 'something else'), key)],
      }),
    /not about an image/,
  ],
  [
    'has a bundle whose envelope was changed',
    (digest, { registry, key }) => {
      const bundle = statementBundle(digest, key) as { dsseEnvelope: { payload: string } };
      bundle.dsseEnvelope.payload = Buffer.from('{}').toString('base64');
      attachBundle(registry, { repository, digest, bundle });
    },
    /by none of the configured keys/,
  ],
  [
    'is signed by another workflow',
    (digest, { registry, sigstore }) => {
      const subject = 'https://github.test/org-evil/app@refs/heads/main';
      attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [sigstore.sign(payloadOf(digest), { ...identity, subject, atMs: now() })],
      });
    },
    /is by https:\/\/github\.test\/org-evil/,
  ],
  [
    'is signed by the right name of another issuer',
    (digest, { registry, sigstore }) => {
      attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [sigstore.sign(payloadOf(digest), { ...identity, issuer: 'https://evil.test', atMs: now() })],
      });
    },
    /of https:\/\/evil\.test/,
  ],
  [
    'is signed with a certificate that has expired, and no log says when',
    (digest, { registry, sigstore }) => {
      const signatures = [sigstore.sign(payloadOf(digest), { ...identity, atMs: now() - 3_600_000, isLogged: false })];
      attachSimple(registry, { repository, digest, place: 'tag', signatures });
    },
    /is not valid/,
  ],
  [
    'is signed with a certificate of another authority',
    (digest, { registry }) => {
      const signatures = [new FakeSigstore().sign(payloadOf(digest), { ...identity, atMs: now() })];
      attachSimple(registry, { repository, digest, place: 'tag', signatures });
    },
    /is not valid/,
  ],
  [
    'is signed with a certificate for something else',
    (digest, { registry, sigstore }) => {
      const signatures = [
        sigstore.sign(payloadOf(digest), { ...identity, atMs: now(), usages: ['1.3.6.1.5.5.7.3.1'] }),
      ];
      attachSimple(registry, { repository, digest, place: 'tag', signatures });
    },
    /not for signing code/,
  ],
  [
    'has the entry of a log for another signature',
    (digest, { registry, sigstore }) => {
      const [one, two] = [0, 1].map(() => sigstore.sign(payloadOf(digest), { ...identity, atMs: now() }));
      const log = 'dev.sigstore.cosign/bundle';
      const annotations = { ...one!.annotations, [log]: two!.annotations[log]! };
      attachSimple(registry, { repository, digest, place: 'tag', signatures: [{ ...one!, annotations }] });
    },
    /is not valid/,
  ],
  [
    'has a signature that is nonsense',
    (digest, { registry }) => {
      const annotations = { 'dev.cosignproject.cosign/signature': '*', 'dev.sigstore.cosign/certificate': 'nonsense' };
      attachSimple(registry, {
        repository,
        digest,
        place: 'tag',
        signatures: [{ payload: payloadOf(digest), annotations }],
      });
    },
    /carries a signature that/,
  ],
])('an image that %s is refused, and the error says what is missing', async (_, attach, message) => {
  await using mirror = await startSigned();
  const image = mirror.registry.addImage(repository, 'v1');
  attach(image.digest, mirror);
  const denied = await mirror.manifest('v1');
  expect(denied.status).toBe(403);
  const { errors } = json(denied) as { errors: { code: string; message: string }[] };
  expect(errors[0]?.code).toBe('DENIED');
  expect(errors[0]?.message).toMatch(message);
  expect(errors[0]?.message).toContain('asks for one by the key cosign.pub or https://github.test/org/*');
  expect((await mirror.head('v1')).status).toBe(403);
  expect((await mirror.manifest(image.digest)).status).toBe(403);
});

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
  await expect.poll(async () => (await mirror.manifest(digest)).status, { timeout: 10_000 }).toBe(403);
  await writeFile(mirror.keyFile, key.publicPem);
  await expect.poll(async () => (await mirror.manifest(digest)).status, { timeout: 10_000 }).toBe(200);
});

test('signatures by keys need an entry in the log where the policy says so', async () => {
  await using mirror = await startSigned({ transparencyLog: true });
  const { registry, key } = mirror;
  const { digest } = registry.addImage(repository, 'v1');
  attachSimple(registry, { repository, digest, place: 'tag', signatures: [simpleSignature(payloadOf(digest), key)] });
  const denied = await mirror.manifest('v1');
  expect([denied.status, denied.body.toString()]).toEqual([403, expect.stringContaining('is not valid')]);
});
