import { createHash, type Hash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { type FileHandle, lstat, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import process from 'node:process';
import { ArchiveError } from './archive-error.ts';
import { checksumListPath, findChecksumList } from './checksum-list.ts';
import { isFileOf, partPaths } from './parts.ts';

/** A file that has been written, under its final name. */
export interface WrittenFile {
  readonly name: string;
  readonly sha256: string;
  readonly size: number;
}

/** The destination of an archive. */
export interface ArchiveSink {
  /** Appends bytes. @throws ArchiveError if they cannot be written */
  write(chunk: Buffer): Promise<void>;
  /** @param list the text of the list of checksums. @returns the written files. @throws ArchiveError */
  finish(list: (files: readonly WrittenFile[]) => string): Promise<readonly WrittenFile[]>;
}

interface OpenPart {
  readonly path: string;
  readonly handle: FileHandle;
  readonly hash: Hash;
  size: number;
}

export interface ArchiveOutputOptions {
  /** Of the whole archive. */
  readonly bytes: number;
  /** Maximum bytes of one part; `undefined`: one file. */
  readonly splitBytes: number | undefined;
}

/**
 * The file of an archive, or its parts, while being written: nothing gets its final name before everything is on disk.
 * Disposing it without {@link finish} removes what was written.
 */
export class ArchiveOutput implements ArchiveSink, AsyncDisposable {
  readonly #path: string;
  readonly #splitBytes: number;
  /** The files' final names. */
  readonly #paths: readonly string[];
  readonly #written: WrittenFile[] = [];
  readonly #unfinished = new Set<string>();
  #part: OpenPart | undefined;

  private constructor(path: string, { paths, splitBytes }: { paths: readonly string[]; splitBytes: number }) {
    this.#path = path;
    this.#paths = paths;
    this.#splitBytes = splitBytes;
  }

  /**
   * @param path of the whole archive; parts and the list of checksums are named after it
   * @throws ArchiveError if there would be too many parts, or if something other than a file has the name of one
   */
  static async open(path: string, { bytes, splitBytes }: ArchiveOutputOptions): Promise<ArchiveOutput> {
    const paths = splitBytes === undefined ? [path] : partPaths(path, Math.ceil(bytes / splitBytes));
    for (const one of [...paths, checksumListPath(path)]) await requireReplaceable(one);
    await removeLeftovers(path);
    return new ArchiveOutput(path, { paths, splitBytes: splitBytes ?? Number.POSITIVE_INFINITY });
  }

  async write(chunk: Buffer): Promise<void> {
    for (let rest = chunk; rest.length > 0; ) {
      if (this.#part && this.#part.size >= this.#splitBytes) await this.#endPart();
      const part = (this.#part ??= await this.#beginPart());
      const piece = rest.subarray(0, Math.min(rest.length, this.#splitBytes - part.size));
      try {
        const writing = writeAll(part.handle, piece);
        // The hash runs on this thread while the system writes on another.
        part.hash.update(piece);
        await writing;
      } catch (error) {
        throw unwritable(part.path, error);
      }
      part.size += piece.length;
      rest = rest.subarray(piece.length);
    }
  }

  /** Renames all files to their final names, writes the list, and then removes other files that the previous list named. */
  async finish(list: (files: readonly WrittenFile[]) => string): Promise<readonly WrittenFile[]> {
    await this.#endPart();
    const listPath = checksumListPath(this.#path);
    const former = await findChecksumList(listPath);
    try {
      await writeFile(temporary(listPath), list(this.#written), { flush: true });
      this.#unfinished.add(listPath);
      const paths = [...this.#unfinished];
      for (const path of paths) {
        await rename(temporary(path), path);
        this.#unfinished.delete(path);
      }
      for (const { name } of former?.files ?? []) await this.#removeFormer(name);
      await using folder = await open(dirname(this.#path), 'r');
      await folder.sync();
    } catch (error) {
      throw unwritable(this.#path, error);
    }
    return this.#written;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#part?.handle.close().catch(() => undefined);
    for (const path of this.#unfinished) await rm(temporary(path), { force: true }).catch(() => undefined);
  }

  /** An earlier archive may have had other parts, which could not be told from those of this one. */
  async #removeFormer(name: string): Promise<void> {
    if (!isFileOf(basename(this.#path), name) || this.#written.some((file) => file.name === name)) return;
    const path = join(dirname(this.#path), name);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile()) await rm(path, { force: true });
  }

  async #beginPart(): Promise<OpenPart> {
    const path = this.#paths[this.#written.length]!;
    try {
      const handle = await open(temporary(path), 'w');
      this.#unfinished.add(path);
      return { path, handle, hash: createHash('sha256'), size: 0 };
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  async #endPart(): Promise<void> {
    const part = this.#part;
    if (!part) return;
    this.#part = undefined;
    try {
      await part.handle.sync();
    } catch (error) {
      throw unwritable(part.path, error);
    } finally {
      await part.handle.close();
    }
    this.#written.push({ name: basename(part.path), sha256: part.hash.digest('hex'), size: part.size });
  }
}

/**
 * A rename replaces whatever has the name: a device, a pipe or a link would be lost.
 * @throws ArchiveError if it is anything else than a file
 */
async function requireReplaceable(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found && !found.isFile()) {
    throw new ArchiveError(`${path} is not a file (${kindOf(found)}): choose another name for the archive`);
  }
}

function kindOf(found: Stats): string {
  if (found.isSymbolicLink()) return 'a link';
  return found.isDirectory() ? 'a folder' : 'a device, pipe or socket';
}

async function writeAll(handle: FileHandle, bytes: Buffer): Promise<void> {
  for (let rest = bytes; rest.length > 0; ) {
    const { bytesWritten } = await handle.write(rest);
    rest = rest.subarray(bytesWritten);
  }
}

/** A name beside the final one, for the rename. Another process that writes the same archive uses another name. */
function temporary(path: string): string {
  return `${path}.${process.pid}.partial`;
}

/** Removes what terminated processes have left of an archive, including parts that this archive does not need. */
async function removeLeftovers(path: string): Promise<void> {
  const whole = basename(path);
  const names = await readdir(dirname(path)).catch((): string[] => []);
  for (const name of names.filter((one) => one.startsWith(whole))) {
    const [, pid] = /^(?:\.\d{3,4})?(?:\.sha256)?\.(\d+)\.partial$/.exec(name.slice(whole.length)) ?? [];
    if (pid === undefined || isAnotherProcess(Number(pid))) continue;
    await rm(join(dirname(path), name), { force: true }).catch(() => undefined);
  }
}

function isAnotherProcess(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function unwritable(path: string, error: unknown): ArchiveError {
  const { code = 'unknown' } = error as NodeJS.ErrnoException;
  return new ArchiveError(`${path} cannot be written: ${code}`, { cause: error });
}
