import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { Loan } from '../../src/memory/slabs.ts';
import type { Fill } from '../../src/mirror/fill/fill.ts';
import { FillReader } from '../../src/mirror/fill/fill-reader.ts';
import { type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import type { BlobHeading } from '../../src/mirror/fill/transfer.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { Progress } from '../../src/waiting/progress.ts';

const KiB = 1024;
const blob = Buffer.alloc(300 * KiB, randomBytes(4099));
const digest = digestOf(blob);
const key = 'docker.io/library/app';
const heading: BlobHeading = { size: blob.length, contentType: 'a/b' };
const signal = AbortSignal.timeout(120_000);

/** A fill whose state the test writes, with the first 100 KiB of the blob in its file. */
function fillWith({ content = blob, hasFile = true }: { content?: Buffer; hasFile?: boolean } = {}) {
  const asked: number[] = [];
  const aborted: unknown[] = [];
  const source: Source = {
    id: 'one',
    upstream: 'docker.io',
    repository: key,
    connections: 1,
    open: async (_, { offset, signal: within }) => {
      asked.push(offset);
      if (state.error) throw state.error;
      within.addEventListener('abort', () => aborted.push(within.reason), { once: true });
      const body = Readable.from([content.subarray(offset)]) as never;
      return await Promise.resolve({
        size: content.length,
        start: offset,
        end: content.length,
        contentType: 'a/b',
        body,
      });
    },
  };
  const sources = new SourceList();
  sources.add([source]);
  const failure = new Error('the fill has failed');
  const state = {
    error: undefined as Error | undefined,
    read: (buffer: Buffer, position: number, length: number): Promise<number> =>
      Promise.resolve(blob.copy(buffer, 0, position, position + length)),
  };
  const noted = { handed: [] as number[], wanted: [] as number[], holders: 0, through: [] as string[] };
  const partial = {
    written: 100 * KiB,
    hashSoFar: () => createHash('sha256').update(blob.subarray(0, 100 * KiB)),
    read: (...of: Parameters<typeof state.read>) => state.read(...of),
  };
  const fill = {
    digest,
    sources,
    partial: hasFile ? partial : undefined,
    state: 'running',
    heading: heading as BlobHeading | undefined,
    generation: 0,
    isVoid: false,
    progress: new Progress(),
    expectedSizes: new Set<number>(),
    confirmed: new Set<string>(),
    report: () => undefined,
    hold: () => (noted.holders += 1),
    release: async () => void (await Promise.resolve((noted.holders -= 1))),
    readableFrom: (_position: number) => 100 * KiB,
    recentFrom: (_position: number): Loan | undefined => undefined,
    markHanded: (position: number) => noted.handed.push(position),
    adoptHeading: (given: BlobHeading) => {
      fill.heading ??= given;
    },
    want: (position: number) => void noted.wanted.push(position),
    failure: (repository: string) => {
      noted.through.push(repository);
      return failure;
    },
  };
  const reader = (of: { expectedSize?: number; isRanged?: boolean } = {}) =>
    new FillReader(fill as unknown as Fill, { repository: key, expectedSize: undefined, isRanged: false, ...of });
  const lend = (position: number, length: number): void => {
    const loan: Loan = {
      bytes: blob.subarray(position, position + length),
      again: () => loan,
      [Symbol.dispose]: () => undefined,
    };
    fill.recentFrom = (at) => (at === position ? loan : undefined);
  };
  return { fill, state, noted, asked, aborted, failure, reader, lend };
}

/** Reads a position into a buffer of some bytes. */
async function read(from: FillReader, position: number, length = 64 * KiB): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  return buffer.subarray(0, await from.read(buffer, position, signal));
}

