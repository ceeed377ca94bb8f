import parseRange from 'range-parser';
import { RegistryError } from './error.ts';

/** A part of a blob: bytes from `start` up to, not including, `end`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Reads a `Range` header against a blob's size (RFC 9110, 14.2).
 * @returns the range, or `undefined` where the header is to be ignored: none, malformed, another unit, several ranges
 * @throws RegistryError RANGE_INVALID with `Content-Range: bytes *\/size` when the range lies outside the blob
 */
export function readRange(header: string | undefined, size: number): ByteRange | undefined {
  if (header === undefined) return undefined;
  // range-parser refuses a suffix longer than the blob, which means the whole of it (RFC 9110, 14.1.2).
  const suffixBytes = Number(/^bytes=-(\d+)$/.exec(header)?.[1]);
  if (size > 0 && suffixBytes > size) return { start: 0, end: size };
  const ranges = parseRange(size, header);
  if (ranges === -1) {
    throw new RegistryError(
      'bad-range',
      `the range "${header.slice(0, 100)}" lies outside the ${size} bytes of the blob`,
      {
        headers: { 'Content-Range': `bytes */${size}` },
      },
    );
  }
  if (ranges === -2 || ranges.type !== 'bytes' || ranges.length !== 1) return undefined;
  const [range] = ranges;
  return range && { start: range.start, end: range.end + 1 };
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
