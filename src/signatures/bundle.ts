import { type KeyObject, verify, X509Certificate } from 'node:crypto';
import { createRequire } from 'node:module';
import type { Bundle } from '@sigstore/bundle';
import type { TrustMaterial, Verifier } from '@sigstore/verify';
import type { SignaturePolicy } from './policy.ts';
import { SignatureError } from './signature-error.ts';
import type { TrustRoot } from './trust-root.ts';

// Loaded with the first signature: it is a hundred files, which most mirrors never need.
const require = createRequire(import.meta.url);
const bundles = () => require('@sigstore/bundle') as typeof import('@sigstore/bundle');
const verifying = () => require('@sigstore/verify') as typeof import('@sigstore/verify');

/** "Code Signing" (RFC 5280, 4.2.1.12). */
const codeSigning = '1.3.6.1.5.5.7.3.3';

/**
 * Verifies a bundle against a policy.
 * @param artifact what a message signature is over; for a DSSE envelope only its own payload is verified
 * @returns whose signature it is, in words
 * @throws SignatureError
 */
export function verifyBundle(
  value: unknown,
  { artifact, policy }: { artifact: Buffer; policy: SignaturePolicy },
): string {
  const bundle = readBundle(value);
  return bundle.verificationMaterial.content.$case === 'publicKey'
    ? verifyByKeys(bundle, { artifact, policy })
    : verifyByCertificate(bundle, { artifact, policy });
}

/** The payload of a bundle with a DSSE envelope; `undefined` for a message signature. @throws SignatureError */
export function envelopeOf(value: unknown): { readonly payloadType: string; readonly payload: Buffer } | undefined {
  const { content } = readBundle(value);
  return content.$case === 'dsseEnvelope' ? content.dsseEnvelope : undefined;
}

/** Whether a signature over some bytes is by a key, as cosign signs: SHA-256, or Ed25519 over the bytes themselves. */
export function isSignedBy(key: KeyObject, { bytes, signature }: { bytes: Buffer; signature: Buffer }): boolean {
  return verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', bytes, key, signature);
}

function readBundle(value: unknown): Bundle {
  try {
    return bundles().bundleFromJSON(value);
  } catch {
    throw new SignatureError('is a bundle that cannot be read');
  }
}

interface Checked {
  readonly artifact: Buffer;
  readonly policy: SignaturePolicy;
}

/** By one of the keys of the policy; the hint in the bundle chooses none. */
function verifyByKeys(bundle: Bundle, { artifact, policy }: Checked): string {
  for (const { name, key } of policy.keys) {
    if (!isSignedBy(key, signedBytes(bundle, artifact))) continue;
    if (policy.needsLog) {
      const { trustRoot } = policy;
      if (trustRoot === undefined) throw new SignatureError('cannot be looked up: no trust root is configured');
      const material: TrustMaterial = {
        ...trustRoot.material,
        publicKey: () => ({ publicKey: key, validFor: () => true }),
      };
      verifyWith(bundle, { artifact, material, options: { tlogThreshold: 1, timestampThreshold: 0 } });
    }
    return `the key ${name}`;
  }
  throw new SignatureError('is by none of the configured keys');
}

function verifyByCertificate(bundle: Bundle, { artifact, policy }: Checked): string {
  const { trustRoot } = policy;
  if (!policy.hasSigners || trustRoot === undefined) {
    throw new SignatureError('is by a certificate, and no identities are configured');
  }
  const signer = verifyWith(bundle, { artifact, material: trustRoot.material, options: thresholds(trustRoot) });
  const { subjectAlternativeName: subject = '', extensions } = signer.identity ?? {};
  const issuer = extensions?.issuer ?? '';
  if (!isForSigning(bundle)) throw new SignatureError('is by a certificate that is not for signing code');
  if (!policy.trusts(issuer, subject)) throw new SignatureError(`is by ${printable(subject)} of ${printable(issuer)}`);
  return `${subject} of ${issuer}`;
}

/** A certificate lives for minutes: that it was valid at the signing has to be shown by a log or a timestamp. */
function thresholds({ hasLogs, hasCertificateLogs }: TrustRoot) {
  return { tlogThreshold: hasLogs ? 1 : 0, ctlogThreshold: hasCertificateLogs ? 1 : 0, timestampThreshold: 1 };
}

function verifyWith(
  bundle: Bundle,
  {
    artifact,
    material,
    options,
  }: { artifact: Buffer; material: TrustMaterial; options: ConstructorParameters<typeof Verifier>[1] },
) {
  try {
    return new (verifying().Verifier)(material, options).verify(verifying().toSignedEntity(bundle, artifact));
  } catch (error) {
    // Whatever is wrong with it: what it holds is not ours, and errors of its parsers are of many kinds.
    throw new SignatureError(`is not valid (${printable((error as Error).message)})`);
  }
}

/** The bytes that the signature of a bundle covers: the artifact, or the encoding of its envelope (DSSE, "Protocol"). */
function signedBytes({ content }: Bundle, artifact: Buffer): { readonly bytes: Buffer; readonly signature: Buffer } {
  if (content.$case === 'messageSignature') {
    return { bytes: artifact, signature: Buffer.from(content.messageSignature.signature) };
  }
  const { payloadType, payload, signatures } = content.dsseEnvelope;
  const type = Buffer.from(payloadType);
  const head = Buffer.from(`DSSEv1 ${type.length} ${payloadType} ${payload.length} `);
  return { bytes: Buffer.concat([head, payload]), signature: Buffer.from(signatures[0]?.sig ?? '') };
}

function isForSigning({ verificationMaterial: { content } }: Bundle): boolean {
  const raw =
    content.$case === 'certificate'
      ? content.certificate.rawBytes
      : content.$case === 'x509CertificateChain'
        ? content.x509CertificateChain.certificates[0]?.rawBytes
        : undefined;
  if (raw === undefined) return false;
  // Node calls the extended key usages `keyUsage`.
  const { keyUsage } = new X509Certificate(raw) as { readonly keyUsage?: readonly string[] };
  return keyUsage?.includes(codeSigning) === true;
}

/** A short text of others, safe in a message. */
export function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 200);
}
