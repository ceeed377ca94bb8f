import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  durationPattern,
  formatBytes,
  formatDuration,
  parseBytes,
  parseDurationMs,
  sizePattern,
} from '../../src/config/units.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

describe('sizes', () => {
  test.each([
    ['1B', 1],
    ['1KB', 1_000],
    ['500MB', 500_000_000],
    ['2GB', 2_000_000_000],
    ['1KiB', 1_024],
    ['4MiB', 4_194_304],
    ['100GiB', 107_374_182_400],
    ['3TiB', 3_298_534_883_328],
    ['1.5GiB', 1_610_612_736],
    ['10 MB', 10_000_000],
    ['0', 0],
  ])('%s are %d bytes', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  test.each(['', '5', 'GiB', '-1B', '1gib', '1Gi', '1 000B', '1.B', '1e3B', '1GiB ', '9999999TiB', '1constructor'])(
    '"%s" is not a size',
    (text) => {
      expect(parseBytes(text)).toBeUndefined();
    },
  );

  test('a size that is written is read as the same number', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        expect(parseBytes(formatBytes(bytes))).toBe(bytes);
      }),
    );
  });

  test('the pattern for editors accepts what the program writes', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => new RegExp(sizePattern).test(formatBytes(bytes))));
  });

  test('whatever text is given, the answer is a whole number of bytes or none', () => {
    const almostSize = fc
      .tuple(fc.string(), fc.constantFrom('', 'B', 'KiB', 'GB', 'ms'))
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(almostSize, (text) => {
        const bytes = parseBytes(text);
        expect(bytes === undefined || (Number.isSafeInteger(bytes) && bytes >= 0)).toBe(true);
      }),
    );
  });
});

describe('durations', () => {
  test.each([
    ['250ms', 250],
    ['60s', 60_000],
    ['5m', 300_000],
    ['2h', 7_200_000],
    ['30d', 2_592_000_000],
    ['1.5h', 5_400_000],
    ['0', 0],
  ])('%s are %d ms', (text, durationMs) => {
    expect(parseDurationMs(text)).toBe(durationMs);
  });

  test.each(['', '60', 's', '-1s', '1S', '1w', '1 minute', 'PT1M', '1m30s'])('"%s" is not a duration', (text) => {
    expect(parseDurationMs(text)).toBeUndefined();
  });

  test('a duration that is written is read as the same number', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (durationMs) => {
        expect(parseDurationMs(formatDuration(durationMs))).toBe(durationMs);
        expect(formatDuration(durationMs)).toMatch(new RegExp(durationPattern));
      }),
    );
  });
});
