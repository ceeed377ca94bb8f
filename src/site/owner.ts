import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CatalogTaken } from '../store/catalog/database.ts';
import type { Layout } from '../store/files/layout.ts';

/** Who has a cache directory, as far as it has said so: a hint for people, the lock is what counts. */
export interface Owner {
  /** `serve` for a mirror, or the command that works alone. */
  readonly command: string;
  readonly pid: number;
}

/** Another process has the cache directory. */
export class DirectoryTaken extends Error {
  /** `undefined` where that is not known. */
  readonly owner: Owner | undefined;

  constructor({ catalog }: Layout, owner: Owner | undefined, options: ErrorOptions) {
    const who = owner === undefined ? '' : ` ("millpond ${owner.command}", pid ${owner.pid})`;
    super(`another Millpond uses ${catalog}${who}: one cache directory has one owner`, options);
    this.owner = owner;
  }
}

/** How long a command that works alone is waited for. */
const patienceMs = 10_000;
const retryMs = 100;

/**
 * Opens a catalog once it is free: a command that works alone is waited for, a mirror is not.
 * @param options `onWait`: told once of whom is waited for
 * @throws DirectoryTaken in one sentence; what `open` throws
 */
export async function whenFree<Catalog>(
  layout: Layout,
  open: () => Promise<Catalog>,
  options: { readonly onWait?: (owner: Owner | undefined) => void; readonly patienceMs?: number } = {},
): Promise<Catalog> {
  const untilMs = performance.now() + (options.patienceMs ?? patienceMs);
  for (let looks = 1; ; looks += 1) {
    try {
      return await open();
    } catch (error) {
      if (!(error instanceof CatalogTaken)) throw error;
      const owner = ownerOf(layout);
      // At the first look, what is read may be of one that has been killed: whoever has the lock now is about to say so.
      const isMirror = looks > 1 && owner?.command === 'serve';
      if (isMirror || performance.now() >= untilMs) throw new DirectoryTaken(layout, owner, { cause: error });
      if (looks === 2) options.onWait?.(owner);
      await delay(retryMs);
    }
  }
}

/** Says who has a directory, whose lock the caller has; disposing takes that back. What cannot be written is left unsaid. */
export function sayOwner(layout: Layout, command: string): Disposable {
  const path = ownerPath(layout);
  const owner: Owner = { command, pid: process.pid };
  attempt(() => writeFileSync(path, `${JSON.stringify(owner)}\n`));
  return { [Symbol.dispose]: () => attempt(() => rmSync(path, { force: true })) };
}

function ownerOf(layout: Layout): Owner | undefined {
  try {
    const { command, pid } = JSON.parse(readFileSync(ownerPath(layout), 'utf8')) as Partial<Owner>;
    return typeof command === 'string' && typeof pid === 'number' ? { command, pid } : undefined;
  } catch {
    return undefined;
  }
}

function ownerPath({ dir }: Layout): string {
  return join(dir, 'owner.json');
}

function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // It is only a hint.
  }
}
