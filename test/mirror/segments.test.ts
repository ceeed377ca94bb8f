import { Readable } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Slabs } from '../../src/memory/slabs.ts';
import { Pace } from '../../src/mirror/fill/pace.ts';
import { Segments, type SegmentsOptions } from '../../src/mirror/fill/segments.ts';
import { DirectRoute, type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import type { BlobHeading } from '../../src/mirror/fill/transfer.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const MiB = 1024 * 1024;
const partBytes = 8 * MiB;
const content = Buffer.alloc(20 * MiB, 'the bytes of a large blob, ');
for (let position = 0; position < content.length; position += 4096) content.writeUInt32LE(position, position);
const digest = digestOf(content);

interface Behaviour {
  readonly id?: string;
  readonly connections?: number;
  /** It answers a `Range` with the whole blob. */
  readonly ignoresRange?: boolean;
  /** Positions where the body waits until it is let go on. */
  readonly stops?: readonly number[];
  readonly size?: number;
  readonly errors?: Readonly<Record<number, Error>>;
}

/** A source that notes what it is asked for, and stops where it should. */
class Upstream {
  readonly asked: [offset: number, end: number | undefined][] = [];
  readonly open = new Set<string>();
  readonly source: Source;
  readonly #of: Behaviour;
  readonly #gates: ReadonlyMap<number, PromiseWithResolvers<void>>;
  readonly #reached: ReadonlyMap<number, PromiseWithResolvers<void>>;

  constructor(of: Behaviour = {}) {
    this.#of = of;
    this.#gates = new Map((of.stops ?? []).map((stop) => [stop, Promise.withResolvers<void>()]));
    this.#reached = new Map((of.stops ?? []).map((stop) => [stop, Promise.withResolvers<void>()]));
    this.source = {
      id: of.id ?? 'one',
      upstream: 'docker.io',
      repository: 'docker.io/library/app',
      connections: of.connections ?? 1,
      open: async (_, { offset, end, signal }) => await this.#answer(offset, end, signal),
    };
  }

  /** The body has given everything before a stop. */
  async reached(stop: number): Promise<void> {
    await this.#reached.get(stop)!.promise;
  }

  goOn(stop: number): void {
    this.#gates.get(stop)!.resolve();
  }

  async #answer(offset: number, end: number | undefined, signal: AbortSignal) {
    this.asked.push([offset, end]);
    const error = this.#of.errors?.[offset];
    if (error) throw error;
    const size = this.#of.size ?? content.length;
    const start = this.#of.ignoresRange ? 0 : offset;
    const last = this.#of.ignoresRange ? size : (end ?? size);
    const body = Readable.from(this.#bytes(start, last, signal), { highWaterMark: 1 });
    return await Promise.resolve({ size, start, end: last, contentType: 'a/b', body: body as never });
  }

  async *#bytes(start: number, end: number, signal: AbortSignal): AsyncGenerator<Buffer> {
    for (let position = start; position < end; ) {
      const gate = this.#gates.get(position);
      if (gate) {
        this.#reached.get(position)!.resolve();
        const { promise, reject } = Promise.withResolvers<void>();
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        await Promise.race([gate.promise, promise]);
      }
      const stop = Math.min(end, position + MiB, ...[...this.#gates.keys()].filter((at) => at > position));
      yield content.subarray(position, stop);
      position = stop;
    }
  }
}

async function startFill(upstreams: readonly Upstream[], more: Partial<SegmentsOptions> & { written?: number } = {}) {
  const sources = new SourceList();
  sources.add(upstreams.map(({ source }) => source));
  const folder = await temporaryDirectory('segments');
  await prepareLayout(layoutOf(folder.path));
  const partial = await new DiskStore({ layout: layoutOf(folder.path), memoryBytes: 0 }).ingest(digest);
  onTestFinished(async () => {
    await partial.discard();
    await partial[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });
  if (more.written !== undefined) await partial.append([content.subarray(0, more.written)]);
  const headings: BlobHeading[] = [];
  const abort = new AbortController();
  const segments = new Segments({
    digest,
    partial,
    sources,
    route: new DirectRoute(sources),
    expectedSizes: new Set(),
    isAwaited: () => true,
    report: () => undefined,
    onAnswer: (_, heading) => headings.push(heading),
    slabs: new Slabs(),
    onReceived: () => undefined,
    onWritten: () => undefined,
    pace: new Pace({ capacityBytes: 0 }, { isAlone: () => false, signal: abort.signal }),
    inParts: false,
    signal: abort.signal,
    ...more,
  });
  const running = segments.run();
  running.catch(() => undefined);
  return { segments, running, partial, headings, abort, sources };
}

async function bytesOf(partial: { read(buffer: Buffer, position: number, length: number): Promise<number> }) {
  const buffer = Buffer.alloc(content.length);
  await partial.read(buffer, 0, content.length);
  return buffer.equals(content);
}

describe('a blob that is fetched', () => {
  test('comes over one connection that asks for all of it', async () => {
    const one = new Upstream();
    const { running, partial, headings, segments } = await startFill([one]);
    await running;
    expect(one.asked).toEqual([[0, undefined]]);
    expect(headings).toEqual([{ size: content.length, contentType: 'a/b' }]);
    expect([partial.written, await bytesOf(partial)]).toEqual([content.length, true]);
    expect([...segments.contributors]).toEqual([one.source]);
  });

  test('goes on behind what is on disk', async () => {
    const one = new Upstream();
    const { running, partial } = await startFill([one], { written: 5 * MiB });
    await running;
    expect([one.asked, await bytesOf(partial)]).toEqual([[[5 * MiB, undefined]], true]);
  });

  test('comes in parts of 8 MiB where each connection has a rate of its own, as many at a time', async () => {
    const one = new Upstream({ connections: 2, stops: [MiB, 9 * MiB] });
    const { running, partial } = await startFill([one]);
    await Promise.all([one.reached(MiB), one.reached(9 * MiB)]);
    expect(one.asked).toEqual([
      [0, partBytes],
      [partBytes, 2 * partBytes],
    ]);
    one.goOn(9 * MiB);
    await expect.poll(() => one.asked.length).toBe(3);
    one.goOn(MiB);
    await running;
    expect(one.asked[2]).toEqual([2 * partBytes, undefined]);
    expect(await bytesOf(partial)).toBe(true);
  });

  test('is fetched from where readers wait, over eight connections at most', async () => {
    const wanted = Array.from({ length: 9 }, (_, index) => (index + 1) * 2 * MiB);
    const one = new Upstream({ stops: [1, ...wanted] });
    const { segments, running, partial } = await startFill([one]);
    await one.reached(1);
    for (const position of wanted.toReversed()) segments.want(position);
    await Promise.all(wanted.slice(2).map(async (position) => await one.reached(position)));
    expect(one.asked.map(([offset]) => offset)).toEqual([0, ...wanted.slice(2).toReversed()]);
    for (const stop of [1, ...wanted]) one.goOn(stop);
    await running;
    expect(await bytesOf(partial)).toBe(true);
  });

  test('comes whole, and over one connection, from a source that ignores ranges', async () => {
    const one = new Upstream({ connections: 3, ignoresRange: true });
    const { running, partial, segments } = await startFill([one], { inParts: true });
    await running;
    segments.want(19 * MiB);
    expect([one.asked, await bytesOf(partial)]).toEqual([[[0, partBytes]], true]);
  });
});

describe('a reader far ahead', () => {
  test('gets a connection of its own, which ends at the next byte that is here', async () => {
    const one = new Upstream({ stops: [MiB] });
    const { segments, running, partial } = await startFill([one]);
    // The size is not known yet.
    segments.want(15 * MiB);
    await one.reached(MiB);
    segments.want(content.length);
    // The connection from the beginning will be there soon.
    segments.want(MiB);
    segments.want(4 * MiB);
    expect(one.asked).toHaveLength(1);
    segments.want(10 * MiB);
    await expect.poll(() => partial.availableFrom(10 * MiB)).toBe(content.length);
    // It is here already.
    segments.want(12 * MiB);
    one.goOn(MiB);
    await running;
    expect([partial.written, await bytesOf(partial)]).toEqual([content.length, true]);
    expect(one.asked).toEqual([
      [0, undefined],
      [10 * MiB, 18 * MiB],
      [18 * MiB, undefined],
    ]);
  });

  test('gets none from sources that ignore ranges, nor after the end', async () => {
    const one = new Upstream({ stops: [MiB] });
    const { segments, running, sources, abort } = await startFill([one]);
    await one.reached(MiB);
    sources.noteIgnoredRange(one.source);
    segments.want(15 * MiB);
    expect(one.asked).toHaveLength(1);
    abort.abort(new Error('given up'));
    await expect(running).rejects.toThrow();
    segments.want(15 * MiB);
    expect(one.asked).toHaveLength(1);
  });
});

describe('a blob that cannot be fetched', () => {
  test('has the error of the sources', async () => {
    const absent = new RegistryError('not-found', 'no such blob');
    const { running, sources } = await startFill([new Upstream({ errors: { 0: absent } })]);
    await expect(running).rejects.toMatchObject({ reason: 'no-source' });
    expect(sources.errorFor('docker.io/library/app')).toBe(absent);
  });

  test('ends at once, over all connections, when the disk fails', async () => {
    const one = new Upstream({ connections: 2, stops: [MiB, 9 * MiB] });
    const fault = new DiskFault('write', Object.assign(new Error('full'), { code: 'ENOSPC' }));
    const { running, partial } = await startFill([one]);
    const write = partial.write.bind(partial);
    partial.write = async (position, chunks) => {
      if (position >= partBytes) throw fault;
      await write(position, chunks);
    };
    await one.reached(MiB);
    one.goOn(9 * MiB);
    await expect(running).rejects.toBe(fault);
    expect(partial.written).toBeLessThan(content.length);
  });

  test('ends with the reason of its signal', async () => {
    const one = new Upstream({ stops: [MiB] });
    const { running, abort } = await startFill([one]);
    await one.reached(MiB);
    const reason = new Error('no one waits for it');
    abort.abort(reason);
    await expect(running).rejects.toBe(reason);
  });
});
