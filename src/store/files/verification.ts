import { opendir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Digest, digestAlgorithm, isDigest } from '../../oci/digest.ts';
import { DiskFault } from './blob-store.ts';
import type { FileHasher, HashedFile } from './file-hasher.ts';
import type { Layout } from './layout.ts';

/** A file whose content matches the digest. */
interface RightFile<Kind extends string> {
  readonly kind: Kind;
  readonly digest: Digest;
  readonly size: number;
  /** Modification time before it was read, in milliseconds. */
  readonly modifiedAtMs: number;
}

/** The result of examining something under `blobs/`. */
export type Verdict =
  | RightFile<'ok'>
  /** The content is right, but the catalog has another size. */
  | (RightFile<'misrecorded'> & { readonly recordedSize: number })
  /** The content does not match the digest; `actual` is absent if a pipe or device is in the file's place. */
  | { readonly kind: 'altered'; readonly digest: Digest; readonly size: number; readonly actual?: Digest }
  /** As `altered`, and shorter than it was. */
  | { readonly kind: 'truncated'; readonly digest: Digest; readonly size: number; readonly recordedSize: number }
  /** In the catalog, but there is no file. */
  | { readonly kind: 'missing'; readonly digest: Digest; readonly recordedSize: number }
  /** A file with the right content that is not in the catalog. */
  | RightFile<'unrecorded'>
  /** A file that is not a blob, by its name. @see Layout.blob */
  | { readonly kind: 'stray'; readonly path: string }
  /** The disk cannot read it. */
  | { readonly kind: 'unreadable'; readonly digest: Digest; readonly code: string };

export interface VerificationOptions {
  readonly layout: Layout;
  /** The stored blobs by the catalog. */
  readonly catalog: {
    readonly blobs: {
      has(digest: Digest): boolean;
      page(page: { readonly after: string; readonly limit: number }): { digest: Digest; size: number }[];
    };
  };
  readonly hasher: FileHasher;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

export interface CheckOptions {
  readonly signal: AbortSignal;
  /** Receives the number of bytes as they are read. */
  readonly onRead?: ((bytes: number) => void) | undefined;
}

/** Rows, or file names, examined at a time. */
const pageSize = 200;
/** A file younger than this may be on its way into the catalog, in milliseconds. */
const settledAfterMs = 2_000;
/** Maximum number of reads of a file that is replaced meanwhile. */
const maxLooks = 3;

/**
 * Compares files with their digests and with the catalog while both are in use: what is removed, replaced or stored
 * meanwhile is not a finding. Changes nothing.
 */
export class Verification {
  readonly #options: VerificationOptions;

  constructor(options: VerificationOptions) {
    this.#options = options;
  }

  /**
   * Reads one blob again.
   * @param recordedSize bytes, by the catalog; `undefined`: the blob is not in the catalog
   * @returns `undefined` if it is not stored any more, or never was
   * @throws the signal's reason
   */
  async check(digest: Digest, recordedSize: number | undefined, options: CheckOptions): Promise<Verdict | undefined> {
    const { layout, catalog, hasher } = this.#options;
    const path = layout.blob(digest);
    let file: HashedFile | undefined;
    for (let look = 1; look <= maxLooks; look += 1) {
      try {
        file = await hasher.hash(path, { ...options, algorithm: digestAlgorithm(digest) });
      } catch (error) {
        if (!(error instanceof DiskFault)) throw error;
        return { kind: 'unreadable', digest, code: error.code };
      }
      if (file === undefined) {
        if (recordedSize === undefined || !catalog.blobs.has(digest)) return undefined;
        // Stored again between the two looks?
        if ((await inodeOf(path)) !== undefined) continue;
        return { kind: 'missing', digest, recordedSize };
      }
      if (file.digest === digest) return rightVerdict({ ...file, digest }, recordedSize);
      // Another file may be in its place by now, because another reader has found this one wrong too.
      if ((await inodeOf(path)) === file.inode) break;
    }
    if (file === undefined) return undefined;
    const { size, digest: actual } = file;
    return recordedSize !== undefined && size < recordedSize
      ? { kind: 'truncated', digest, size, recordedSize }
      : { kind: 'altered', digest, size, ...(actual !== undefined && { actual }) };
  }

  /**
   * Reads every blob of the catalog again, in digest order.
   * @param options `after`: starts after this digest; '': at the first
   * @throws the signal's reason
   */
  async *recorded({ after = '', ...options }: CheckOptions & { readonly after?: string }): AsyncGenerator<Verdict> {
    const { catalog } = this.#options;
    let last = after;
    while (true) {
      options.signal.throwIfAborted();
      const page = catalog.blobs.page({ after: last, limit: pageSize });
      for (const { digest, size } of page) {
        const verdict = await this.check(digest, size, options);
        if (verdict) yield verdict;
        last = digest;
      }
      if (page.length < pageSize) return;
    }
  }

  /** Finds and reads blobs that the catalog lacks. @throws the signal's reason, DiskFault */
  async *unrecorded(options: CheckOptions): AsyncGenerator<Verdict> {
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const folder = join(this.#options.layout.blobs, algorithm);
      for await (const names of this.#namesIn(folder)) {
        options.signal.throwIfAborted();
        for (const { name, isFile } of names) {
          const digest = `${algorithm}:${name}`;
          if (!isFile || !isDigest(digest)) {
            yield { kind: 'stray', path: join(folder, name) };
          } else if (!this.#options.catalog.blobs.has(digest)) {
            const verdict = await this.#unknown(digest, options);
            if (verdict) yield verdict;
          }
        }
      }
    }
  }

  async *#namesIn(folder: string): AsyncGenerator<{ name: string; isFile: boolean }[]> {
    try {
      let names: { name: string; isFile: boolean }[] = [];
      // Each costs a read of the catalog: no more of them between two turns than there are in a page.
      for await (const entry of await opendir(folder, { bufferSize: pageSize })) {
        names.push({ name: entry.name, isFile: entry.isFile() });
        if (names.length < pageSize) continue;
        yield names;
        names = [];
        await new Promise(setImmediate);
      }
      yield names;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw new DiskFault('list the blobs', error);
    }
  }

  async #unknown(digest: Digest, options: CheckOptions): Promise<Verdict | undefined> {
    const { layout, catalog, now } = this.#options;
    const found = await stat(layout.blob(digest)).catch(() => undefined);
    if (found === undefined) return undefined;
    // A blob has its name before the catalog has its row.
    const ageMs = now() - found.ctimeMs;
    if (ageMs < settledAfterMs) await delay(Math.min(settledAfterMs, settledAfterMs - ageMs), undefined, options);
    if (catalog.blobs.has(digest)) return undefined;
    const verdict = await this.check(digest, undefined, options);
    return catalog.blobs.has(digest) ? undefined : verdict;
  }
}

function rightVerdict(
  { digest, size, modifiedAtMs }: HashedFile & { readonly digest: Digest },
  recordedSize: number | undefined,
): Verdict {
  const right = { digest, size, modifiedAtMs };
  if (recordedSize === undefined) return { kind: 'unrecorded', ...right };
  return recordedSize === size ? { kind: 'ok', ...right } : { kind: 'misrecorded', ...right, recordedSize };
}

async function inodeOf(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.ino;
}
