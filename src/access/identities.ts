import { createHash } from 'node:crypto';
import type { Authorization } from './authorization.ts';
import { anonymousCaller, type Caller, userCaller } from './caller.ts';
import type { CertificateIdentity } from './certificate.ts';
import type { Identity, Proof } from './identity.ts';
import { claimsOf, type IssuedIdentity, type Issuer } from './issuer.ts';
import { type KeyRecord, type KeyStore, looksLikeKey } from './key-store.ts';
import type { Passwords } from './passwords.ts';

/** Where a request comes from. */
export interface Origin {
  readonly address: string;
  /** The key of a client, for the back-off. */
  readonly client: string;
  /** The facts of its connection's certificate; absent: it has shown none, or certificates mean nothing here. */
  readonly certificate?: CertificateIdentity | 'refused' | undefined;
}

export interface IdentitiesOptions {
  readonly passwords: Passwords;
  readonly keys: KeyStore;
  /** By `iss`. */
  readonly issuers: () => ReadonlyMap<string, Issuer>;
}

/** Finds out by credentials who a caller is, and whether one that was found out is still that. */
export class Identities {
  readonly #options: IdentitiesOptions;

  constructor(options: IdentitiesOptions) {
    this.#options = options;
  }

  /**
   * The caller with these credentials; without any, its certificate counts, and without that it is anonymous.
   * @returns `undefined` where they are wrong
   * @throws RegistryError 429 where the client has to wait before it may try again, 503 where an issuer cannot be asked
   */
  async find(shown: Authorization | undefined, origin: Origin): Promise<Identity | undefined> {
    const { address, client, certificate } = origin;
    switch (shown?.scheme) {
      case undefined:
        if (certificate === 'refused') return undefined;
        if (certificate) return certified(certificate, address);
        return { caller: anonymousCaller(address), proof: { by: 'nothing' } };
      case 'bearer':
        return await this.#bySecret(shown.token, address);
      case 'basic': {
        const { user, password } = shown;
        const { passwords } = this.#options;
        if (looksLikeKey(password) || this.#options.issuers().has(claimsOf(password)?.iss ?? ''))
          return await this.#bySecret(password, address);
        const hash = await passwords.fitting(user, password, client);
        if (hash === undefined) return undefined;
        // The file may have changed meanwhile: what is vouched for is the password that was compared.
        return { caller: userCaller(user, address), proof: { by: 'password', mark: markOf(hash) } };
      }
      case 'unknown':
        return undefined;
      default:
        return shown satisfies never;
    }
  }

  /**
   * The present state of a caller that was found out before.
   * @param mark of the policies in effect
   * @returns `undefined` where it would not be accepted again
   */
  current({ caller, ...rest }: Identity, mark: string): Identity | undefined {
    const { proof } = rest;
    switch (proof.by) {
      case 'password':
        return this.#isPassword(caller.name, proof.mark) ? { caller, ...rest } : undefined;
      case 'key': {
        const key = this.#options.keys.get(proof.id);
        return key && { caller: keyCaller(key, caller.address), ...rest };
      }
      case 'issuer':
        // Of its issuer nothing is known any more, or others are meant now.
        if (this.#options.issuers().get(proof.issuer)?.mark !== proof.settings) return undefined;
        // Only what the policies of then looked at is known of it.
        return proof.mark === mark ? { caller, ...rest } : undefined;
      case 'guest':
        return { caller: { ...caller, scope: guestScope(proof.upstream) }, ...rest };
      case 'nothing':
      case 'certificate':
        return { caller, ...rest };
      default:
        return proof satisfies never;
    }
  }

  /** Whether credentials belong to this mirror, right or wrong: these never go to an upstream. */
  isOurs({ user, password }: { readonly user: string; readonly password: string }): boolean {
    const issuer = claimsOf(password)?.iss;
    const isIssued = issuer !== undefined && this.#options.issuers().has(issuer);
    return looksLikeKey(password) || isIssued || this.#options.passwords.mark(user) !== undefined;
  }

  /** A key, or a token of an issuer. */
  async #bySecret(secret: string, address: string): Promise<Identity | undefined> {
    if (looksLikeKey(secret)) {
      const key = this.#options.keys.check(secret);
      if (key === undefined) return undefined;
      const untilMs = key.expiresAt === null ? undefined : Date.parse(key.expiresAt);
      return { caller: keyCaller(key, address), proof: { by: 'key', id: key.id }, untilMs };
    }
    const issuer = this.#options.issuers().get(claimsOf(secret)?.iss ?? '');
    const found = await issuer?.check(secret);
    return found && issuer && issued(found, { issuer, address });
  }

  /** Whether the password of a user is still the one that has this mark. */
  #isPassword(user: string, mark: string): boolean {
    const hash = this.#options.passwords.mark(user);
    return hash !== undefined && markOf(hash) === mark;
  }
}

/** Changes with the hash of a password, and tells nothing of it. */
function markOf(hash: string): string {
  return createHash('sha256').update(`mark ${hash}`).digest('base64url').slice(0, 16);
}

function keyCaller({ name, repositories, actions }: KeyRecord, address: string): Caller {
  return { kind: 'key', name, groups: [], claims: {}, address, scope: { repositories, actions } };
}

function certified({ name, groups, untilMs }: CertificateIdentity, address: string): Identity {
  return { caller: { kind: 'certificate', name, groups, claims: {}, address }, proof: { by: 'certificate' }, untilMs };
}

function issued(
  { name, groups, claims, untilMs }: IssuedIdentity,
  { issuer: { settings, mark }, address }: { readonly issuer: Issuer; readonly address: string },
): Identity {
  const proof: Proof = { by: 'issuer', issuer: settings.issuer, settings: mark, mark: '' };
  return { caller: { kind: 'user', name, groups, claims, address }, proof, untilMs };
}

/** A guest of an upstream: nothing is known of it but that it has shown credentials, which that upstream has to judge. */
export function guestCaller(user: string, { upstream, address }: { upstream: string; address: string }): Caller {
  return {
    kind: 'guest',
    name: `${upstream}:${user}`,
    groups: [],
    claims: {},
    address,
    scope: guestScope(upstream),
  };
}

function guestScope(upstream: string): NonNullable<Caller['scope']> {
  return { repositories: [`${upstream}/**`], actions: ['pull'] };
}
