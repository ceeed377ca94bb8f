import { type Hash, randomUUID } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../oci/digest.ts';
import { DiskFault, type PartialBlob } from './blob-store.ts';
import { type Layout, syncDirectory } from './layout.ts';
import { readAt } from './read-at.ts';

const rehashBytes = 1024 * 1024;

/** Opens the partial file of a digest, new or left behind; what is left behind is hashed again. @throws DiskFault */
export function openPartial(layout: Layout, digest: Digest): Promise<PartialBlob> {
  return openPartialAt(layout.partial(digest), { layout, digest });
}

/** A partial file that nobody else can have and that is of no use after a crash. @throws DiskFault */
export function openTemporary(layout: Layout, digest: Digest): Promise<PartialBlob> {
  return openPartialAt(`${layout.partial(digest)}.${randomUUID()}`, { layout, digest });
}

async function openPartialAt(
  path: string,
  { layout, digest }: { layout: Layout; digest: Digest },
): Promise<PartialBlob> {
  try {
    // 'a' would ignore positions on Linux, and 'r+' does not create.
    const handle = await open(path, 'r+').catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return await open(path, 'wx+');
    });
    try {
      const { hash, length } = await hashOf(handle, digest);
      return new PartialFile({ handle, hash, written: length, digest, path, finalPath: layout.blob(digest) });
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
  } catch (error) {
    throw error instanceof DiskFault ? error : new DiskFault('open a partial file', error);
  }
}

async function hashOf(handle: FileHandle, digest: Digest): Promise<{ hash: Hash; length: number }> {
  const { size } = await handle.stat();
  const hash = hasherFor(digest);
  const buffer = Buffer.allocUnsafe(Math.min(size, rehashBytes));
  let position = 0;
  while (position < size) {
    const count = await readAt(handle, buffer, { position, length: Math.min(buffer.length, size - position) });
    hash.update(buffer.subarray(0, count));
    position += count;
  }
  return { hash, length: size };
}

class PartialFile implements PartialBlob {
  readonly #handle: FileHandle;
  readonly #digest: Digest;
  readonly #path: string;
  readonly #finalPath: string;
  #hash: Hash;
  #written: number;

  constructor(parts: {
    handle: FileHandle;
    hash: Hash;
    written: number;
    digest: Digest;
    path: string;
    finalPath: string;
  }) {
    this.#handle = parts.handle;
    this.#hash = parts.hash;
    this.#written = parts.written;
    this.#digest = parts.digest;
    this.#path = parts.path;
    this.#finalPath = parts.finalPath;
  }

  get written(): number {
    return this.#written;
  }

  hashSoFar(): Hash {
    return this.#hash.copy();
  }

  async append(chunks: readonly Buffer[]): Promise<void> {
    const before = this.#hash.copy();
    const writing = writeAll(this.#handle, chunks, this.#written);
    // The hash runs on this thread while the system writes on another.
    let length = 0;
    for (const chunk of chunks) {
      this.#hash.update(chunk);
      length += chunk.length;
    }
    try {
      await writing;
    } catch (error) {
      this.#hash = before;
      throw new DiskFault('write a blob', error);
    }
    this.#written += length;
  }

  read(buffer: Buffer, position: number, length: number): Promise<number> {
    return readAt(this.#handle, buffer, { position, length: Math.min(length, this.#written - position) });
  }

  digest(): Digest {
    return finishDigest(digestAlgorithm(this.#digest), this.#hash.copy());
  }

  async restart(): Promise<void> {
    try {
      await this.#handle.truncate(0);
    } catch (error) {
      throw new DiskFault('truncate a partial file', error);
    }
    this.#hash = hasherFor(this.#digest);
    this.#written = 0;
  }

  async commit(): Promise<void> {
    try {
      // A write that failed half-way may have left bytes behind the last whole one.
      await this.#handle.truncate(this.#written);
      await this.#handle.sync();
      await rename(this.#path, this.#finalPath);
      await syncDirectory(dirname(this.#finalPath));
    } catch (error) {
      throw new DiskFault('commit a blob', error);
    }
  }

  async discard(): Promise<void> {
    await rm(this.#path, { force: true }).catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close().catch(() => undefined);
  }
}

async function writeAll(handle: FileHandle, chunks: readonly Buffer[], start: number): Promise<void> {
  let rest = chunks;
  let position = start;
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, position);
    if (bytesWritten === 0) throw Object.assign(new Error('nothing could be written'), { code: 'EIO' });
    position += bytesWritten;
    rest = skip(rest, bytesWritten);
  }
}

function skip(chunks: readonly Buffer[], count: number): readonly Buffer[] {
  let left = count;
  let index = 0;
  for (; index < chunks.length; index += 1) {
    const length = chunks[index]!.length;
    if (left < length) break;
    left -= length;
  }
  const rest = chunks.slice(index);
  if (left > 0) rest[0] = rest[0]!.subarray(left);
  return rest;
}
