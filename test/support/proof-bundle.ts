import { createHash } from 'node:crypto';
import { type FakeSigstore, statementBundle } from './sigstore.ts';

/** Who signs, when, and what shows it. */
export interface ProofOptions {
  readonly issuer: string;
  readonly subject: string;
  readonly atMs: number;
  /** What the log says of the time; without a promise nothing vouches for it (default true). */
  readonly hasPromise?: boolean;
  /** A timestamp over the signature. */
  readonly stamp?: ((signature: Buffer) => Buffer) | undefined;
  /** Signed certificate timestamps, as an extension of the certificate. */
  readonly stamped?: Parameters<FakeSigstore['certify']>[0]['stamped'];
}

/** A bundle as cosign 3 writes it without a key: a certificate, and a proof that the log has the signature. */
export interface ProofBundle {
  mediaType: string;
  verificationMaterial: {
    certificate: { rawBytes: string };
    tlogEntries: ProvenEntry[];
    timestampVerificationData: { rfc3161Timestamps: { signedTimestamp: string }[] };
  };
  dsseEnvelope: { payload: string; payloadType: string; signatures: { sig: string }[] };
}

interface ProvenEntry {
  logIndex: string;
  logId: { keyId: string };
  kindVersion: { kind: string; version: string };
  integratedTime: string;
  inclusionPromise?: { signedEntryTimestamp: string };
  inclusionProof: InclusionProof;
  canonicalizedBody: string;
}

interface InclusionProof {
  logIndex: string;
  treeSize: string;
  rootHash: string;
  hashes: string[];
  checkpoint: { envelope: string };
}

export function proofBundle(sigstore: FakeSigstore, digest: string, options: ProofOptions): ProofBundle {
  const { hasPromise = true, stamp } = options;
  const { privateKey, certificate } = sigstore.certify(options);
  const { dsseEnvelope } = statementBundle(digest, { privateKey }) as Pick<ProofBundle, 'dsseEnvelope'>;
  const signature = dsseEnvelope.signatures[0]!.sig;
  const value = createHash('sha256').update(Buffer.from(dsseEnvelope.payload, 'base64')).digest('hex');
  const spec = { payloadHash: { algorithm: 'sha256', value }, signatures: [{ signature }] };
  const { promise, signedEntry } = sigstore.promise({ apiVersion: '0.0.1', kind: 'dsse', spec }, options.atMs);
  const { body, integratedTime, logIndex } = signedEntry;
  return {
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: {
      certificate: { rawBytes: certificate.toString('base64') },
      tlogEntries: [
        {
          logIndex: String(logIndex),
          logId: { keyId: sigstore.logId.toString('base64') },
          kindVersion: { kind: 'dsse', version: '0.0.1' },
          integratedTime: String(integratedTime),
          ...(hasPromise && { inclusionPromise: { signedEntryTimestamp: promise } }),
          inclusionProof: proofOf(Buffer.from(body, 'base64'), sigstore),
          canonicalizedBody: body,
        },
      ],
      timestampVerificationData: {
        rfc3161Timestamps: stamp
          ? [{ signedTimestamp: stamp(Buffer.from(signature, 'base64')).toString('base64') }]
          : [],
      },
    },
    dsseEnvelope,
  };
}

/** A proof that a log of six entries has this one (RFC 9162, 2.1), with its state as it signs it. */
export function proofOf(body: Buffer, log: Pick<FakeSigstore, 'logId' | 'signAsLog'>): InclusionProof {
  const others = ['one', 'two', 'three', 'four', 'five'].map((text) => Buffer.from(text));
  const index = 4;
  const leaves = [...others.slice(0, index), body, ...others.slice(index)].map((leaf) => hash(0, leaf));
  const root = rootOf(leaves);
  const note = `rekor.test - 1\n${leaves.length}\n${root.toString('base64')}\n`;
  const signed = Buffer.concat([log.logId.subarray(0, 4), log.signAsLog(Buffer.from(note))]);
  return {
    logIndex: String(index),
    treeSize: String(leaves.length),
    rootHash: root.toString('base64'),
    hashes: pathTo(index, leaves).map((one) => one.toString('base64')),
    checkpoint: { envelope: `${note}\n\u2014 rekor.test ${signed.toString('base64')}\n` },
  };
}

function hash(kind: 0 | 1, ...parts: readonly Buffer[]): Buffer {
  return createHash('sha256')
    .update(Buffer.concat([Buffer.from([kind]), ...parts]))
    .digest();
}

function halves(leaves: readonly Buffer[]): readonly [readonly Buffer[], readonly Buffer[]] {
  const size = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return [leaves.slice(0, size), leaves.slice(size)];
}

function rootOf(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 1) return leaves[0]!;
  const [left, right] = halves(leaves);
  return hash(1, rootOf(left), rootOf(right));
}

function pathTo(index: number, leaves: readonly Buffer[]): Buffer[] {
  if (leaves.length === 1) return [];
  const [left, right] = halves(leaves);
  return index < left.length
    ? [...pathTo(index, left), rootOf(right)]
    : [...pathTo(index - left.length, right), rootOf(left)];
}
