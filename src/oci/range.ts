import parseRange from 'range-parser';
import { RegistryError } from './error.ts';

/** A part of a blob: bytes from `start` up to, not including, `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Most ranges of one answer; a request for more is answered with the whole, as RFC 9110, 14.2 allows. */
const maxRanges = 64;

/**
 * Reads a `Range` header against a blob's size (RFC 9110, 14.2).
 * @returns the ranges in the order asked for, those that overlap or touch as one; none where the header is to be ignored:
 *   absent, malformed, of another unit, or of more than 64 ranges
 * @throws RegistryError RANGE_INVALID with `Content-Range: bytes *\/size` when all of them lie outside the blob
 */
export function readRanges(header: string | undefined, size: number): readonly ByteRange[] {
  if (header === undefined) return [];
  // range-parser refuses a suffix longer than the blob, which means the whole of it (RFC 9110, 14.1.2).
  const clipped =
    size === 0
      ? header
      : header.replace(/([=,] ?)-(\d+)/g, (text, before: string, bytes: string) =>
          Number(bytes) > size ? `${before}0-` : text,
        );
  const ranges = parseRange(size, clipped, { combine: true });
  if (ranges === -1) {
    throw new RegistryError(
      'bad-range',
      `the range "${header.slice(0, 100)}" lies outside the ${size} bytes of the blob`,
      {
        headers: { 'Content-Range': `bytes */${size}` },
      },
    );
  }
  if (ranges === -2 || ranges.type !== 'bytes' || ranges.length > maxRanges) return [];
  return ranges.map(({ start, end }) => ({ start, end: end + 1 }));
}

/** The `Content-Range` of a 206 answer. */
export function contentRange(range: ByteRange, size: number | undefined): string {
  return `bytes ${range.start}-${range.end - 1}/${size ?? '*'}`;
}

/** A `Content-Range` header taken apart; `undefined` where it cannot be read. */
export function readContentRange(
  header: string | undefined,
): { range: ByteRange; size: number | undefined } | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/i.exec(header?.trim() ?? '');
  if (!match) return undefined;
  const range = { start: Number(match[1]), end: Number(match[2]) + 1 };
  return range.end <= range.start ? undefined : { range, size: match[3] === '*' ? undefined : Number(match[3]) };
}