/** Whether a promise has settled after everything that could settle it now has. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(
    () => (settled = true),
    () => (settled = true),
  );
  for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
  return settled;
}

describe('the heading of a fill', () => {
  test('is waited for, and is what the source says', async () => {
    const { fill, reader } = fillWith();
    fill.heading = undefined;
    await using reading = reader();
    const waiting = reading.heading(signal);
    expect(await isSettled(waiting)).toBe(false);
    fill.progress.wake();
    expect(await isSettled(waiting)).toBe(false);
    fill.heading = heading;
    fill.progress.wake();
    expect(await waiting).toBe(heading);
  });

  test('is none where the fill has failed, or the client leaves', async () => {
    const { fill, reader, failure, noted } = fillWith();
    fill.heading = undefined;
    await using reading = reader();
    const leaving = new AbortController();
    const waiting = reading.heading(leaving.signal);
    leaving.abort(new Error('left'));
    await expect(waiting).rejects.toThrow('left');
    fill.state = 'failed';
    await expect(reading.heading(signal)).rejects.toBe(failure);
    expect(noted.through).toEqual([key]);
  });

  test('is that of a source that goes on where the disk has failed, from its beginning where there is no file', async () => {
    for (const hasFile of [true, false]) {
      const { fill, reader, asked } = fillWith({ hasFile });
      fill.heading = undefined;
      fill.state = 'spilled';
      await using reading = reader();
      expect(await reading.heading(signal)).toEqual(heading);
      expect([asked, [...fill.confirmed]]).toEqual([[hasFile ? 100 * KiB : 0], [key]]);
      const received: Buffer[] = [];
      for (let position = 0; position < blob.length; position += received.at(-1)!.length) {
        received.push(await read(reading, position));
      }
      expect(Buffer.concat(received).equals(blob)).toBe(true);
      expect(await read(reading, blob.length)).toHaveLength(0);
    }
  });

  test('is the error of the sources where none goes on, and the reason of a client that leaves', async () => {
    const { fill, state, reader } = fillWith();
    fill.heading = undefined;
    fill.state = 'spilled';
    state.error = new RegistryError('denied', 'not for you');
    await using reading = reader();
    await expect(reading.heading(signal)).rejects.toBe(state.error);
    await using other = reader();
    await expect(other.heading(AbortSignal.abort(new Error('left')))).rejects.toThrow('left');
  });

  test('has to have the size that the manifest says, where both are known', async () => {
    const { fill, reader } = fillWith();
    const headingOf = async (expectedSize?: number): Promise<BlobHeading> => {
      await using reading = reader({ ...(expectedSize !== undefined && { expectedSize }) });
      return await reading.heading(signal);
    };
    expect(await headingOf(blob.length)).toBe(heading);
    await expect(headingOf(5)).rejects.toMatchObject({
      reason: 'wrong-size',
      message: `the blob has ${blob.length} bytes, its manifest says 5`,
    });
    fill.heading = { size: undefined, contentType: 'a/b' };
    expect(await headingOf(5)).toBe(fill.heading);
  });
});

describe('a client', () => {
  test('is handed what is in the file as far as it may have it, and holds the file open', async () => {
    const { reader, noted } = fillWith();
    const reading = reader();
    expect(noted.holders).toBe(1);
    expect((await read(reading, 0)).equals(blob.subarray(0, 64 * KiB))).toBe(true);
    expect((await read(reading, 64 * KiB)).equals(blob.subarray(64 * KiB, 100 * KiB))).toBe(true);
    expect(noted.handed).toEqual([0, 64 * KiB]);
    await reading[Symbol.asyncDispose]();
    await reading[Symbol.asyncDispose]();
    expect(noted.holders).toBe(0);
  });

  test('is given what is in memory before what is in the file', async () => {
    const { fill, reader, lend, noted, state } = fillWith();
    await using reading = reader();
    lend(10, 20);
    state.read = () => Promise.reject(new Error('the file is not read'));
    expect((await read(reading, 10)).equals(blob.subarray(10, 30))).toBe(true);
    expect(noted.handed).toEqual([10]);
    expect(reading.peek(10)?.bytes).toEqual(blob.subarray(10, 30));
    expect(reading.peek(11)).toBeUndefined();
    expect(noted.handed).toEqual([10, 10]);
    // Not from another generation, and not where it is another blob than it was told.
    fill.generation = 1;
    expect(reading.peek(10)).toBeUndefined();
    await using late = reader();
    await late.heading(signal);
    fill.heading = { ...heading, size: 5 };
    expect(late.peek(10)).toBeUndefined();
  });

  test('waits at the end of what there is, and says where it is', async () => {
    const { fill, reader, noted } = fillWith();
    await using reading = reader();
    const waiting = read(reading, 100 * KiB);
    expect([await isSettled(waiting), noted.wanted]).toEqual([false, [100 * KiB]]);
    fill.readableFrom = () => 150 * KiB;
    fill.progress.wake();
    expect((await waiting).equals(blob.subarray(100 * KiB, 150 * KiB))).toBe(true);
    const leaving = new AbortController();
    const left = reading.read(Buffer.alloc(1), 150 * KiB, leaving.signal);
    leaving.abort(new Error('left'));
    await expect(left).rejects.toThrow('left');
  });

  test('has the end once the blob is verified, and an error where the fill has failed', async () => {
    const { fill, reader, failure } = fillWith();
    await using reading = reader();
    fill.state = 'verified';
    fill.readableFrom = () => blob.length;
    expect((await read(reading, 299 * KiB)).equals(blob.subarray(299 * KiB))).toBe(true);
    expect(await read(reading, blob.length)).toHaveLength(0);
    fill.state = 'failed';
    await expect(read(reading, blob.length)).rejects.toBe(failure);
    // What is in the file is still given.
    expect(await read(reading, 0)).toHaveLength(64 * KiB);
  });

  test('does not get bytes of two generations', async () => {
    const { fill, reader, failure, state } = fillWith();
    await using reading = reader();
    await read(reading, 0);
    fill.generation = 1;
    await expect(read(reading, 64 * KiB)).rejects.toBe(failure);
    // One that has nothing yet begins with the new one.
    await using fresh = reader();
    expect(await read(fresh, 0)).toHaveLength(64 * KiB);
    // The file is begun again while it is read, whether or not that succeeds.
    for (const result of [() => Promise.resolve(5), () => Promise.reject(new Error('closed'))]) {
      await using cut = reader();
      state.read = async () => {
        fill.generation += 1;
        return await result();
      };
      await expect(read(cut, 0)).rejects.toBe(failure);
    }
    await using broken = reader();
    state.read = () => Promise.reject(new Error('the disk fails'));
    await expect(read(broken, 0)).rejects.toThrow('the disk fails');
  });

  test('has to ask again where the blob proves to have another size than it was told', async () => {
    const { fill, reader, failure } = fillWith();
    await using reading = reader();
    expect(reading.isOutdated).toBe(false);
    await reading.heading(signal);
    fill.heading = { ...heading, size: 5 };
    expect(reading.isOutdated).toBe(true);
    await expect(read(reading, 0)).rejects.toBe(failure);
    await reading.arrival(200 * KiB, signal);
    fill.state = 'failed';
    expect(reading.isOutdated).toBe(false);
    fill.heading = undefined;
    expect((await read(reading, 0)).length).toBeGreaterThan(0);
    // One that was told none is content with any.
    fill.state = 'running';
    fill.heading = { size: undefined, contentType: 'a/b' };
    await using unsized = reader();
    await unsized.heading(signal);
    fill.heading = { ...heading, size: 7 };
    expect(unsized.isOutdated).toBe(false);
  });
});

describe('a client of a fill whose disk has failed', () => {
  test('has the rest from the source, from its own place on', async () => {
    const { fill, reader, asked, lend } = fillWith();
    await using reading = reader();
    await read(reading, 0);
    fill.state = 'spilled';
    fill.readableFrom = () => 0;
    expect((await read(reading, 64 * KiB)).equals(blob.subarray(64 * KiB, 100 * KiB))).toBe(true);
    lend(100 * KiB, 5);
    expect(reading.peek(100 * KiB)).toBeUndefined();
    await reading.arrival(100 * KiB, signal);
    const received: Buffer[] = [];
    for (let position = 100 * KiB; position < blob.length; position += received.at(-1)!.length) {
      received.push(await read(reading, position));
    }
    expect([Buffer.concat(received).equals(blob.subarray(100 * KiB)), asked]).toEqual([true, [100 * KiB]]);
  });

  test('is cut where the source gives other bytes than it already has, and no other client begins with those', async () => {
    const other = Buffer.from(blob);
    other[150 * KiB]! ^= 1;
    const { fill, reader } = fillWith({ content: other });
    fill.readableFrom = () => 200 * KiB;
    await using reading = reader();
    for (const position of [0, 64, 128, 192].map((at) => at * KiB)) await read(reading, position);
    fill.state = 'spilled';
    fill.readableFrom = () => 0;
    await expect(read(reading, 200 * KiB)).rejects.toMatchObject({ reason: 'wrong-bytes' });
    expect(fill.isVoid).toBe(true);
  });

  test('that has requested a part assembles the blob itself', async () => {
    const other = Buffer.from(blob);
    other[150 * KiB]! ^= 1;
    const { fill, reader } = fillWith({ content: other });
    fill.readableFrom = () => 200 * KiB;
    await using reading = reader({ isRanged: true });
    await read(reading, 190 * KiB, 10 * KiB);
    fill.state = 'spilled';
    fill.readableFrom = () => 0;
    expect((await read(reading, 200 * KiB, KiB)).equals(blob.subarray(200 * KiB, 201 * KiB))).toBe(true);
    expect(fill.isVoid).toBe(false);
  });

  test('has the error of the source that does not go on', async () => {
    const { fill, reader, state } = fillWith();
    fill.state = 'spilled';
    fill.readableFrom = () => 0;
    state.error = new RegistryError('denied', 'not for you');
    await using reading = reader();
    await expect(read(reading, 0)).rejects.toBe(state.error);
    expect(fill.isVoid).toBe(false);
  });

  test('ends the request when it leaves', async () => {
    const { fill, reader, aborted } = fillWith();
    fill.state = 'spilled';
    fill.readableFrom = () => 0;
    const reading = reader();
    await read(reading, 0);
    expect(aborted).toEqual([]);
    await reading[Symbol.asyncDispose]();
    expect(aborted).toHaveLength(1);
  });
});
