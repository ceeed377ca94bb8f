import type { Transform } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { ArchiveError } from './archive-error.ts';

export type Compression = 'gzip' | 'zstd' | 'none';

/** Something is compressed in a way that is not read; the reason in words that follow its name. */
export class UnknownCompression extends ArchiveError {
  readonly reason: string;

  constructor(reason: string) {
    super(`it ${reason}`);
    this.reason = reason;
  }
}

/** Maximum ratio of unpacked to compressed size, above a free amount: real archives stay below it. */
const maxExpansion = 200;
const freeExpansionBytes = 1024 * 1024 * 1024;

/** The maximum size to which compressed bytes may unpack. */
export function maxUnpackedBytes(size: number): number {
  return freeExpansionBytes + maxExpansion * size;
}

/**
 * How bytes are compressed.
 * @param start at least the first six bytes, if there are that many
 * @throws UnknownCompression
 */
export function compressionOf(start: Buffer): Compression {
  const hex = start.toString('hex', 0, 6);
  if (hex.startsWith('1f8b')) return 'gzip';
  // Parallel compressors begin with a frame that is to be skipped (RFC 8878, 3.1.2).
  if (hex.startsWith('28b52ffd') || /^5[0-9a-f]2a4d18/.test(hex)) return 'zstd';
  if (hex === 'fd377a585a00' || hex.startsWith('425a68')) {
    throw new UnknownCompression('is compressed with xz or bzip2: unpack it first');
  }
  return 'none';
}

/** Windows that zstd decodes by default, and the largest that it can write, as powers of two. */
const usualWindowLog = 27;
const maxWindowLog = 31;
/** Part of the free memory that the window of one archive may take. */
const windowShare = 1 / 8;

/**
 * Takes compressed bytes and gives what they unpack to.
 * @param options `freeBytes`: memory that the process may still use. With more of it, larger windows of zstd are read
 *   (`--long=31`: 2 GiB); default: none beyond the usual 128 MiB
 */
export function decompressor(
  compression: 'gzip' | 'zstd',
  { freeBytes = 0 }: { readonly freeBytes?: number } = {},
): Transform {
  if (compression === 'gzip') return createGunzip();
  const affordable = Math.floor(Math.log2(Math.max(1, freeBytes * windowShare)));
  const windowLog = Math.min(maxWindowLog, Math.max(usualWindowLog, affordable));
  return createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: windowLog } });
}

/** Why compressed bytes cannot be unpacked, in words that follow the name of what they are. */
export function unpackFailure(error: unknown): string {
  // A decoder holds a window of its output in memory.
  return (error as NodeJS.ErrnoException).code === 'ZSTD_error_frameParameter_windowTooLarge'
    ? 'has a zstd window that is too large for the free memory: compress it with --long=27 or less'
    : 'is damaged or cut short';
}
