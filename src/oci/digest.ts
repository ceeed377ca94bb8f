import { createHash, type Hash, hash as oneHash } from 'node:crypto';
import { RegistryError } from './error.ts';

/** A content digest that {@link parseDigest} has accepted: `sha256:<64 hex>` or `sha512:<128 hex>`, lower case. */
export type Digest = string & { readonly __digest: never };

export type DigestAlgorithm = 'sha256' | 'sha512';

const digestPattern = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/**
 * The only function that turns a string into a {@link Digest} (image-spec, "Digests": the registered algorithms).
 * @throws RegistryError DIGEST_INVALID
 */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) {
    throw new RegistryError('bad-digest', 'not a sha256 or sha512 digest in lower-case hex', {
      detail: { digest: text.slice(0, 200) },
    });
  }
  return text;
}

export function isDigest(text: string): text is Digest {
  return digestPattern.test(text);
}

export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

/** The hexadecimal part of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice(7);
}

/** A running hash of the algorithm that a digest names. */
export function hasherFor(digest: Digest): Hash {
  return createHash(digestAlgorithm(digest));
}

/** Finishes a running hash and returns its digest; the hash cannot be used afterwards. */
export function finishDigest(algorithm: DigestAlgorithm, hash: Hash): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest;
}

/** The digest of bytes in memory. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${oneHash(algorithm, bytes)}` as Digest;
}

/** The value of `Repr-Digest` (RFC 9530) that says the same as a digest. */
export function reprDigest(digest: Digest): string {
  const name = digestAlgorithm(digest) === 'sha256' ? 'sha-256' : 'sha-512';
  return `${name}=:${Buffer.from(digestHex(digest), 'hex').toString('base64')}:`;
}
