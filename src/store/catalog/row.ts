import type { Digest } from '../../oci/digest.ts';

/** A row of SQLite. */
export type Row = Readonly<Record<string, string | number | bigint | Uint8Array | null>>;

/** A column of text. */
export function text(row: Row, column: string): string {
  return String(row[column]);
}

/** A column of text that may be NULL. */
export function optionalText(row: Row, column: string): string | undefined {
  const value = row[column];
  return value === null || value === undefined ? undefined : String(value);
}

/** A column of numbers; 0 if there is no row. */
export function number(row: Row | undefined, column: string): number {
  return Number(row?.[column] ?? 0);
}

/** A column of numbers that may be NULL. */
export function optionalNumber(row: Row | undefined, column: string): number | undefined {
  const value = row?.[column];
  return value === null || value === undefined ? undefined : Number(value);
}

/** A column of digests: only digests are ever written to it. */
export function digestIn(row: Row, column = 'digest'): Digest {
  return row[column] as Digest;
}

/** A column, or a condition, that is 1 or 0. */
export function isSet(row: Row | undefined, column: string): boolean {
  return row?.[column] === 1;
}
