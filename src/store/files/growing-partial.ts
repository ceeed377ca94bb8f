import type { Hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import { type Claim, NoRoom, type PartialBlob, smallBlobBytes } from './blob-store.ts';
import { openPartial, openTemporary, type PartialPlace } from './partial-file.ts';
import type { SmallFiles } from './small-files.ts';

/**
 * The partial blob of a digest: what an earlier run has left, or a new one.
 * @param options `isApart`: another one has the file that outlives the process
 * @throws DiskFault
 */
export async function openGrowing({
  place,
  small,
  isApart,
}: Omit<GrowingPartialOptions, 'openFile'> & { readonly isApart: boolean }): Promise<PartialBlob> {
  const { layout, digest } = place;
  const openFile = () => (isApart ? openTemporary : openPartial)(place);
  const isLeftOver = !isApart && existsSync(layout.partial(digest));
  // Without a cache directory the disk is at fault now, and not when all of the blob is here.
  const isFile = isLeftOver || !existsSync(layout.dir);
  return isFile ? await openFile() : new GrowingPartial({ place, small, openFile });
}

interface GrowingPartialOptions {
  readonly place: PartialPlace;
  readonly small: SmallFiles;
  /** Opens the file, empty, for what does not stay small; its disposal calls `place.onClosed`. */
  readonly openFile: () => Promise<PartialBlob>;
}

/** A partial blob that has no file as long as it is small: most blobs are, and are written in one go when they are right. */
class GrowingPartial implements PartialBlob {
  readonly #options: GrowingPartialOptions;
  readonly #digest: Digest;
  #bytes = Buffer.alloc(0);
  #hash: Hash;
  #file: PartialBlob | undefined;
  #opening: Promise<PartialBlob> | undefined;
  #isKept = true;

  constructor(options: GrowingPartialOptions) {
    this.#options = options;
    this.#digest = options.place.digest;
    this.#hash = hasherFor(this.#digest);
  }

  get written(): number {
    return this.#file?.written ?? this.#bytes.length;
  }

  availableFrom(position: number): number {
    return this.#file?.availableFrom(position) ?? Math.max(position, this.#bytes.length);
  }

  nextAvailable(position: number): number | undefined {
    return this.#file?.nextAvailable(position);
  }

  hashSoFar(): Hash {
    return this.#file?.hashSoFar() ?? this.#hash.copy();
  }

  async append(chunks: readonly Buffer[]): Promise<void> {
    await this.write(this.written, chunks);
  }

  async write(position: number, chunks: readonly Buffer[]): Promise<void> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const isSmall = this.#opening === undefined && position + length <= smallBlobBytes;
    if (!isSmall || position !== this.#bytes.length) {
      const file = this.#file ?? (await this.#toFile());
      return await file.write(position, chunks);
    }
    const { place, small } = this.#options;
    if (place.space?.mayGrow(this.#digest, position + length) === false) throw new NoRoom();
    this.#bytes = Buffer.concat([this.#bytes, ...chunks]);
    this.#hash.update(this.#bytes.subarray(position));
    await small.room();
  }

  read(buffer: Buffer, position: number, length: number): Promise<number> {
    if (this.#file) return this.#file.read(buffer, position, length);
    return Promise.resolve(this.#bytes.copy(buffer, 0, position, position + length));
  }

  digest(): Digest {
    return this.#file?.digest() ?? finishDigest(digestAlgorithm(this.#digest), this.#hash.copy());
  }

  async restart(): Promise<void> {
    await this.#file?.restart();
    this.#bytes = Buffer.alloc(0);
    this.#hash = hasherFor(this.#digest);
  }

  async commit(): Promise<number | undefined> {
    const { place, small } = this.#options;
    if (this.#opening !== undefined || !small.isUsable) return await (await this.#toFile()).commit();
    const { layout, space } = place;
    const claim: Claim | undefined = await space?.claim(this.#digest, this.#bytes.length);
    if (claim?.isGranted === false) return undefined;
    let isStored = false;
    try {
      const paths = { temporary: layout.partial(this.#digest), path: layout.blob(this.#digest) };
      const modifiedAtMs = await small.write(this.#bytes, paths);
      isStored = true;
      this.#isKept = false;
      return modifiedAtMs;
    } finally {
      claim?.end(isStored);
    }
  }

  async discard(): Promise<void> {
    this.#isKept = false;
    await (await this.#opened())?.discard();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What is closed before it is whole can be continued.
    if (this.#isKept && this.#bytes.length > 0) await this.#toFile().catch(() => undefined);
    const file = await this.#opened();
    if (file) await file[Symbol.asyncDispose]();
    else this.#options.place.onClosed?.();
  }

  async #opened(): Promise<PartialBlob | undefined> {
    return await this.#opening?.catch(() => undefined);
  }

  /** What has come so far goes to a file. @throws DiskFault */
  #toFile(): Promise<PartialBlob> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<PartialBlob> {
    const file = await this.#options.openFile();
    try {
      if (this.#bytes.length > 0) await file.append([this.#bytes]);
    } catch (error) {
      await file.discard();
      await file[Symbol.asyncDispose]();
      throw error;
    }
    this.#file = file;
    return file;
  }
}
