import type { Stats } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '../../oci/digest.ts';
import type { Layout } from './layout.ts';

/** A partial file that has not been continued for this long is no longer wanted. */
export const partialLastsMs = 7 * 24 * 60 * 60 * 1000;

/** Maximum number of partial files; the longest unchanged are removed first. */
export const maxPartials = 100;

const partialName = /^(sha256|sha512)-([0-9a-f]+)$/;
const leftoverName = /^((?:sha256|sha512)-[0-9a-f]+)\.(.+)$/;

/**
 * Removes what a killed process has left under `ingest/` and is of no use: files that cannot be continued; partial files
 * that are empty, of stored blobs, older than {@link partialLastsMs}, or above the maximum; notes without their partial
 * file. The caller has the lock of the directory, and no fill is running. Errors are ignored: a failing disk must not
 * prevent the mirror from starting.
 * @returns how many files were removed
 */
export async function sweepIngest(layout: Layout, { now }: { readonly now: () => number }): Promise<number> {
  const names = await readdir(layout.ingest).catch((): string[] => []);
  const kept = new Set(await wantedPartials(layout, { names, nowMs: now() }));
  let removed = 0;
  for (const name of names) {
    const [, partial = '', suffix] = leftoverName.exec(name) ?? [];
    const isOurs = suffix !== undefined || partialName.test(name);
    if (!isOurs || kept.has(name) || (suffix === 'prefix' && kept.has(partial))) continue;
    const isRemoved = await rm(join(layout.ingest, name)).then(
      () => true,
      () => false,
    );
    if (isRemoved) removed += 1;
  }
  return removed;
}

/** A file under `ingest/` that is to become a blob. */
export interface LeftPartial {
  readonly digest: Digest;
  /** Its size on disk. */
  readonly bytes: number;
  readonly mtimeMs: number;
}

/** The partial files that can be continued, the longest unchanged first. */
export async function leftPartials(layout: Layout): Promise<LeftPartial[]> {
  const names = await readdir(layout.ingest).catch((): string[] => []);
  const found = names.map(async (name): Promise<LeftPartial[]> => {
    const digest = name.replace('-', ':');
    const file = isDigest(digest) ? await statOf(join(layout.ingest, name)) : undefined;
    if (!isDigest(digest) || file === undefined) return [];
    // A file that is written ahead of its prefix has holes.
    return [{ digest, bytes: Math.min(file.size, file.blocks * 512), mtimeMs: file.mtimeMs }];
  });
  return (await Promise.all(found)).flat().toSorted((one, other) => one.mtimeMs - other.mtimeMs);
}

async function wantedPartials(
  layout: Layout,
  { names, nowMs }: { readonly names: readonly string[]; readonly nowMs: number },
): Promise<string[]> {
  const wanted: { readonly name: string; readonly mtimeMs: number }[] = [];
  for (const name of names) {
    const [, algorithm, hex] = partialName.exec(name) ?? [];
    if (algorithm === undefined || hex === undefined) continue;
    const found = await statOf(join(layout.ingest, name));
    if (found === undefined || found.size === 0 || nowMs - found.mtimeMs > partialLastsMs) continue;
    if (await statOf(join(layout.blobs, algorithm, hex))) continue;
    wanted.push({ name, mtimeMs: found.mtimeMs });
  }
  const newestFirst = wanted.toSorted((one, other) => other.mtimeMs - one.mtimeMs);
  return newestFirst.slice(0, maxPartials).map(({ name }) => name);
}

async function statOf(path: string): Promise<Stats | undefined> {
  return await stat(path).catch(() => undefined);
}
