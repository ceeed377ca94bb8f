import { createHash } from 'node:crypto';
import { isSignedBy, verifyBundle } from './bundle.ts';
import type { Evidence } from './evidence.ts';
import type { SignaturePolicy } from './policy.ts';
import { asFields, fieldsOf } from './reading.ts';
import { SignatureError } from './signature-error.ts';

const annotation = {
  signature: 'dev.cosignproject.cosign/signature',
  certificate: 'dev.sigstore.cosign/certificate',
  chain: 'dev.sigstore.cosign/chain',
  log: 'dev.sigstore.cosign/bundle',
  timestamp: 'dev.sigstore.cosign/rfc3161timestamp',
} as const;

type SimpleSigning = Extract<Evidence, { kind: 'simple-signing' }>;

/**
 * Verifies a signature over a payload of cosign's "simple signing" (cosign, SIGNATURE_SPEC): the signature first, then
 * that the payload is about this digest.
 * @returns whose signature it is, in words
 * @throws SignatureError
 */
export function verifySimpleSigning(
  { payload, annotations }: SimpleSigning,
  { digest, policy }: { readonly digest: string; readonly policy: SignaturePolicy },
): string {
  const signature = textOf(annotations[annotation.signature]);
  if (signature === undefined) throw new SignatureError('has no signature beside its payload');
  const by = verifySignature(signature, { payload, annotations, policy });
  const critical = asFields(fieldsOf(payload)['critical']);
  if (critical['type'] !== 'cosign container image signature') throw new SignatureError('is not about an image');
  // cosign reads members of any case, and writes this one in lower case.
  const image = Object.entries(asFields(critical['image'])).find(
    ([key]) => key.toLowerCase() === 'docker-manifest-digest',
  );
  if (image?.[1] !== digest) throw new SignatureError('is of another image');
  return by;
}

function verifySignature(
  signature: string,
  { payload, annotations, policy }: Omit<SimpleSigning, 'kind'> & { readonly policy: SignaturePolicy },
): string {
  const certificate = textOf(annotations[annotation.certificate]);
  if (certificate === undefined && !policy.needsLog) {
    const bytes = { bytes: payload, signature: Buffer.from(signature, 'base64') };
    const key = policy.keys.find((one) => isSignedBy(one.key, bytes));
    if (key === undefined) throw new SignatureError('is by none of the configured keys');
    return `the key ${key.name}`;
  }
  const log = logEntry(textOf(annotations[annotation.log]));
  const timestamp = asFields(parse(textOf(annotations[annotation.timestamp])))['SignedRFC3161Timestamp'];
  const material =
    certificate === undefined
      ? { publicKey: { hint: '' } }
      : { x509CertificateChain: { certificates: certificates(certificate) } };
  return verifyBundle(
    {
      mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
      verificationMaterial: {
        ...material,
        tlogEntries: log === undefined ? [] : [log],
        timestampVerificationData: {
          rfc3161Timestamps: typeof timestamp === 'string' ? [{ signedTimestamp: timestamp }] : [],
        },
      },
      messageSignature: { messageDigest: { algorithm: 'SHA2_256', digest: sha256(payload) }, signature },
    },
    { artifact: payload, policy },
  );
}

/** The entry of a transparency log as cosign keeps it, in the form of a bundle. */
function logEntry(text: string | undefined): object | undefined {
  if (text === undefined) return undefined;
  const { SignedEntryTimestamp: promise, Payload: payload } = asFields(parse(text));
  const { body, integratedTime, logIndex, logID } = asFields(payload);
  if (typeof body !== 'string' || typeof logID !== 'string' || typeof promise !== 'string') return undefined;
  const { kind, apiVersion } = asFields(parse(Buffer.from(body, 'base64').toString('utf8')));
  return {
    logIndex: String(logIndex),
    logId: { keyId: Buffer.from(logID, 'hex').toString('base64') },
    kindVersion: { kind, version: apiVersion },
    integratedTime: String(integratedTime),
    inclusionPromise: { signedEntryTimestamp: promise },
    canonicalizedBody: body,
  };
}

/** The certificate alone: the authorities come from the trust root. */
function certificates(pem: string): { readonly rawBytes: string }[] {
  const [, body = ''] = pem.split(/-----(?:BEGIN|END) CERTIFICATE-----/, 3);
  return [{ rawBytes: body.replaceAll(/\s/g, '') }];
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('base64');
}

function parse(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
