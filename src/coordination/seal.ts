import { createHmac, timingSafeEqual } from 'node:crypto';

const macForm = '[A-Za-z0-9_-]{43}';
/** One code, or two while the secret is exchanged, as part of a regular expression. */
export const macsForm = `${macForm}(?:\\.${macForm})?`;
// The text behind is JSON, which does not begin with a dot.
const sealedForm = new RegExp(`^(${macsForm})(?!\\.)`);

/** How long a secret that was exchanged is still accepted by default, in milliseconds. */
const acceptFormerMs = 3_600_000;

/**
 * Signs what replicas write for each other, so that nothing else that can write there is believed. It hides nothing:
 * what is sealed must hold no secret.
 *
 * Replicas that share a secret learn of another one at different times. For a while after the exchange each seals with
 * both and accepts both, so that those that have only one of the two understand each other.
 */
export class Seal {
  readonly #now: () => number;
  #secret: Buffer;
  #former: { readonly secret: Buffer; readonly untilMs: number } | undefined;

  /**
   * @param secret shared by the replicas; at least 16 bytes
   * @param options `now`: wall clock in milliseconds
   */
  constructor(secret: Buffer, { now = Date.now }: { readonly now?: () => number } = {}) {
    this.#secret = checked(secret);
    this.#now = now;
  }

  /** Takes another secret. @param forMs how long the former one is still accepted, in milliseconds */
  renew(secret: Buffer, forMs = acceptFormerMs): void {
    if (checked(secret).equals(this.#secret)) return;
    this.#former = { secret: this.#secret, untilMs: this.#now() + forMs };
    this.#secret = secret;
  }

  /** @param context what the value is for: it is not accepted anywhere else */
  close(context: string, value: unknown): string {
    const text = JSON.stringify(value);
    return this.macs(context, text) + text;
  }

  /** @returns `undefined` for what no replica has sealed for this context */
  open(context: string, sealed: unknown): unknown {
    if (typeof sealed !== 'string') return undefined;
    const [, macs] = sealedForm.exec(sealed) ?? [];
    if (macs === undefined) return undefined;
    const text = sealed.slice(macs.length);
    return text !== '' && this.matches(context, text, macs) ? JSON.parse(text) : undefined;
  }

  /** The code (HMAC-SHA256, base64url) of a text in a context, by the secret of now. */
  mac(context: string, text: string): string {
    return macOf(this.#secret, context, text);
  }

  /** The codes by which other replicas believe a text: one, or two behind each other with a dot between. */
  macs(context: string, text: string): string {
    return this.#secrets()
      .map((secret) => macOf(secret, context, text))
      .join('.');
  }

  /** Whether one of the codes is that of the text; takes the same time whatever they are. */
  matches(context: string, text: string, macs: string): boolean {
    const found = macs.split('.').map((mac) => Buffer.from(mac));
    const results = this.#secrets().flatMap((secret) => {
      const expected = Buffer.from(macOf(secret, context, text));
      return found.map((mac) => mac.length === expected.length && timingSafeEqual(mac, expected));
    });
    return results.includes(true);
  }

  #secrets(): Buffer[] {
    if (this.#former && this.#former.untilMs <= this.#now()) this.#former = undefined;
    return this.#former ? [this.#secret, this.#former.secret] : [this.#secret];
  }
}

function macOf(secret: Buffer, context: string, text: string): string {
  return createHmac('sha256', secret).update(`millpond\n${context.length}\n${context}\n${text}`).digest('base64url');
}

function checked(secret: Buffer): Buffer {
  if (secret.length < 16) throw new Error('the secret of the replicas has fewer than 16 bytes');
  return secret;
}
