import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CatalogTaken } from '../store/catalog/database.ts';
import type { Layout } from '../store/files/layout.ts';

/** The owner of a cache directory, as far as it has written it down: a hint for people; the lock decides. */
export interface Owner {
  /** `serve` for a mirror, or the command that works alone. */
  readonly command: string;
  readonly pid: number;
}

/** Another process owns the cache directory. */
export class DirectoryTaken extends Error {
  /** `undefined` if unknown. */
  readonly owner: Owner | undefined;

  constructor({ catalog }: Layout, owner: Owner | undefined, options: ErrorOptions) {
    const who = owner === undefined ? '' : ` ("millpond ${owner.command}", pid ${owner.pid})`;
    super(`another Millpond uses ${catalog}${who}: one cache directory has one owner`, options);
    this.owner = owner;
  }
}

/** How long to wait for a command that works alone. */
const patienceMs = 10_000;
const retryMs = 100;

/**
 * Opens a catalog once it is free: waits for a command that works alone, but not for a mirror.
 * @param options `onWait`: called once with the owner that is waited for
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
      // The first read may show a killed owner: the process that has the lock now is about to write its own entry.
      const isMirror = looks > 1 && owner?.command === 'serve';
      if (isMirror || performance.now() >= untilMs) throw new DirectoryTaken(layout, owner, { cause: error });
      if (looks === 2) options.onWait?.(owner);
      await delay(retryMs);
    }
  }
}

/** Writes down the owner of a directory, whose lock the caller has; disposing removes it. Errors are ignored. */
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
