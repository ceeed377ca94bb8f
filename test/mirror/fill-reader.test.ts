import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { Loan } from '../../src/memory/slabs.ts';
import type { Fill } from '../../src/mirror/fill/fill.ts';
import { FillReader } from '../../src/mirror/fill/fill-reader.ts';
import { type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { Progress } from '../../src/waiting/progress.ts';

const KiB = 1024;
const blob = randomBytes(300 * KiB);
const digest = digestOf(blob);
const written = 100 * KiB;

/** Gives the bytes from an offset on. */
const source: Source = {
  id: 'one',
  upstream: 'docker.io',
  repository: 'docker.io/library/app',
  connections: 1,
  open: (_, { offset }) => {
    const body = Readable.from([blob.subarray(offset)]) as Readable & AsyncIterable<Buffer>;
    return Promise.resolve({ size: blob.length, start: offset, end: blob.length, contentType: 'a/b', body });
  },
};

/** A fill whose file has more than is hashed, and whose disk fails on demand. */
function startFill() {
  const sources = new SourceList();
  sources.add([source]);
  const partial = {
    written,
    hashSoFar: () => createHash('sha256').update(blob.subarray(0, written)),
    read: (buffer: Buffer, position: number, length: number) =>
      Promise.resolve(blob.copy(buffer, 0, position, position + length)),
  };
  const fill = {
    digest,
    sources,
    partial,
    state: 'running',
    heading: { size: blob.length, contentType: 'a/b' },
    generation: 0,
    progress: new Progress(),
    expectedSizes: new Set<number>(),
    confirmed: new Set<string>(),
    report: () => undefined,
    hold: () => undefined,
    release: () => Promise.resolve(),
    readableFrom: () => 200 * KiB,
    recentFrom: (): Loan | undefined => undefined,
    markHanded: () => undefined,
    adoptHeading: () => undefined,
    want: (_position: number): void => undefined,
    failure: () => new Error('failed'),
  };
  return { fill, reader: () => new FillReader(fill as unknown as Fill, { ...whole, expectedSize: blob.length }) };
}

const whole = { repository: 'docker.io/library/app', isRanged: false };

test('a client that has bytes from beyond the hashed part is not cut when the disk then fails', async () => {
  const { fill, reader } = startFill();
  await using reading = reader();
  const buffer = Buffer.alloc(64 * KiB);
  const received: Buffer[] = [];
  let position = 0;
  while (position < blob.length) {
    const count = await reading.read(buffer, position, AbortSignal.timeout(60_000));
    expect(count).toBeGreaterThan(0);
    received.push(Buffer.from(buffer.subarray(0, count)));
    position += count;
    if (position >= 200 * KiB) fill.state = 'spilled';
    if (position >= 200 * KiB) fill.readableFrom = () => 0;
  }
  expect(digestOf(Buffer.concat(received))).toBe(digest);
});

describe('a client that waits for bytes', () => {
  const signal = AbortSignal.timeout(60_000);

  test('is ready when they come, and is lent them', async () => {
    const { fill, reader } = startFill();
    const wanted: number[] = [];
    fill.readableFrom = () => 0;
    fill.want = (position) => void wanted.push(position);
    await using reading = reader();
    let isReady = false;
    const ready = reading.arrival(0, signal).then(() => (isReady = true));
    await Promise.resolve();
    expect([isReady, wanted]).toEqual([false, [0]]);
    const loan: Loan = { bytes: blob, again: () => loan, [Symbol.dispose]: () => undefined };
    fill.recentFrom = () => loan;
    fill.progress.wake();
    await ready;
    expect(reading.peek(0)?.bytes).toBe(blob);
  });

  test('does not wait for what is in the file, nor for a fill that has ended or begun again', async () => {
    const { fill, reader } = startFill();
    await using reading = reader();
    await reading.arrival(0, signal);
    await reading.read(Buffer.alloc(1), 0, signal);
    fill.readableFrom = () => 0;
    fill.generation = 1;
    await reading.arrival(1, signal);
    fill.generation = 0;
    for (const state of ['spilled', 'failed', 'verified']) {
      fill.state = state;
      await reading.arrival(1, signal);
    }
  });

  test('waits no longer than it wants to', async () => {
    const { fill, reader } = startFill();
    fill.readableFrom = () => 0;
    await using reading = reader();
    const leaving = new AbortController();
    const ready = reading.arrival(0, leaving.signal);
    leaving.abort(new Error('left'));
    await expect(ready).rejects.toThrow('left');
  });
});
