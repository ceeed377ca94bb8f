import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ArchiveError } from './archive-error.ts';

/** A file that has no name any more, and goes when it is closed. */
export interface SpooledFile {
  readonly handle: FileHandle;
  readonly size: number;
}

/**
 * Writes bytes that come once into a file without a name: an archive is gone through several times.
 * @param folder with enough space; created if it is missing
 * @throws ArchiveError where they cannot be written; what `bytes` throws; the signal's reason
 */
export async function spool(
  bytes: AsyncIterable<Uint8Array>,
  { folder, signal }: { readonly folder: string; readonly signal: AbortSignal },
): Promise<SpooledFile> {
  const path = join(folder, `import-${process.pid}.partial`);
  await using owned = new AsyncDisposableStack();
  const handle = await writing(folder, async () => {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return owned.use(await open(path, 'wx+', 0o600));
  });
  await rm(path);
  let size = 0;
  for await (const chunk of bytes) {
    signal.throwIfAborted();
    await writing(folder, () => writeAll(handle, chunk));
    size += chunk.length;
  }
  owned.move();
  return { handle, size };
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let rest = bytes; rest.length > 0; ) {
    const { bytesWritten } = await handle.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}

async function writing<Result>(folder: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException;
    throw new ArchiveError(`what comes on standard input cannot be written to ${folder}: ${code}`, { cause: error });
  }
}
