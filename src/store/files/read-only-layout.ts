import { access, chmod, constants, copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Layout, nameJournalFile, reasonOf, requireOurs } from './layout.ts';
import { privateFile } from './private-folders.ts';

/** Whether a cache directory is on a read-only file system. */
export async function isOnReadOnlyDisk({ dir }: Layout): Promise<boolean> {
  const refusal = await access(dir, constants.W_OK).catch((error: NodeJS.ErrnoException) => error);
  return refusal?.code === 'EROFS';
}

/**
 * A cache directory of which only the blobs are used where they are. The catalog and its journal are copied to a
 * temporary directory, where this process changes them; disposing removes it.
 * @throws Error in one sentence if it is no cache of this version, or the copy cannot be made
 */
export async function openReadOnlyLayout(layout: Layout): Promise<{ readonly layout: Layout } & AsyncDisposable> {
  await requireOurs(layout);
  await using owned = new AsyncDisposableStack();
  try {
    const state = await mkdtemp(join(tmpdir(), 'millpond-catalog-'));
    owned.defer(() => rm(state, { recursive: true, force: true }));
    const catalog = join(state, basename(layout.catalog));
    // The last writes are in the log beside the catalog.
    for (const suffix of ['', '-wal']) await copyIfThere(layout.catalog + suffix, catalog + suffix);
    await copyIfThere(join(layout.dir, nameJournalFile), join(state, nameJournalFile));
    const moved = { catalog, ingest: join(state, 'ingest'), quarantine: join(state, 'quarantine') };
    const rest = owned.move();
    return {
      layout: { ...layout, ...moved, isReadOnly: true },
      [Symbol.asyncDispose]: () => rest.disposeAsync(),
    };
  } catch (error) {
    const what = `cannot copy the catalog of the read-only cache ${layout.dir} to ${tmpdir()}`;
    throw new Error(`${what}: ${reasonOf(error)}`, { cause: error });
  }
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to);
    await chmod(to, privateFile);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
