import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { TestSite } from '../support/site.ts';

/** Resolves when no fill is under way: clients have their last byte before it is safe on disk. */
export async function settled(site: TestSite): Promise<void> {
  await expect.poll(async () => (await site.get('/metrics')).body.toString()).toMatch(/^millpond_fills_running 0$/m);
}

/** Every file under `blobs/` and `ingest/`, when no fill is under way. */
export async function filesOf(site: TestSite): Promise<string[]> {
  await settled(site);
  return await filesIn(site.cacheDir);
}

/** Every file under `blobs/` and `ingest/` of a cache directory. */
export async function filesIn(cacheDir: string): Promise<string[]> {
  const folders = ['blobs', 'ingest'].map(async (folder) => {
    const found = await readdir(join(cacheDir, folder), { recursive: true, withFileTypes: true });
    const files = found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return files.map((file) => file.slice(cacheDir.length + 1));
  });
  return (await Promise.all(folders)).flat();
}

/** Where a blob lies in the cache directory. */
export function blobFile(digest: string): string {
  return `blobs/${digest.replace(':', '/')}`;
}

/** A clock that stands until it is moved. */
export function clock(): { readonly now: () => number; readonly advance: (ms: number) => void } {
  let time = Date.now();
  return { now: () => time, advance: (ms) => void (time += ms) };
}
