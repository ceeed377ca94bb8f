import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { matchesGlob, repositoryGlob } from '../oci/glob.ts';
import { parseTrustRoot, type TrustRoot } from './trust-root.ts';

/** A public key whose signatures count. */
export interface TrustedKey {
  /** The name of its file. */
  readonly name: string;
  readonly key: KeyObject;
}

/** A signer of certificates: who it is, and who says so. */
export interface TrustedSigner {
  /** Of the identity, exactly, such as `https://token.actions.githubusercontent.com`. */
  readonly issuer: string;
  /** The subject alternative name of the certificate; `*` matches any characters. */
  readonly subject: string;
}

/** The parts of a policy. */
export interface PolicyOptions {
  /** Where it is written, for messages: `upstreams.ghcr.io.signatures[0]`. */
  readonly place: string;
  /** `off`: nothing is looked at. */
  readonly mode: 'enforce' | 'warn' | 'off';
  /** Patterns over the repositories of the upstream. */
  readonly repositories: readonly string[];
  /** `pem`: one public key. */
  readonly keys: readonly { readonly name: string; readonly pem: string }[];
  readonly signers: readonly TrustedSigner[];
  /** A `trusted_root.json` of Sigstore. */
  readonly trustRoot: string | undefined;
  /** Whether signatures by keys need an entry in a transparency log of the trust root. */
  readonly needsLog: boolean;
}

/** Which signatures the images of some repositories must carry. */
export interface SignaturePolicy {
  readonly place: string;
  readonly mode: 'enforce' | 'warn' | 'off';
  matches(repository: string): boolean;
  readonly keys: readonly TrustedKey[];
  readonly trustRoot: TrustRoot | undefined;
  readonly needsLog: boolean;
  /** Whether a signer of this identity counts. */
  trusts(issuer: string, subject: string): boolean;
  readonly hasSigners: boolean;
  /** Whose signature is asked for, in words. */
  readonly words: string;
  /** Another one for everything that may change a verdict. */
  readonly id: string;
}

/** @throws Error in one sentence if a key or the trust root cannot be used */
export function createPolicy(options: PolicyOptions): SignaturePolicy {
  const { place, mode, keys, signers, needsLog, trustRoot: root } = options;
  const patterns = options.repositories.map(repositoryGlob);
  const { repositories: _, mode: __, ...decisive } = options;
  const names = [
    ...keys.map(({ name }) => `the key ${name}`),
    ...signers.map(({ issuer, subject }) => `${subject} of ${issuer}`),
  ];
  return {
    place,
    mode,
    matches: (repository) => patterns.some((matches) => matches(repository)),
    keys: keys.map(({ name, pem }) => ({ name, key: readKey(pem, `${place}: ${name}`) })),
    trustRoot: root === undefined ? undefined : parseTrustRoot(root, place),
    needsLog,
    trusts: (issuer, subject) => signers.some((one) => one.issuer === issuer && matchesGlob(one.subject, subject)),
    hasSigners: signers.length > 0,
    words: names.join(' or '),
    id: createHash('sha256').update(JSON.stringify(decisive)).digest('base64url').slice(0, 16),
  };
}

function readKey(pem: string, place: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    throw new Error(`${place} holds no public key in PEM`);
  }
  // A private key would be read, too, and has no place here.
  if (/PRIVATE KEY/.test(pem)) throw new Error(`${place} holds a private key; the public one is needed`);
  const { asymmetricKeyType: type = '' } = key;
  if (['ec', 'rsa', 'ed25519'].includes(type)) return key;
  throw new Error(`${place} holds a key of type ${type}; accepted: ECDSA, RSA, Ed25519`);
}
