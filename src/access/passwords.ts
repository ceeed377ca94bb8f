import { createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import type { BackOff } from './back-off.ts';
import { CheckQueue } from './check-queue.ts';
import { type PasswordHashes, usualCost } from './htpasswd.ts';

/** How long a right password is remembered, and a wrong one, in milliseconds. */
const rightMs = 10 * 60_000;
const wrongMs = 10_000;
/** Longest user name and password that are looked at, in bytes of UTF-8; bcrypt itself reads 72. */
const maxBytes = 1_024;

interface Remembered {
  readonly isRight: boolean;
  /** The hash that it was compared with; another one in the file makes this void. */
  readonly hash: string | undefined;
  readonly untilMs: number;
}

export interface PasswordsOptions {
  /** Compares a password with a bcrypt hash, off the event loop. */
  readonly compare: (password: string, hash: string) => Promise<boolean>;
  readonly backOff: BackOff;
  readonly now: () => number;
}

/**
 * Checks passwords against the hashes of an htpasswd file. What was checked is remembered by a keyed hash for a while, so
 * that most requests cost no bcrypt. Unknown users take as long as known ones, and get the same answer.
 */
export class Passwords {
  readonly #options: PasswordsOptions;
  readonly #key = randomBytes(32);
  // Takes memory as it fills: `max` would take all of it at the start.
  readonly #remembered = new LRUCache<string, Remembered>({ maxSize: 10_000, sizeCalculation: () => 1 });
  readonly #underWay = new Map<string, Promise<boolean>>();
  readonly #queue = new CheckQueue();
  #hashes: PasswordHashes = new Map();
  #stranger = strangerHash('10');

  constructor(options: PasswordsOptions) {
    this.#options = options;
  }

  /** Takes other hashes; passwords that were right for a hash that is still there stay so. */
  replace(hashes: PasswordHashes): void {
    this.#hashes = hashes;
    this.#stranger = strangerHash(usualCost(hashes));
  }

  /** Something that changes with the password of a user; `undefined` for an unknown one. */
  mark(user: string): string | undefined {
    return this.#hashes.get(user);
  }

  /**
   * Whether a password is that of a user.
   * @param client what counts as one client, for the back-off
   * @throws RegistryError 429 where the client has to wait
   */
  async isRight(user: string, password: string, client: string): Promise<boolean> {
    if (Buffer.byteLength(user) > maxBytes || Buffer.byteLength(password) > maxBytes) return false;
    if (this.#hashes.size === 0) return false;
    const hash = this.#hashes.get(user);
    const key = createHmac('sha256', this.#key).update(`${user}\0${password}`).digest('base64');
    const known = this.#remembered.get(key);
    if (known && known.hash === hash && known.untilMs > this.#options.now()) return known.isRight;
    const shared = `${client} ${key}`;
    const before = this.#underWay.get(shared);
    if (before) return await before;
    const work = this.#check({ user, password, hash, client, key });
    this.#underWay.set(shared, work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(shared);
    }
  }

  async #check(asked: {
    readonly user: string;
    readonly password: string;
    readonly hash: string | undefined;
    readonly client: string;
    readonly key: string;
  }): Promise<boolean> {
    const { user, password, hash, client, key } = asked;
    const { compare, backOff, now } = this.#options;
    const waitMs = backOff.waitMs(client, user);
    if (waitMs > 0) throw tooMany(waitMs);
    const work = this.#queue.enter(client, async () => {
      const fits = await compare(password, hash ?? this.#stranger);
      return fits && hash !== undefined;
    });
    if (work === undefined) throw tooMany(1_000);
    const isRight = await work;
    if (isRight) backOff.succeeded(client, user);
    else backOff.failed(client, user);
    this.#remembered.set(key, { isRight, hash, untilMs: now() + (isRight ? rightMs : wrongMs) });
    return isRight;
  }
}

/** A hash that no password is known for. */
function strangerHash(cost: string): string {
  const salt = randomBytes(40).toString('base64').replaceAll(/[+=]/g, '.').slice(0, 21);
  // The last character of a salt has two bits only, and that of a hash four.
  return `$2b$${cost}$${salt}.${randomBytes(48).toString('base64').replaceAll(/[+=]/g, '.').slice(0, 30)}.`;
}

function tooMany(waitMs: number): RegistryError {
  return new RegistryError('login-limited', 'too many wrong passwords from this address; try again later', {
    headers: { 'Retry-After': String(Math.max(1, Math.ceil(waitMs / 1000))) },
  });
}
