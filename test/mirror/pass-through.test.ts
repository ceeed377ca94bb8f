import { once } from 'node:events';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { PassThrough } from '../../src/mirror/fill/pass-through.ts';
import { type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import type { BlobHeading } from '../../src/mirror/fill/transfer.ts';
import { digestOf, hasherFor } from '../../src/oci/digest.ts';

const KiB = 1024;
const blob = Buffer.alloc(200 * KiB, 'bytes that the disk does not take ');
const digest = digestOf(blob);
const held = 64 * KiB;

interface Given {
  readonly content?: Buffer;
  readonly offset?: number;
  readonly chunkBytes?: number;
  readonly replica?: string;
  /** The body stops here for good. */
  readonly stopsAt?: number;
}

function start({ content = blob, offset = 0, chunkBytes = 10 * KiB, replica, stopsAt }: Given = {}) {
  const told: [BlobHeading, string | undefined][] = [];
  const aborted: unknown[] = [];
  async function* body(from: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    for (let position = from; position < content.length; position += chunkBytes) {
      if (stopsAt !== undefined && position >= stopsAt) {
        if (!signal.aborted) await once(signal, 'abort');
        signal.throwIfAborted();
      }
      yield content.subarray(position, position + chunkBytes);
    }
  }
  const source: Source = {
    id: 'one',
    upstream: 'docker.io',
    repository: 'docker.io/library/app',
    connections: 1,
    ...(replica !== undefined && { replica }),
    open: async (_, { offset: from, signal }) => {
      signal.addEventListener('abort', () => aborted.push(signal.reason), { once: true });
      const place = { size: content.length, start: from, end: content.length, contentType: 'a/b' };
      return await Promise.resolve({
        ...place,
        body: Readable.from(body(from, signal), { highWaterMark: 1 }) as never,
      });
    },
  };
  const sources = new SourceList();
  sources.add([source]);
  const passing = new PassThrough({
    digest,
    sources,
    offset,
    hash: hasherFor(digest).update(blob.subarray(0, offset)),
    expectedSizes: new Set(),
    report: () => undefined,
    onAnswer: (...of) => told.push(of),
  });
  return { passing, told, aborted };
}

/** Reads with a buffer of some bytes until the end, or an error. */
async function readAll(passing: PassThrough, length: number): Promise<{ received: Buffer; error?: unknown }> {
  const chunks: Buffer[] = [];
  try {
    while (true) {
      const buffer = Buffer.alloc(length);
      const count = await passing.read(buffer, undefined);
      if (count === 0) return { received: Buffer.concat(chunks) };
      chunks.push(buffer.subarray(0, count));
    }
  } catch (error) {
    return { received: Buffer.concat(chunks), error };
  }
}

test('bytes are passed on in order, whatever the sizes of what comes and of what is read', async () => {
  for (const [chunkBytes, length] of [
    [10 * KiB, 7 * KiB],
    [7 * KiB, 64 * KiB],
    [200 * KiB, 10 * KiB],
  ] as const) {
    const { passing, told } = start({ chunkBytes });
    const { received, error } = await readAll(passing, length);
    expect([error, received.equals(blob)]).toEqual([undefined, true]);
    expect(told).toEqual([[{ size: blob.length, contentType: 'a/b' }, 'docker.io/library/app']]);
  }
});

test('the last part is held back until the digest is right', async () => {
  const other = Buffer.from(blob);
  other[0]! ^= 1;
  const { passing } = start({ content: other });
  const { received, error } = await readAll(passing, 64 * KiB);
  expect(error).toMatchObject({ reason: 'wrong-bytes' });
  expect(received.equals(other.subarray(0, blob.length - held))).toBe(true);
});

test('it goes on behind what the file has, and a replica confirms no right', async () => {
  const { passing, told } = start({ offset: 150 * KiB, replica: 'r2' });
  await passing.begin(undefined);
  await passing.begin(undefined);
  expect(told).toEqual([[{ size: blob.length, contentType: 'a/b' }, undefined]]);
  const { received } = await readAll(passing, 64 * KiB);
  expect(received.equals(blob.subarray(150 * KiB))).toBe(true);
  await passing.begin(undefined);
});

test('a client that leaves ends the request, and one that has left begins none', async () => {
  const { passing, aborted, told } = start({ stopsAt: 50 * KiB });
  const reason = new Error('left');
  await expect(passing.begin(AbortSignal.abort(reason))).rejects.toBe(reason);
  expect(told).toEqual([]);
  const leaving = new AbortController();
  const reading = passing.read(Buffer.alloc(KiB), leaving.signal);
  await expect.poll(() => told).toHaveLength(1);
  leaving.abort(reason);
  await expect(reading).rejects.toBe(reason);
  expect(aborted).toEqual([reason]);
  const disposed = start({ stopsAt: 150 * KiB });
  expect(await disposed.passing.read(Buffer.alloc(KiB), undefined)).toBe(KiB);
  await disposed.passing[Symbol.asyncDispose]();
  expect(disposed.aborted).toHaveLength(1);
});
