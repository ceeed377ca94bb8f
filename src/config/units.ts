/** The suffix of names for the unit of a quantity. */
export type Unit = 'Ms' | 'Bytes' | 'BytesPerSecond';

declare const unitMark: unique symbol;

/** A number that knows its unit, for the compiler alone. */
export type Quantity<U extends Unit> = number & { readonly [unitMark]?: U };

/** The unit of a value that may be absent; of anything that is no quantity the empty text. */
export type UnitOf<Value> = typeof unitMark extends keyof NonNullable<Value>
  ? NonNullable<NonNullable<Value>[typeof unitMark]> & Unit
  : '';

const sizeUnits = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
} as const;

const durationUnits = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** The form of a size, for error messages. */
export const acceptedSizes = 'a size with its unit, such as 500MB or 100GiB (B, KB, MB, GB, KiB, MiB, GiB, TiB)';

/** The form of a duration, for error messages. */
export const acceptedDurations = 'a duration with its unit, such as 10s or 30d (ms, s, m, h, d)';

/** The texts that {@link parseBytes} reads, as a regular expression for JSON Schema. */
export const sizePattern = '^[0-9]+(\\.[0-9]+)? ?(B|KB|MB|GB|KiB|MiB|GiB|TiB)$|^0$';

/** The texts that {@link parseDurationMs} reads, as a regular expression for JSON Schema. */
export const durationPattern = '^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)$|^0$';

/** @returns bytes, or `undefined` where the text is not a size or the number is too large to be exact */
export function parseBytes(text: string): number | undefined {
  return parseQuantity(text, sizeUnits);
}

/** @returns milliseconds, or `undefined` where the text is not a duration or the number is too large to be exact */
export function parseDurationMs(text: string): number | undefined {
  return parseQuantity(text, durationUnits);
}

/** Writes bytes so that {@link parseBytes} gives the same number again, in the largest unit that divides it. */
export function formatBytes(bytes: number): string {
  return formatQuantity(bytes, sizeUnits, 'B');
}

/** Writes milliseconds so that {@link parseDurationMs} gives the same number again, in the largest unit that divides it. */
export function formatDuration(durationMs: number): string {
  return formatQuantity(durationMs, durationUnits, 's');
}

function parseQuantity(text: string, units: Readonly<Record<string, number>>): number | undefined {
  // Nothing is nothing in every unit.
  if (text === '0') return 0;
  const match = /^(\d+(?:\.\d+)?) ?([A-Za-z]+)$/.exec(text);
  if (match === null) return undefined;
  const unit = match[2]!;
  if (!Object.hasOwn(units, unit)) return undefined;
  const quantity = Math.round(Number(match[1]) * units[unit]!);
  return Number.isSafeInteger(quantity) ? quantity : undefined;
}

function formatQuantity(quantity: number, units: Readonly<Record<string, number>>, zeroUnit: string): string {
  if (quantity === 0) return `0${zeroUnit}`;
  let best = { unit: '', factor: 0 };
  for (const [unit, factor] of Object.entries(units)) {
    if (quantity % factor === 0 && factor > best.factor) best = { unit, factor };
  }
  return `${quantity / best.factor}${best.unit}`;
}

const binaryUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Bytes for people: three digits and a unit. */
export function shownBytes(bytes: number): string {
  if (bytes < 1024) return formatBytes(bytes);
  const power = Math.min(binaryUnits.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}${binaryUnits[power]}`;
}
