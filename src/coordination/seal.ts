import { createHmac, timingSafeEqual } from 'node:crypto';

const macCharacters = 43;

/**
 * Marks what replicas write for one another, so that nobody else who can write there is believed. It hides nothing:
 * what is sealed must hold no secret.
 */
export class Seal {
  readonly #secret: Buffer;

  /** @param secret shared by the replicas; at least 16 bytes */
  constructor(secret: Buffer) {
    if (secret.length < 16) throw new Error('the secret of the replicas has fewer than 16 bytes');
    this.#secret = secret;
  }

  /** @param context what the value is for: it is not accepted anywhere else */
  close(context: string, value: unknown): string {
    const text = JSON.stringify(value);
    return this.mac(context, text) + text;
  }

  /** @returns `undefined` for what no replica has sealed for this context */
  open(context: string, sealed: unknown): unknown {
    if (typeof sealed !== 'string' || sealed.length <= macCharacters) return undefined;
    const text = sealed.slice(macCharacters);
    if (!this.matches(context, text, sealed.slice(0, macCharacters))) return undefined;
    return JSON.parse(text);
  }

  /** The code (HMAC-SHA256, base64url) of a text in a context. */
  mac(context: string, text: string): string {
    return createHmac('sha256', this.#secret)
      .update(`millpond\n${context.length}\n${context}\n${text}`)
      .digest('base64url');
  }

  /** Whether a code is that of the text; takes the same time whatever it is. */
  matches(context: string, text: string, mac: string): boolean {
    const expected = Buffer.from(this.mac(context, text));
    const found = Buffer.from(mac);
    return found.length === expected.length && timingSafeEqual(found, expected);
  }
}
