import { expect, test } from 'vitest';
import { CertificateLog } from '../support/certificate-log.ts';
import { json } from '../support/client.ts';
import { type ProofBundle, type ProofOptions, proofBundle, proofOf } from '../support/proof-bundle.ts';
import { attachBundle, attachSimple, FakeSigstore, payloadOf, type SimpleSignature } from '../support/sigstore.ts';
import { TimestampAuthority } from '../support/timestamp-authority.ts';
import { identity, repository, startSigned } from './signed-mirror.ts';

const hourMs = 3_600_000;
const nowMs = Date.now();
/** The certificates of these signatures have long expired. */
const atMs = nowMs - hourMs;
const authority = new TimestampAuthority({ fromMs: nowMs - 240 * hourMs, toMs: nowMs + 240 * hourMs });
const certificateLog = new CertificateLog();

type Mirror = Awaited<ReturnType<typeof startSigned>>;

/** A mirror that trusts one authority of each kind, and no key. */
function start(kinds: { readonly logs?: boolean; readonly certificateLogs?: boolean } = {}): Promise<Mirror> {
  const { logs = true, certificateLogs = false } = kinds;
  return startSigned({ keys: [] }, {}, (root) => ({
    ...root,
    ...(!logs && { tlogs: [] }),
    ...(certificateLogs && { ctlogs: [certificateLog.trusted] }),
    timestampAuthorities: [authority.trusted],
  }));
}

function bundleOf({ sigstore }: Mirror, digest: string, options: Partial<ProofOptions> = {}): ProofBundle {
  return proofBundle(sigstore, digest, { ...identity, atMs, ...options });
}

/** What a mirror says of an image with what was attached to it. */
async function verdict(
  mirror: Mirror,
  attach: (digest: string) => void,
): Promise<{ readonly status: number; readonly message: string | undefined }> {
  const image = mirror.registry.addImage(repository, 'v1');
  attach(image.digest);
  const answer = await mirror.manifest('v1');
  if (answer.status === 200) return { status: 200, message: undefined };
  return { status: answer.status, message: json<{ errors: { message: string }[] }>(answer).errors[0]?.message };
}

const stamp = (signature: Buffer): Buffer => authority.stamp(signature, atMs);

test.each<[string, Partial<ProofOptions>]>([
  ['a proof and a promise of the log', {}],
  ['a proof of the log and a timestamp, as the second version of the log has it', { hasPromise: false, stamp }],
  ['a proof, a promise and a timestamp', { stamp }],
])('a bundle of an expired certificate with %s is verified by what the trust root holds', async (_, options) => {
  await using mirror = await start();
  const { status, message } = await verdict(mirror, (digest) =>
    attachBundle(mirror.registry, { repository, digest, bundle: bundleOf(mirror, digest, options) }),
  );
  expect([status, message]).toEqual([200, undefined]);
});

const entryOf = (bundle: ProofBundle) => bundle.verificationMaterial.tlogEntries[0]!;

