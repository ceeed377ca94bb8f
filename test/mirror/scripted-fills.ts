import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { FillReader } from '../../src/mirror/fill/fill-reader.ts';
import { Fills, type FillsOptions } from '../../src/mirror/fill/fills.ts';
import type { Source } from '../../src/mirror/fill/sources.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import type { Repository } from '../../src/upstream/repository.ts';
import { MemoryStore } from '../support/memory-store.ts';

export const signal = AbortSignal.timeout(120_000);

export const repositoryOf = (upstream: string): Repository =>
  ({ key: `${upstream}/library/app`, name: 'library/app', upstream: { name: upstream } }) as Repository;
export const repository = repositoryOf('docker.io');

/** A blob whose sources give the first half at once. */
export class Blob {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly opened = Promise.withResolvers<void>();
  /** Aborts of the requests for it. */
  cuts = 0;
  readonly #end = Promise.withResolvers<void>();

  constructor(name: string, size = 100_000) {
    this.bytes = Buffer.alloc(size, name);
    this.digest = digestOf(this.bytes);
  }

  /** Lets its sources give the second half. */
  finish(): this {
    this.#end.resolve();
    return this;
  }

  source(upstream = 'docker.io', more: Partial<Source> = {}): Source {
    return {
      id: `${upstream} one`,
      upstream,
      repository: `${upstream}/library/app`,
      connections: 1,
      open: async (_, { offset, signal: within }) => {
        this.opened.resolve();
        within.addEventListener('abort', () => (this.cuts += 1), { once: true });
        const body = Readable.from(this.#body(offset, within));
        const { length: size } = this.bytes;
        return await Promise.resolve({ size, start: offset, end: size, contentType: 'a/b', body: body as never });
      },
      ...more,
    };
  }

  async *#body(offset: number, within: AbortSignal): AsyncGenerator<Buffer> {
    const half = this.bytes.length / 2;
    if (offset < half) yield this.bytes.subarray(offset, half);
    if (!within.aborted) await Promise.race([this.#end.promise, once(within, 'abort')]);
    within.throwIfAborted();
    yield this.bytes.subarray(Math.max(offset, half));
  }
}

/** Fills over a store in memory, one at a time unless the options say otherwise. */
export function fillsWith(options: Partial<FillsOptions> = {}) {
  const stored: [Digest, object][] = [];
  const begun: Digest[] = [];
  const store = new MemoryStore();
  const fills = new Fills({
    store,
    report: () => undefined,
    limits: { maxFills: 1, maxBlobBytes: 10_000_000 },
    onBegun: (digest) => begun.push(digest),
    onStored: (digest, blob) => stored.push([digest, blob]),
    isLeftoverOf: () => true,
    ...options,
  });
  const join = (blob: Blob, of: { upstream?: string; expectedSize?: number; source?: Source } = {}) =>
    fills.join(blob.digest, {
      repository: repositoryOf(of.upstream ?? 'docker.io'),
      sources: [of.source ?? blob.source(of.upstream)],
      expectedSize: of.expectedSize,
      isRanged: false,
    });
  return { fills, join, stored, begun, store };
}

export async function leave(...readers: { reader: FillReader }[]): Promise<void> {
  for (const { reader } of readers) await reader[Symbol.asyncDispose]();
}
