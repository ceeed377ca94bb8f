import { createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import type { BackOff } from './back-off.ts';
import { CheckQueue } from './check-queue.ts';
import { costsOf, type PasswordHashes } from './htpasswd.ts';

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

/** A password that is being checked. */
interface Asked {
  readonly user: string;
  readonly password: string;
  readonly hash: string | undefined;
  readonly client: string;
  readonly key: string;
}

export interface PasswordsOptions {
  /** Compares a password with a bcrypt hash, off the event loop. */
  readonly compare: (password: string, hash: string) => Promise<boolean>;
  readonly backOff: BackOff;
  /** Called in the turn in which other hashes are taken. */
  readonly onChange?: () => void;
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
  readonly #underWay = new Map<string, Promise<string | undefined>>();
  readonly #queue = new CheckQueue();
  #hashes: PasswordHashes = new Map();
  /** Of the hashes of the users. */
  #costs: readonly string[] = [];

  constructor(options: PasswordsOptions) {
    this.#options = options;
  }

  /** Takes other hashes; passwords that were right for a hash that is still there stay so. */
  replace(hashes: PasswordHashes): void {
    this.#hashes = hashes;
    this.#costs = costsOf(hashes);
    this.#options.onChange?.();
  }

  /** Something that changes with the password of a user; `undefined` for an unknown one. */
  mark(user: string): string | undefined {
    return this.#hashes.get(user);
  }

  /**
   * The hash of a user that a password fits: the one that it was compared with, whatever the file says by now.
   * @param client what counts as one client, for the back-off
   * @returns `undefined` for a wrong password, and for an unknown user
   * @throws RegistryError 429 where the client has to wait
   */
  async fitting(user: string, password: string, client: string): Promise<string | undefined> {
    if (Buffer.byteLength(user) > maxBytes || Buffer.byteLength(password) > maxBytes) return undefined;
    if (this.#hashes.size === 0) return undefined;
    const hash = this.#hashes.get(user);
    const key = this.#keyOf([user, password]);
    const known = this.#remembered.get(key);
    if (known && known.hash === hash && known.untilMs > this.#options.now()) return known.isRight ? hash : undefined;
    const shared = JSON.stringify([client, key, hash]);
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

  async #check({ user, password, hash, client, key }: Asked): Promise<string | undefined> {
    const { compare, backOff, now } = this.#options;
    const waitMs = backOff.waitMs(client, user);
    if (waitMs > 0) throw tooMany(waitMs);
    const against = hash ?? strangerHash(this.#costFor(user));
    const work = this.#queue.enter(client, async () => {
      const fits = await compare(password, against);
      return fits && hash !== undefined;
    });
    if (work === undefined) throw tooMany(1_000);
    const isRight = await work;
    if (isRight) backOff.succeeded(client, user);
    else backOff.failed(client, user);
    this.#remembered.set(key, { isRight, hash, untilMs: now() + (isRight ? rightMs : wrongMs) });
    return isRight ? hash : undefined;
  }

  /** The cost of a check for an unknown user: that of some user of the file, always the same one. */
  #costFor(user: string): string {
    const place = Number.parseInt(this.#keyOf([user]).slice(0, 8), 16) % this.#costs.length;
    return this.#costs[place] ?? '10';
  }

  /** A keyed hash in which the texts cannot run into one another, whatever they hold. */
  #keyOf(texts: readonly string[]): string {
    return createHmac('sha256', this.#key).update(JSON.stringify(texts)).digest('hex');
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
