import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { envelopeOf, printable, verifyBundle } from './bundle.ts';
import { type Evidence, evidenceOf, type FoundBy } from './evidence.ts';
import type { Material, Waiting } from './material.ts';
import type { SignaturePolicy } from './policy.ts';
import { asFields, fieldsOf } from './reading.ts';
import { SignatureError } from './signature-error.ts';
import { verifySimpleSigning } from './simple-signing.ts';

/** Whether an image may be taken for signed. */
export type Verdict =
  | { readonly kind: 'verified'; readonly by: string; readonly how: FoundBy | 'index' | 'material' }
  /** `reason`: what is missing, as a clause about the image. */
  | { readonly kind: 'unsigned'; readonly reason: string };

/** "cosign sign" in bundles: a statement of this type says nothing but that the image is signed. */
const signType = 'https://sigstore.dev/cosign/sign/v1';
const statementTypes: readonly unknown[] = ['https://in-toto.io/Statement/v1', 'https://in-toto.io/Statement/v0.1'];

/**
 * Looks for a signature of a manifest that a policy accepts.
 * @throws RegistryError if none was found and not all could be looked at; the signal's reason
 */
export async function findSignature(
  digest: Digest,
  { policy, material, signal }: Waiting & { readonly policy: SignaturePolicy; readonly material: Material },
): Promise<Verdict> {
  const reasons = new Set<string>();
  let failure: unknown;
  for await (const { by: how, evidence, error } of evidenceOf(digest, { material, signal })) {
    signal.throwIfAborted();
    if (evidence === undefined) {
      failure ??= error;
      continue;
    }
    try {
      return { kind: 'verified', by: await verifyEvidence(evidence, { digest, policy, material, signal }), how };
    } catch (refusal) {
      if (!(refusal instanceof SignatureError)) throw refusal;
      reasons.add(refusal.message);
    }
  }
  // Evidence that could not be read may be the signature that counts.
  if (failure !== undefined) throw failure as Error;
  const [one = 'is not valid'] = reasons;
  return { kind: 'unsigned', reason: reasons.size === 0 ? 'carries no signature' : `carries a signature that ${one}` };
}

interface Context extends Waiting {
  readonly digest: Digest;
  readonly policy: SignaturePolicy;
  readonly material: Material;
}

async function verifyEvidence(evidence: Evidence, { digest, policy, material, signal }: Context): Promise<string> {
  if (evidence.kind === 'simple-signing') return guarded(() => verifySimpleSigning(evidence, { digest, policy }));
  const value: unknown = fieldsOf(evidence.text);
  const envelope = guarded(() => envelopeOf(value));
  if (envelope === undefined) {
    // A message signature is over the manifest itself.
    const artifact = await material.manifest(digest, { signal });
    if (artifact === undefined) throw new SignatureError('is of a manifest that is not there');
    return guarded(() => verifyBundle(value, { artifact, policy }));
  }
  const by = guarded(() => verifyBundle(value, { artifact: Buffer.alloc(0), policy }));
  checkStatement(envelope, digest);
  return by;
}

/** The signed bytes have to be the statement "this digest is signed" (in-toto, "Statement"). */
function checkStatement({ payloadType, payload }: { payloadType: string; payload: Buffer }, digest: Digest): void {
  if (payloadType !== 'application/vnd.in-toto+json') throw new SignatureError('is not about an image');
  const { _type: type, predicateType, subject } = fieldsOf(payload);
  if (!statementTypes.includes(type) || predicateType !== signType) {
    throw new SignatureError('is of an attestation, not of the image');
  }
  const subjects: unknown[] = Array.isArray(subject) ? subject : [];
  const isOurs = (one: unknown): boolean =>
    asFields(asFields(one)['digest'])[digestAlgorithm(digest)] === digestHex(digest);
  if (!subjects.some(isOurs)) throw new SignatureError('is of another image');
}

/** An error of a parser of signatures means that the signature does not count. */
function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof SignatureError) throw error;
    throw new SignatureError(`cannot be read (${printable((error as Error).message)})`);
  }
}
