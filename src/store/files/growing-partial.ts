import type { Hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type Loan, roomFor, type Slabs } from '../../memory/slabs.ts';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import { type Claim, heldBlobBytes, NoRoom, type PartialBlob, smallBlobBytes } from './blob-store.ts';
import { openPartial, openTemporary, type PartialFile, type PartialPlace } from './partial-file.ts';
import type { SmallFiles } from './small-files.ts';

/**
 * The partial blob of a digest: what an earlier run has left, or a new one.
 * @param options `isApart`: another one has the file that outlives the process
 * @throws DiskFault
 */
export async function openGrowing({
  place,
  small,
  memory,
  isApart,
}: Omit<GrowingPartialOptions, 'openFile'> & { readonly isApart: boolean }): Promise<PartialBlob> {
  const { layout, digest } = place;
  const openFile = () => (isApart ? openTemporary : openPartial)(place);
  const isLeftOver = !isApart && existsSync(layout.partial(digest));
  // Without a cache directory the disk is at fault now, and not when all of the blob is here.
  const isFile = isLeftOver || !existsSync(layout.dir);
  return isFile ? await openFile() : new GrowingPartial({ place, small, memory, openFile });
}

interface GrowingPartialOptions {
  readonly place: PartialPlace;
  readonly small: SmallFiles;
  /** The memory that the bytes come in; absent: they are copied, and no more than {@link smallBlobBytes} are held. */
  readonly memory: Slabs | undefined;
  /** Opens the file, empty, for what does not stay small; its disposal calls `place.onClosed`. */
  readonly openFile: () => Promise<PartialFile>;
}

/** A partial blob that has no file as long as it is small: most blobs are, and are written in one go when they are right. */
class GrowingPartial implements PartialBlob {
  readonly #options: GrowingPartialOptions;
  readonly #digest: Digest;
  #held: HeldBytes;
  #hash: Hash;
  #file: PartialFile | undefined;
  #opening: Promise<PartialFile> | undefined;
  #isKept = true;

  constructor(options: GrowingPartialOptions) {
    this.#options = options;
    this.#digest = options.place.digest;
    this.#held = new HeldBytes(options.memory);
    this.#hash = hasherFor(this.#digest);
  }

  get written(): number {
    return this.#file?.written ?? this.#held.length;
  }

  availableFrom(position: number): number {
    return this.#file?.availableFrom(position) ?? Math.max(position, this.#held.length);
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
    const isHeld = this.#opening === undefined && position + length <= this.#mostHeld;
    if (!isHeld || position !== this.#held.length) {
      const file = this.#file ?? (await this.#toFile());
      return await file.write(position, chunks);
    }
    const { place, small } = this.#options;
    if (place.space?.mayGrow(this.#digest, position + length) === false) throw new NoRoom();
    for (const chunk of chunks) {
      this.#held.add(chunk);
      this.#hash.update(chunk);
    }
    await small.room();
  }

  read(buffer: Buffer, position: number, length: number): Promise<number> {
    if (this.#file) return this.#file.read(buffer, position, length);
    return Promise.resolve(this.#held.copy(buffer, position, length));
  }

  digest(): Digest {
    return this.#file?.digest() ?? finishDigest(digestAlgorithm(this.#digest), this.#hash.copy());
  }

  async restart(): Promise<void> {
    await this.#file?.restart();
    this.#held.clear();
    this.#hash = hasherFor(this.#digest);
  }

  async commit(): Promise<number | undefined> {
    const { place, small } = this.#options;
    if (this.#opening !== undefined || !small.isUsable) return await (await this.#toFile()).commit();
    const { layout, space } = place;
    const claim: Claim | undefined = await space?.claim(this.#digest, this.#held.length);
    if (claim?.isGranted === false) return undefined;
    let isStored = false;
    try {
      const paths = { temporary: layout.partial(this.#digest), path: layout.blob(this.#digest) };
      const isSmall = this.#held.length <= smallBlobBytes;
      const { pieces } = this.#held;
      const modifiedAtMs = await (isSmall ? small.write(pieces, paths) : small.writeSynced(pieces, paths));
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
    // A file that is closed before it is whole can be continued.
    if (this.#isKept && this.#held.length > 0) await this.#toFile().catch(() => undefined);
    const file = await this.#opened();
    this.#held.clear();
    if (file) await file[Symbol.asyncDispose]();
    else this.#options.place.onClosed?.();
  }

  /** How much may be held: less where memory is short. */
  get #mostHeld(): number {
    const { memory } = this.#options;
    return memory !== undefined && roomFor(memory) === 1 ? heldBlobBytes : smallBlobBytes;
  }

  async #opened(): Promise<PartialFile | undefined> {
    return await this.#opening?.catch(() => undefined);
  }

  /** Moves the bytes that have come so far to a file. @throws DiskFault */
  #toFile(): Promise<PartialFile> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<PartialFile> {
    const file = await this.#options.openFile();
    try {
      if (this.#held.length > 0) await file.adopt(this.#held.pieces, this.#hash);
    } catch (error) {
      await file.discard();
      await file[Symbol.asyncDispose]();
      throw error;
    }
    this.#file = file;
    this.#held.clear();
    return file;
  }
}

interface Piece {
  readonly bytes: Buffer;
  readonly loan: Loan | undefined;
}

/** The beginning of a blob in memory: borrowed where it lies in a slab, copied otherwise. */
class HeldBytes {
  readonly #memory: Slabs | undefined;
  #pieces: Piece[] = [];
  #length = 0;

  constructor(memory: Slabs | undefined) {
    this.#memory = memory;
  }

  get length(): number {
    return this.#length;
  }

  /** All of it, in order; to be used before {@link clear}. */
  get pieces(): readonly Buffer[] {
    return this.#pieces.map(({ bytes }) => bytes);
  }

  add(chunk: Buffer): void {
    if (chunk.length === 0) return;
    const part = this.#memory?.partOf(chunk);
    const loan = part?.slab.lend(part.start, part.end);
    this.#pieces.push({ bytes: loan?.bytes ?? Buffer.from(chunk), loan });
    this.#length += chunk.length;
  }

  /** @returns how many bytes it has copied */
  copy(buffer: Buffer, position: number, length: number): number {
    let start = 0;
    let count = 0;
    for (const { bytes } of this.#pieces) {
      const from = position + count - start;
      if (count < length && from < bytes.length) count += bytes.copy(buffer, count, from, from + length - count);
      start += bytes.length;
    }
    return count;
  }

  clear(): void {
    for (const { loan } of this.#pieces) loan?.[Symbol.dispose]();
    this.#pieces = [];
    this.#length = 0;
  }
}
