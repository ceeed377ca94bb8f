import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { beginningOf, begunAtMsOf, entryOf, lineOf } from '../../src/store/catalog/name-entry.ts';
import { isSet, number, optionalNumber, optionalText, type Row } from '../../src/store/catalog/row.ts';
import { isBroken, isLocked, isOfOtherTables, sqliteCode } from '../../src/store/catalog/sqlite-error.ts';
import {
  budgetFor,
  earliestMs,
  greatestHeat,
  halfLifeMs,
  heatAfter,
  heatSetBack,
  lackOfFree,
  marksOf,
} from '../../src/store/eviction-policy.ts';
import { app, Records, sorted } from './records.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

describe('heat', () => {
  test('grows by one with each use, and is half as much after a half-life', () => {
    const nowMs = 500 * halfLifeMs;
    const uses = (heat: number, atMs = nowMs) => 2 ** (heat - atMs / halfLifeMs);
    const one = heatAfter(undefined, 1, nowMs);
    expect(uses(one)).toBeCloseTo(1);
    expect(uses(heatAfter(undefined, 5, nowMs))).toBeCloseTo(5);
    expect(uses(heatAfter(one, 1, nowMs))).toBeCloseTo(2);
    expect(uses(one, nowMs + halfLifeMs)).toBeCloseTo(0.5);
    expect(uses(heatAfter(one, 1, nowMs + halfLifeMs), nowMs + halfLifeMs)).toBeCloseTo(1.5);
    expect(uses(heatAfter(heatAfter(undefined, 7, nowMs), 1, nowMs))).toBeCloseTo(8);
    expect(uses(greatestHeat(nowMs))).toBeCloseTo(65_536);
    expect([halfLifeMs, earliestMs]).toEqual([259_200_000, Date.parse('2023-01-01')]);
  });

  test('of a use in the future is what it would be if that use were now, and no more than the greatest', () => {
    const nowMs = 500 * halfLifeMs;
    const aheadMs = 30 * halfLifeMs;
    const ahead = heatAfter(undefined, 5, nowMs + aheadMs);
    expect(heatSetBack(ahead, { aheadMs, nowMs })).toBeCloseTo(heatAfter(undefined, 5, nowMs));
    // Its last use is not ahead, but an earlier one was.
    expect(heatSetBack(ahead, { aheadMs: -1000, nowMs })).toBe(greatestHeat(nowMs));
  });
});

describe('the marks of a budget', () => {
  test('leave a two-hundredth, 256 MiB at most, and begin a hundredth, 1 GiB at most, below that', () => {
    expect(marksOf(20_000)).toEqual({ high: 19_900, low: 19_700 });
    expect(marksOf(1024 * GiB)).toEqual({ high: 1024 * GiB - 256 * MiB, low: 1023 * GiB - 256 * MiB });
    expect(marksOf(100.5)).toEqual({ high: 99, low: 97 });
    for (const bytes of [0, 1, 1000, 19_900, 99 * MiB, 500 * GiB]) {
      const { high } = marksOf(budgetFor(bytes));
      expect(high).toBeGreaterThanOrEqual(bytes);
      expect(high).toBeLessThanOrEqual(bytes + 2);
    }
  });

  test('of what should be free are those of the file system, or half of a small one', () => {
    const lack = (freeBytes: number, mark: 'high' | 'low', minFree = 1000, totalBytes = 1e6) =>
      lackOfFree({ totalBytes, freeBytes }, minFree, mark);
    expect([lack(1000, 'high'), lack(999, 'high'), lack(1000, 'low'), lack(1050, 'low')]).toEqual([0, 1, 50, 0]);
    expect([lack(400, 'high', 1000, 1000), lack(500, 'low', 1000, 1000)]).toEqual([100, 25]);
    expect(lack(0, 'low', 100 * GiB, 1e15) - 100 * GiB).toBe(GiB);
    expect(lackOfFree(undefined, 1000, 'high')).toBe(0);
  });
});

