import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import type { Action, KeyScope } from './caller.ts';

/** An API key, without its secret. */
export interface KeyRecord extends KeyScope {
  readonly id: string;
  /** The caller's name in policies and logs. */
  readonly name: string;
  /** ISO 8601. */
  readonly createdAt: string;
  /** ISO 8601; `null`: without end. */
  readonly expiresAt: string | null;
}

/** The parts of a key. */
export interface NewKey extends KeyScope {
  readonly name: string;
  /** `undefined`: without end. */
  readonly lifeMs?: number | undefined;
}

interface StoredKey extends KeyRecord {
  /** SHA-256 of the secret part, in hex: that part is random enough to need nothing slower. */
  readonly hash: string;
}

const keyForm = /^mpk_([a-z0-9]{12})_([A-Za-z0-9_-]{43})$/;
const actions: readonly unknown[] = ['pull', 'push', 'delete', 'search', 'administer'] satisfies Action[];

/** API keys of robots. The file holds what they may do and hashes of them; a key itself is shown once, when it is made. */
export class KeyStore {
  readonly #now: () => number;
  readonly #onChange: (() => void) | undefined;
  #path: string;
  #keys: ReadonlyMap<string, StoredKey> = new Map();

  /** @param options.onChange called in the turn in which other keys are taken */
  constructor(options: { readonly path: string; readonly now: () => number; readonly onChange?: () => void }) {
    this.#path = options.path;
    this.#now = options.now;
    this.#onChange = options.onChange;
  }

  /** Where the keys are from now on; their file is read by {@link replace} or before a change. */
  set path(path: string) {
    this.#path = path;
  }

  /** Takes the content of the file. @throws Error in one sentence where it cannot be read; it shows nothing of it */
  replace(text: string): void {
    this.#use(parseKeys(text));
  }

  /** @throws Error in one sentence where the file cannot be read */
  async load(): Promise<void> {
    try {
      this.replace(await readFile(this.#path, 'utf8'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      this.#use(new Map());
    }
  }

  /** The keys in the order in which they were made, those that have expired too. */
  list(): readonly KeyRecord[] {
    return [...this.#keys.values()].map(({ id, name, repositories, actions: allowed, createdAt, expiresAt }) => ({
      id,
      name,
      repositories,
      actions: allowed,
      createdAt,
      expiresAt,
    }));
  }

  /** @returns a key that is good now */
  get(id: string): KeyRecord | undefined {
    const key = this.#keys.get(id);
    if (key === undefined || (key.expiresAt !== null && Date.parse(key.expiresAt) <= this.#now())) return undefined;
    return key;
  }

  /** @returns what a key opens; `undefined` for one that is not ours, was removed, or has expired */
  check(key: string): KeyRecord | undefined {
    const [, id = '', secret = ''] = keyForm.exec(key) ?? [];
    const hash = this.#keys.get(id)?.hash ?? '0'.repeat(64);
    const isRight = timingSafeEqual(Buffer.from(hashOf(secret), 'hex'), Buffer.from(hash, 'hex'));
    return isRight ? this.get(id) : undefined;
  }

  /** @returns the key, which is shown this once. @throws Error of the file system */
  async create({
    name,
    repositories,
    actions: allowed,
    lifeMs,
  }: NewKey): Promise<KeyRecord & { readonly key: string }> {
    await this.load();
    const nowMs = this.#now();
    const id = randomBytes(12).toString('hex').slice(0, 12);
    const secret = randomBytes(32).toString('base64url');
    const expiresAt = lifeMs === undefined ? null : new Date(nowMs + lifeMs).toISOString();
    const record = { id, name, repositories, actions: allowed, createdAt: new Date(nowMs).toISOString(), expiresAt };
    await this.#write([...this.#keys.values(), { ...record, hash: hashOf(secret) }]);
    return { ...record, key: `mpk_${id}_${secret}` };
  }

  /** @param which an id, or the name of all its keys. @returns what was removed. @throws Error of the file system */
  async remove(which: string): Promise<readonly KeyRecord[]> {
    await this.load();
    const isMeant = ({ id, name }: KeyRecord): boolean => id === which || name === which;
    const removed = this.list().filter(isMeant);
    if (removed.length > 0) await this.#write([...this.#keys.values()].filter((key) => !isMeant(key)));
    return removed;
  }

  async #write(keys: readonly StoredKey[]): Promise<void> {
    const temporary = `${this.#path}.new`;
    {
      await using handle = await open(temporary, 'w', 0o600);
      await handle.writeFile(`${JSON.stringify({ keys }, undefined, 2)}\n`);
      await handle.sync();
    }
    await rename(temporary, this.#path);
    this.#use(new Map(keys.map((key) => [key.id, key])));
  }

  #use(keys: ReadonlyMap<string, StoredKey>): void {
    this.#keys = keys;
    this.#onChange?.();
  }
}

/** Whether a password is a key of ours by its form. */
export function looksLikeKey(password: string): boolean {
  return password.startsWith('mpk_');
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function parseKeys(text: string): ReadonlyMap<string, StoredKey> {
  let keys: unknown;
  try {
    ({ keys } = JSON.parse(text) as { keys?: unknown });
  } catch (error) {
    throw new Error('the file of keys is not JSON', { cause: error });
  }
  if (!Array.isArray(keys)) throw new Error('the file of keys has no list "keys"');
  return new Map(
    keys.map((key: unknown, index) => {
      if (!isStoredKey(key)) throw new Error(`entry ${index + 1} of the file of keys is not a key`);
      return [key.id, key];
    }),
  );
}

function isStoredKey(value: unknown): value is StoredKey {
  if (typeof value !== 'object' || value === null) return false;
  const {
    id,
    name,
    hash,
    repositories,
    actions: allowed,
    expiresAt,
  } = value as Partial<Record<keyof StoredKey, unknown>>;
  const isText = (one: unknown): boolean => typeof one === 'string';
  return (
    isText(id) &&
    isText(name) &&
    /^[0-9a-f]{64}$/.test(String(hash)) &&
    Array.isArray(repositories) &&
    repositories.every(isText) &&
    Array.isArray(allowed) &&
    allowed.every((one) => actions.includes(one)) &&
    (expiresAt === null || (typeof expiresAt === 'string' && !Number.isNaN(Date.parse(expiresAt))))
  );
}
