import { randomBytes } from 'node:crypto';
import { constants, copyFile, open, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { Digest } from '../oci/digest.ts';
import { Locks } from '../waiting/locks.ts';
import { isMissing, linkFile, makeFolder, moveFile, namesIn, removeFile, sizeOf } from './durable-files.ts';
import type { HostedLayout } from './layout.ts';

/** A blob of a repository. */
export interface HostedBlob {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/**
 * The bytes of hosted content. Each blob is one file under `blobs/`, and each repository that has it has a hard link of
 * its own: what a repository may read is what it links, and a file that no repository links any more can go.
 */
export class HostedBlobs {
  readonly #layout: HostedLayout;
  readonly #locks = new Locks();

  readonly #now: () => number;

  /** @param now wall clock in milliseconds */
  constructor(layout: HostedLayout, now: () => number) {
    this.#layout = layout;
    this.#now = now;
  }

  /** @returns `undefined` where the repository does not have the blob. @throws Error of the file system */
  async get(repository: string, digest: Digest): Promise<HostedBlob | undefined> {
    const path = this.#layout.blobLink(repository, digest);
    const size = await sizeOf(path);
    return size === undefined ? undefined : { path, size };
  }

  /**
   * Says that a blob is in use, so that it is not collected while a client relies on what it was answered.
   * @returns whether the repository has it. @throws Error of the file system
   */
  async renew(repository: string, digest: Digest): Promise<boolean> {
    using _ = await this.#locks.take(digest);
    return await this.#use(this.#layout.blobLink(repository, digest));
  }

  /** When a blob was last pushed, mounted or asked for, in any repository, in milliseconds since 1970. */
  async usedAtMs(repository: string, digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(this.#layout.blobLink(repository, digest))).mtimeMs;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Takes a blob from a repository, unless it has been used since. @returns whether it is gone now */
  async removeUnused(repository: string, digest: Digest, usedBeforeMs: number): Promise<boolean> {
    using _ = await this.#locks.take(digest);
    const usedAtMs = await this.usedAtMs(repository, digest);
    if (usedAtMs === undefined || usedAtMs >= usedBeforeMs) return false;
    await removeFile(this.#layout.blobLink(repository, digest));
    await this.#collect(digest);
    return true;
  }

  /**
   * Takes a file whose digest is right and that is synced. When this has resolved it survives a loss of power.
   * @returns whether the repository did not have it before
   */
  async adopt(repository: string, digest: Digest, path: string): Promise<boolean> {
    using _ = await this.#locks.take(digest);
    const blob = this.#layout.blob(digest);
    // The same bytes are here already: these are the second copy.
    if ((await sizeOf(blob)) === undefined) await moveFile(path, blob);
    await this.#use(blob);
    return await linkFile(blob, this.#layout.blobLink(repository, digest));
  }

  /** Takes content that is in memory and right. @returns as {@link adopt} */
  async put(repository: string, digest: Digest, bytes: Uint8Array): Promise<boolean> {
    const path = await this.#temporary();
    try {
      await using handle = await open(path, 'wx', 0o600);
      await handle.writeFile(bytes);
      await handle.sync();
      return await this.adopt(repository, digest, path);
    } finally {
      await rm(path, { force: true });
    }
  }

  /** The bytes that a blob has in another repository, or in any. @throws Error of the file system */
  async size(digest: Digest, from: string | undefined): Promise<number | undefined> {
    return await sizeOf(from === undefined ? this.#layout.blob(digest) : this.#layout.blobLink(from, digest));
  }

  /**
   * Gives a repository a blob of another one, or of any.
   * @returns whether the repository did not have it before; `undefined` where there is none. @throws Error of the file system
   */
  async mount(repository: string, digest: Digest, from: string | undefined): Promise<boolean | undefined> {
    using _ = await this.#locks.take(digest);
    const source = from === undefined ? this.#layout.blob(digest) : this.#layout.blobLink(from, digest);
    if (!(await this.#use(source))) return undefined;
    return await linkFile(source, this.#layout.blobLink(repository, digest));
  }

  /**
   * Takes a copy of a verified file, sharing its blocks where the file system can.
   * @returns as {@link adopt}. @throws Error of the file system
   */
  async copy(repository: string, digest: Digest, from: string): Promise<boolean> {
    const path = await this.#temporary();
    try {
      await copyFile(from, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await using handle = await open(path, 'r+');
      await handle.sync();
      return await this.adopt(repository, digest, path);
    } finally {
      await rm(path, { force: true });
    }
  }

  /** Takes a blob from a repository, durably. @returns whether it had it. @throws Error of the file system */
  async remove(repository: string, digest: Digest): Promise<boolean> {
    using _ = await this.#locks.take(digest);
    const wasThere = await removeFile(this.#layout.blobLink(repository, digest));
    await this.#collect(digest);
    return wasThere;
  }

  /** Takes a file that does not have its digest from all who link it, and keeps it apart. @returns the repositories that had it */
  async setAside(digest: Digest, repositories: readonly string[]): Promise<string[]> {
    using _ = await this.#locks.take(digest);
    const had: string[] = [];
    for (const repository of repositories) {
      if (await removeFile(this.#layout.blobLink(repository, digest))) had.push(repository);
    }
    await moveFile(this.#layout.blob(digest), this.#layout.damaged(digest));
    return had;
  }

  /** Removes files that no repository links, such as those of a process that was killed. @returns their bytes */
  async sweep(digests: AsyncIterable<Digest>, signal: AbortSignal): Promise<number> {
    let bytes = 0;
    for await (const digest of digests) {
      signal.throwIfAborted();
      using _ = await this.#locks.take(digest);
      bytes += await this.#collect(digest);
    }
    return bytes;
  }

  /** The digests of all files, of all repositories together. */
  async *all(): AsyncGenerator<Digest> {
    for (const algorithm of ['sha256', 'sha512']) {
      const folder = join(this.#layout.root, 'blobs', algorithm);
      for (const hex of await namesIn(folder)) yield `${algorithm}:${hex}` as Digest;
    }
  }

  /** To be called with the lock. @returns whether there is such a file */
  async #use(path: string): Promise<boolean> {
    const nowSeconds = this.#now() / 1000;
    try {
      await utimes(path, nowSeconds, nowSeconds);
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  /** To be called with the lock. @returns the bytes that were given back */
  async #collect(digest: Digest): Promise<number> {
    const path = this.#layout.blob(digest);
    try {
      const { nlink, size } = await stat(path);
      if (nlink > 1) return 0;
      await removeFile(path);
      return size;
    } catch (error) {
      if (isMissing(error)) return 0;
      throw error;
    }
  }

  async #temporary(): Promise<string> {
    await makeFolder(this.#layout.uploads);
    return join(this.#layout.uploads, `.new-${randomBytes(8).toString('hex')}`);
  }
}