describe('a use', () => {
  test('makes recent what was used last, up to a tenth of all bytes', async () => {
    using records = await Records.open();
    const { uses, images } = records.catalog;
    const all = Array.from({ length: 20 }, (_, at) => {
      records.nowMs += 1000;
      return records.manifest(`m${at}`, {});
    });
    const recent = () => all.filter((one) => images.manifest(one)?.isRecent);
    expect(recent()).toEqual([all[18], all[19]]);
    records.nowMs += 1000;
    uses.touch(all[0]!);
    expect([uses.isTouched(all[0]!), uses.flush(), uses.isTouched(all[0]!), uses.flush()]).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect(recent()).toEqual([all[0], all[19]]);
    expect(images.manifest(all[0]!)?.usedAtMs).toBe(records.nowMs);
  });

  test('of a manifest warms what it names and what is attached to it, and of a layer that alone', async () => {
    using records = await Records.open();
    const { uses, evictions } = records.catalog;
    const order = () => evictions.coldest(9).map((one) => one.digest);
    const [a, b] = [records.blob('a'), records.blob('b')];
    const one = records.manifest('one', { layers: [a] });
    const two = records.manifest('two', { layers: [b] });
    const signature = records.manifest('signature', { subject: one });
    records.nowMs += 1000;
    // Everything else is older: what was used last is not looked at by its heat.
    const filler = records.manifest('filler', { size: 1e9 });
    records.nowMs += 1000;
    uses.touch(filler);
    uses.flushAll();
    for (let time = 0; time < 3; time += 1) uses.touch(one);
    records.nowMs += 1000;
    uses.flushAll();
    records.nowMs += 1000;
    uses.touch(filler);
    uses.flushAll();
    expect(order().slice(0, 2).toSorted()).toEqual(sorted(b, two));
    for (let time = 0; time < 9; time += 1) uses.touch(b);
    uses.flushAll();
    expect(order()[0]).toBe(two);
    expect(order()).toContain(signature);
  });

  test('of as many uses goes by their ends, however they began and were written', async () => {
    using records = await Records.open();
    const { uses, evictions } = records.catalog;
    const [first, second, third] = ['first', 'second', 'third'].map((name) => records.manifest(name, {}));
    for (const one of [third!, first!, second!]) {
      records.nowMs += 700;
      uses.touch(one);
      uses.flushAll();
    }
    records.nowMs += 60_000;
    records.manifest('large', { size: 1e9 });
    uses.lasted([third!], 1);
    uses.lasted([second!], 1.5);
    uses.lasted([first!], 30_000);
    expect(uses.isTouched(first!)).toBe(true);
    uses.flushAll();
    expect(uses.isTouched(first!)).toBe(false);
    expect(evictions.coldest(3).map(({ digest }) => digest)).toEqual([first, second, third]);
  });

  test('is remembered of what was evicted, for when it comes back', async () => {
    using records = await Records.open();
    const { uses, evictions } = records.catalog;
    const cold = records.manifest('cold', {});
    const warm = records.manifest('warm', {});
    for (let time = 0; time < 8; time += 1) uses.touch(warm);
    uses.flushAll();
    evictions.forget(warm);
    records.nowMs += 1000;
    const next = records.manifest('next', {});
    records.manifest('warm', {});
    records.nowMs += 1000;
    records.manifest('large', { size: 1e9 });
    const order = evictions.coldest(9).map((one) => one.digest);
    expect(order.indexOf(warm)).toBeGreaterThan(order.indexOf(next));
    expect(order.indexOf(next)).toBeGreaterThan(order.indexOf(cold));
  });

  test('by a clock that was ahead counts as one of now', async () => {
    using records = await Records.open();
    const { uses, images, pins } = records.catalog;
    const before = records.nowMs;
    records.nowMs += 400 * 24 * 60 * 60 * 1000;
    const image = records.manifest('image', {});
    records.nowMs = before;
    expect(uses.setClockBack()).toBe(true);
    expect(images.manifest(image)?.usedAtMs).toBe(before);
    expect(uses.setClockBack()).toBe(false);
    records.nowMs = earliestMs - 1;
    expect(uses.setClockBack()).toBe(false);
    records.nowMs = earliestMs;
    expect(uses.setClockBack()).toBe(true);
    expect(pins.isPinned(app, image)).toBe(false);
  });
});

