import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Layout } from './layout.ts';

/** A partial file that nobody has continued for this long is not wanted any more. */
export const partialLastsMs = 7 * 24 * 60 * 60 * 1000;

const algorithmAndHex = /^(sha256|sha512)-([0-9a-f]+)$/;

/**
 * Removes what a process that was killed has left under `ingest/` and nobody can use: files that were not to be continued,
 * notes about partial files that are gone, partial files that are empty, older than {@link partialLastsMs}, or of blobs
 * that are stored meanwhile. The caller has the lock of the directory, and no fill is under way. What cannot be removed
 * stays, since a disk that fails must not keep the mirror from starting.
 * @returns how many files were removed
 */
export async function sweepIngest(layout: Layout, { now }: { readonly now: () => number }): Promise<number> {
  const names = await readdir(layout.ingest).catch(() => []);
  let removed = 0;
  // In order, so that a note comes after its partial file.
  for (const name of names.toSorted()) {
    if (!(await isUseless(layout, name, now()))) continue;
    const isRemoved = await rm(join(layout.ingest, name)).then(
      () => true,
      () => false,
    );
    if (isRemoved) removed += 1;
  }
  return removed;
}

async function isUseless(layout: Layout, name: string, nowMs: number): Promise<boolean> {
  const [partial = '', suffix] = name.split('.', 2);
  const [, algorithm, hex] = algorithmAndHex.exec(partial) ?? [];
  // Not a file of ours.
  if (algorithm === undefined || hex === undefined) return false;
  if (suffix !== undefined && suffix !== 'prefix') return true;
  const found = await statOf(join(layout.ingest, partial));
  // A note goes with its partial file, or after it.
  if (suffix === 'prefix') return found === undefined;
  if (found === undefined) return false;
  if (found.size === 0 || nowMs - found.mtimeMs > partialLastsMs) return true;
  return (await statOf(join(layout.blobs, algorithm, hex))) !== undefined;
}

async function statOf(path: string): Promise<{ readonly size: number; readonly mtimeMs: number } | undefined> {
  return await stat(path).catch(() => undefined);
}