test.each<[string, Partial<ProofOptions>, (bundle: ProofBundle, mirror: Mirror, digest: string) => void]>([
  ['whose entry was stripped', {}, ({ verificationMaterial }) => (verificationMaterial.tlogEntries = [])],
  [
    'whose entry was stripped, with a timestamp',
    { stamp },
    ({ verificationMaterial }) => (verificationMaterial.tlogEntries = []),
  ],
  [
    'whose promise was stripped: nothing vouches for the time',
    {},
    (bundle) => void delete entryOf(bundle).inclusionPromise,
  ],
  [
    'whose timestamp was stripped',
    { hasPromise: false, stamp },
    ({ verificationMaterial }) => (verificationMaterial.timestampVerificationData.rfc3161Timestamps = []),
  ],
  ['whose time was changed', {}, (bundle) => (entryOf(bundle).integratedTime = String(Math.floor(atMs / 1000) + 60))],
  ['whose proof has another place', {}, (bundle) => (entryOf(bundle).inclusionProof.logIndex = '3')],
  [
    'whose proof has its hashes in another order',
    {},
    (bundle) => {
      const proof = entryOf(bundle).inclusionProof;
      proof.hashes = proof.hashes.toReversed();
    },
  ],
  ['whose proof has a hash less', {}, (bundle) => void entryOf(bundle).inclusionProof.hashes.pop()],
  [
    'whose proof is of another entry',
    {},
    (bundle, { sigstore }) => (entryOf(bundle).inclusionProof = proofOf(Buffer.from('another'), sigstore)),
  ],
  [
    'whose proof is signed by another log',
    {},
    (bundle) => {
      const body = Buffer.from(entryOf(bundle).canonicalizedBody, 'base64');
      entryOf(bundle).inclusionProof = proofOf(body, new FakeSigstore());
    },
  ],
  [
    'whose proof has no signature',
    {},
    (bundle) => {
      const { checkpoint } = entryOf(bundle).inclusionProof;
      checkpoint.envelope = checkpoint.envelope.replace(/\n\n[^]*$/, '\n\n');
    },
  ],
  [
    'with the entry of another signature of the same image',
    {},
    (bundle, mirror, digest) =>
      (bundle.verificationMaterial.tlogEntries = bundleOf(mirror, digest).verificationMaterial.tlogEntries),
  ],
  [
    'with the certificate of another signature of the same image',
    {},
    (bundle, mirror, digest) =>
      (bundle.verificationMaterial.certificate = bundleOf(mirror, digest).verificationMaterial.certificate),
  ],
  [
    'with the same entry twice and no promise',
    { hasPromise: false },
    ({ verificationMaterial: { tlogEntries } }) => void tlogEntries.push(tlogEntries[0]!),
  ],
  [
    'with the timestamp of another signature',
    { hasPromise: false, stamp: () => authority.stamp(Buffer.from('another'), atMs) },
    () => undefined,
  ],
  [
    'with a timestamp of after the certificate had expired',
    { hasPromise: false, stamp: (signature) => authority.stamp(signature, nowMs) },
    () => undefined,
  ],
  [
    'with a timestamp of before the certificate was made',
    { hasPromise: false, stamp: (signature) => authority.stamp(signature, atMs - hourMs) },
    () => undefined,
  ],
  [
    'with a timestamp of an authority that is not trusted',
    {
      hasPromise: false,
      stamp: (signature) =>
        new TimestampAuthority({ fromMs: nowMs - 240 * hourMs, toMs: nowMs + 240 * hourMs }).stamp(signature, atMs),
    },
    () => undefined,
  ],
  [
    'with a timestamp whose time was changed',
    {
      hasPromise: false,
      stamp(signature) {
        const late = authority.stamp(signature, nowMs);
        const wanted = authority.stamp(signature, atMs);
        const shown = new Date(atMs).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '');
        const place = wanted.indexOf(shown);
        late.write(shown, place);
        return late;
      },
    },
    () => undefined,
  ],
  ['with a timestamp that is nonsense', { hasPromise: false, stamp: () => Buffer.from('nonsense') }, () => undefined],
])('a bundle %s is refused', async (_, options, change) => {
  await using mirror = await start();
  const { status, message } = await verdict(mirror, (digest) => {
    const bundle = bundleOf(mirror, digest, options);
    change(bundle, mirror, digest);
    attachBundle(mirror.registry, { repository, digest, bundle });
  });
  expect([status, message]).toEqual([
    403,
    expect.stringMatching(/carries a signature that (?:is not valid|is a bundle|cannot)/),
  ]);
});

test('a good bundle of another image is refused', async () => {
  await using mirror = await start();
  const other = mirror.registry.addImage(repository, 'v0', { layers: ['another'] });
  const { status, message } = await verdict(mirror, (digest) =>
    attachBundle(mirror.registry, { repository, digest, bundle: bundleOf(mirror, other.digest, { stamp }) }),
  );
  expect([status, message]).toEqual([403, expect.stringContaining('is of another image')]);
});

test.each<[string, 'tag' | 'referrer', number, (signature: Buffer) => Buffer]>([
  ['a timestamp, under the tag', 'tag', 200, stamp],
  ['a timestamp, as a referrer', 'referrer', 200, stamp],
  ['the timestamp of another signature', 'tag', 403, () => authority.stamp(Buffer.from('another'), atMs)],
  ['a timestamp of after its end', 'tag', 403, (signature) => authority.stamp(signature, nowMs)],
  ['no timestamp', 'tag', 403, () => Buffer.alloc(0)],
])('without logs, a signature by an expired certificate with %s (%s): %i', async (_, place, wanted, stamped) => {
  await using mirror = await start({ logs: false });
  const { status } = await verdict(mirror, (digest) => {
    const signed = mirror.sigstore.sign(payloadOf(digest), { ...identity, atMs, isLogged: false });
    const bytes = Buffer.from(signed.annotations['dev.cosignproject.cosign/signature']!, 'base64');
    const response = stamped(bytes);
    const annotation = JSON.stringify({ SignedRFC3161Timestamp: response.toString('base64') });
    const annotations = {
      ...signed.annotations,
      ...(response.length > 0 && { 'dev.sigstore.cosign/rfc3161timestamp': annotation }),
    };
    const signatures: readonly SimpleSignature[] = [{ ...signed, annotations }];
    attachSimple(mirror.registry, { repository, digest, place, signatures });
  });
  expect(status).toBe(wanted);
});

test.each<[string, number, ProofOptions['stamped']]>([
  ['is in the log', 200, certificateLog.stamped(atMs)],
  ['is in no log', 403, undefined],
  ['is in a log that is not trusted', 403, new CertificateLog().stamped(atMs)],
  [
    'has the statement of a log about another one',
    403,
    {
      ...certificateLog.stamped(atMs),
      value: (_, authority_) => certificateLog.stamped(atMs).value(Buffer.from('another'), authority_),
    },
  ],
])('where certificates have to be in a log, a bundle whose certificate %s: %i', async (_, wanted, stamped) => {
  await using mirror = await start({ certificateLogs: true });
  const { status, message } = await verdict(mirror, (digest) =>
    attachBundle(mirror.registry, { repository, digest, bundle: bundleOf(mirror, digest, { stamped }) }),
  );
  expect([status, message]).toEqual([wanted, wanted === 200 ? undefined : expect.stringContaining('is not valid')]);
});