describe('a row', () => {
  test('has columns that may be missing', () => {
    expect([number(undefined, 'x'), number({}, 'x'), number({ x: 3n }, 'x'), number({ x: null }, 'x')]).toEqual([
      0, 0, 3, 0,
    ]);
    expect([undefined, {}, { x: null }, { x: 0 }].map((row) => optionalNumber(row as Row | undefined, 'x'))).toEqual([
      undefined,
      undefined,
      undefined,
      0,
    ]);
    expect([{}, { x: null }, { x: '' }, { x: 1 }].map((row) => optionalText(row as Row, 'x'))).toEqual([
      undefined,
      undefined,
      '',
      '1',
    ]);
    expect([undefined, {}, { x: 0 }, { x: 1 }, { x: '1' }].map((row) => isSet(row as Row | undefined, 'x'))).toEqual([
      false,
      false,
      false,
      true,
      false,
    ]);
  });

  test('is refused by SQLite for reasons that are told by their codes', () => {
    const of = (errcode: unknown) => Object.assign(new Error('x'), { errcode });
    expect([of(5), of(261), of('5'), new Error('x'), { errcode: 5 }].map(sqliteCode)).toEqual([
      5,
      5,
      undefined,
      undefined,
      undefined,
    ]);
    const codes = Array.from({ length: 30 }, (_, code) => code);
    const those = (is: (error: unknown) => boolean) => codes.filter((code) => is(of(code)));
    expect([those(isLocked), those(isBroken), those(isOfOtherTables)]).toEqual([[5, 6], [11, 26], [1]]);
  });
});

describe('a line of the journal', () => {
  test('is a checksum, a space and JSON of its members', () => {
    const line = lineOf({ kind: 'pin', repository: 'a', reference: 'b', atMs: 1, more: 2 } as never);
    expect(line).toMatch(/^[0-9a-f]{8} \{"kind":"pin","repository":"a","atMs":1,"reference":"b"\}\n$/);
    const text = line.slice(0, -1);
    expect(entryOf(text)).toEqual({ kind: 'pin', repository: 'a', reference: 'b', atMs: 1 });
    expect(entryOf(`${text.slice(0, 8)}x${text.slice(9)}`)).toBeUndefined();
    expect(entryOf(`0${text}`)).toBeUndefined();
  });

  test.each([
    { kind: 'pin', repository: 'a', reference: 'b', atMs: '1' },
    { kind: 'pin', repository: 1, reference: 'b', atMs: 1 },
    { kind: 'pin', repository: 'a', reference: 'b' },
    { kind: 'unpin', repository: 'a' },
    { kind: 'type', digest: 1, contentType: 'x' },
    { kind: 'type', digest: digestOf(Buffer.from('x')) },
    { kind: 'shown', digest: digestOf(Buffer.from('x')), upstream: 1 },
    { kind: 'grant', repository: 'a', digest: digestOf(Buffer.from('x')), size: null },
    { kind: 'right gone', repository: 'a', digest: 'sha256:1' },
    { kind: 'manifest', repository: 'a', digest: digestOf(Buffer.from('x')) },
    { kind: 'tag gone', repository: 'a', tag: 'b', variant: 1, atMs: 1 },
    {
      kind: 'tag',
      repository: 'a',
      tag: 'b',
      variant: '',
      digest: digestOf(Buffer.from('x')),
      contentType: 'c',
      size: 1,
    },
    { kind: 'toString' },
    {},
  ])('of %j says nothing', (entry) => {
    expect(entryOf(lineOf(entry as never).slice(0, -1))).toBeUndefined();
  });

  test('that is the first says when the journal begins', () => {
    const line = beginningOf(1234).slice(0, -1);
    expect([begunAtMsOf(line), entryOf(line)]).toEqual([1234, undefined]);
    expect([begunAtMsOf(`${line} `), begunAtMsOf(line.replace(' ', '_')), begunAtMsOf('')]).toEqual([0, 0, 0]);
    expect(begunAtMsOf(beginningOf('x' as never).slice(0, -1))).toBe(0);
    expect(begunAtMsOf(lineOf({ kind: 'unpin', repository: 'a', reference: 'b' }).slice(0, -1))).toBe(0);
  });
});
