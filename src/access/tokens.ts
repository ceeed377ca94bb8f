import { createHash, hkdfSync } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Caller } from './caller.ts';
import type { Grant } from './grants.ts';
import type { Identity, Proof } from './identity.ts';

/** Clocks of replicas may differ by so much, in seconds. */
const skewSeconds = 60;
const algorithm = 'HS256';
const audience = 'millpond';
/** Tells our tokens from those of issuers. */
const tokenType = 'millpond+jwt';
/** How long tokens by the key before are still accepted, in milliseconds. */
const formerMs = 3_600_000;

/** With the first token: a mirror that knows no callers does without. */
const loadJose = async () => await import('jose');

/** The use of a token: to be shown with requests, or to be exchanged for such a one. */
export type TokenUse = 'access' | 'refresh';

/** The claims of a token. */
export interface TokenContent {
  readonly identity: Identity;
  /** The scope that it was asked for; a request has to be covered by it, and by the policies. */
  readonly grants: readonly Grant[];
}

interface Payload {
  readonly sub?: string;
  readonly kind?: Caller['kind'];
  readonly groups?: readonly string[];
  readonly claims?: Readonly<Record<string, unknown>>;
  readonly proof?: Proof;
  readonly access?: readonly Grant[];
  readonly use?: TokenUse;
  readonly exp?: number;
}

/** A token that was verified, and the key by which: with the key it ends. */
interface Verified {
  readonly payload: Payload;
  readonly key: Uint8Array;
}

/**
 * Our own tokens: signed with a key that is made of a secret, so that only holders of the secret can make and
 * accept them.
 */
export class Tokens {
  readonly #now: () => number;
  readonly #onChange: (() => void) | undefined;
  // Takes memory as it fills: `max` would take all of it at the start.
  readonly #verified = new LRUCache<string, Verified>({ maxSize: 20_000, sizeCalculation: () => 1 });
  #key: Uint8Array | undefined;
  #former: { readonly key: Uint8Array; readonly untilMs: number } | undefined;

  /** @param options.onChange called in the turn in which another secret is taken */
  constructor({ now, onChange }: { readonly now: () => number; readonly onChange?: () => void }) {
    this.#now = now;
    this.#onChange = onChange;
  }

  /** Takes the secret, or another one; tokens by the one before are accepted for another hour. */
  renew(secret: Uint8Array): void {
    const key = new Uint8Array(hkdfSync('sha256', secret, '', 'millpond tokens of callers', 32));
    if (this.#key) {
      if (Buffer.from(key).equals(this.#key)) return;
      this.#former = { key: this.#key, untilMs: this.#now() + formerMs };
    }
    this.#key = key;
    this.#onChange?.();
  }

  /** @param options.lifeMs how long it is good for, if what the caller has shown is */
  async issue(
    { identity, grants }: TokenContent,
    { use, lifeMs }: { readonly use: TokenUse; readonly lifeMs: number },
  ): Promise<{ readonly token: string; readonly lifeSeconds: number }> {
    if (!this.#key) throw new Error('there is no key for tokens');
    const { caller, proof, untilMs = Number.POSITIVE_INFINITY } = identity;
    const nowMs = this.#now();
    const lifeSeconds = Math.max(1, Math.floor(Math.min(lifeMs, untilMs - nowMs) / 1000));
    const issuedAt = Math.floor(nowMs / 1000);
    const { kind, groups, claims } = caller;
    const { SignJWT } = await loadJose();
    const token = await new SignJWT({ kind, groups, claims, proof, access: grants, use })
      .setProtectedHeader({ alg: algorithm, typ: tokenType })
      .setSubject(caller.name)
      .setAudience(audience)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + lifeSeconds)
      .sign(this.#key);
    return { token, lifeSeconds };
  }

  /** @returns what a token of ours says; `undefined` for one that is not ours, is of another use, or has expired */
  async read(token: string, { use, address }: { use: TokenUse; address: string }): Promise<TokenContent | undefined> {
    const id = createHash('sha256').update(token).digest('base64');
    let verified = this.#verified.get(id);
    if (verified === undefined || !this.#keys().includes(verified.key)) {
      verified = await this.#verify(token);
      if (verified) this.#verified.set(id, verified);
      else this.#verified.delete(id);
    }
    if (verified === undefined) return undefined;
    const { payload } = verified;
    const { sub, kind, groups = [], claims = {}, proof, access = [], exp = 0 } = payload;
    if (payload.use !== use || sub === undefined || kind === undefined || proof === undefined) return undefined;
    const untilMs = Math.min((exp + skewSeconds) * 1000, this.#endOf(verified.key));
    if (this.#now() >= untilMs) return undefined;
    return { identity: { caller: { kind, name: sub, groups, claims, address }, proof, untilMs }, grants: access };
  }

  /** A text that only mirrors with our secret can read: what has to be kept between requests, and nowhere here. */
  async seal(text: string): Promise<string> {
    if (!this.#key) throw new Error('there is no key for tokens');
    const { CompactEncrypt } = await loadJose();
    const encrypt = new CompactEncrypt(Buffer.from(text)).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' });
    return await encrypt.encrypt(this.#key);
  }

  /** @returns `undefined` for what was not sealed with our secret */
  async unseal(sealed: string): Promise<string | undefined> {
    const { compactDecrypt } = await loadJose();
    for (const key of this.#keys()) {
      try {
        return Buffer.from((await compactDecrypt(sealed, key)).plaintext).toString('utf8');
      } catch {
        // Not by this key.
      }
    }
    return undefined;
  }

  /** Until when tokens by a key count. */
  #endOf(key: Uint8Array): number {
    return key === this.#key ? Number.POSITIVE_INFINITY : (this.#former?.untilMs ?? 0);
  }

  /** The keys that count now. */
  #keys(): readonly Uint8Array[] {
    const former = this.#former && this.#now() < this.#former.untilMs ? this.#former.key : undefined;
    return [this.#key, former].filter((key) => key !== undefined);
  }

  async #verify(token: string): Promise<Verified | undefined> {
    const { jwtVerify } = await loadJose();
    for (const key of this.#keys()) {
      try {
        const settings = { algorithms: [algorithm], typ: tokenType, audience, clockTolerance: skewSeconds };
        const { payload } = await jwtVerify(token, key, { ...settings, currentDate: new Date(this.#now()) });
        return { payload, key };
      } catch {
        // Not by this key, or no longer good.
      }
    }
    return undefined;
  }
}
