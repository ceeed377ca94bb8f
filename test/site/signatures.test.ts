import { expect, test } from 'vitest';
import { json } from '../support/client.ts';
import {
  attachBundle,
  attachSimple,
  FakeSigstore,
  payloadOf,
  simpleSignature,
  statementBundle,
} from '../support/sigstore.ts';
import { identity, repository, type Setting, startSigned } from './signed-mirror.ts';

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
  [
    'an identity, an hour ago, in a bundle',
    (digest, { registry, sigstore }) =>
      void attachBundle(registry, {
        repository,
        digest,
        bundle: sigstore.bundle(digest, { ...identity, atMs: now() - 3_600_000 }),
      }),
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
    'is signed by another workflow, in a bundle',
    (digest, { registry, sigstore }) => {
      const subject = 'https://github.test/org-evil/app@refs/heads/main';
      attachBundle(registry, {
        repository,
        digest,
        bundle: sigstore.bundle(digest, { ...identity, subject, atMs: now() }),
      });
    },
    /is by https:\/\/github\.test\/org-evil/,
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
