import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { describe, expect, test, vi } from 'vitest';
import { DirectRoute, type Route, type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { Transfer } from '../../src/mirror/fill/transfer.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { Refusal } from '../../src/upstream/passage.ts';

const bytes = Buffer.from('the bytes of a blob that comes in two parts');
const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;

/** Gives ten bytes, then answers each attempt with the next of the errors, then gives the rest. */
function sourceOf(id: string, errors: readonly Error[]): Source & { readonly offsets: number[] } {
  const left = [...errors];
  const offsets: number[] = [];
  return {
    id,
    upstream: 'docker.io',
    repository: 'docker.io/library/app',
    connections: 1,
    offsets,
    async open(_digest, { offset }) {
      offsets.push(offset);
      const error = offset === 0 ? undefined : left.shift();
      if (error) throw error;
      const rest = bytes.subarray(offset, offset === 0 ? 10 : bytes.length);
      const body = Readable.from([rest]) as Readable & AsyncIterable<Buffer>;
      return await Promise.resolve({ size: bytes.length, start: offset, end: bytes.length, contentType: 'a/b', body });
    },
  };
}

async function receiveFrom(...sources: Source[]): Promise<Buffer> {
  const list = new SourceList();
  list.add(sources);
  return await receive(list, new DirectRoute(list), true);
}

async function receive(list: SourceList, route: Route, isAwaited: boolean): Promise<Buffer> {
  const transfer = new Transfer({
    digest,
    sources: list,
    route,
    offset: 0,
    mayStartOver: true,
    isAwaited: () => isAwaited,
    expectedSizes: new Set([bytes.length]),
    report: () => undefined,
    onAnswer: () => true,
    signal: AbortSignal.timeout(60_000),
  });
  return Buffer.concat(await Array.fromAsync(transfer.bytes()));
}

const refusals = (count: number, state: 'limited' | 'broken', retryAfterMs: number) =>
  Array.from({ length: count }, () => new Refusal(state, 'not asked', { upstream: 'docker.io', retryAfterMs }));

describe('a transfer whose source may not be asked for a while', () => {
  test('waits as long as each answer asks for, and goes on from the byte reached', async () => {
    const source = sourceOf('one', refusals(10, 'limited', 1));
    expect(await receiveFrom(source)).toEqual(bytes);
    expect(source.offsets).toEqual([0, ...Array.from({ length: 11 }, () => 10)]);
  });

  test('goes on at another source at once', async () => {
    const first = sourceOf('one', refusals(1, 'broken', 3_600_000));
    const second = sourceOf('two', []);
    expect(await receiveFrom(first, second)).toEqual(bytes);
    expect(second.offsets).toEqual([10]);
  });

  test('gives up where the pause is longer than a transfer may stand still', async () => {
    const source = sourceOf('one', refusals(1, 'limited', 3_600_000));
    await expect(receiveFrom(source)).rejects.toThrow(RegistryError);
    expect(source.offsets).toEqual([0, 10]);
  });
});

test('a transfer whose source fails slowly, again and again without a byte, ends after a minute', async () => {
  const real = performance.now.bind(performance);
  let skippedMs = 0;
  using clock = vi.spyOn(performance, 'now').mockImplementation(() => real() + skippedMs);
  const late = new RegistryError('timeout', 'upstream docker.io did not answer in time');
  const source = sourceOf(
    'one',
    Array.from({ length: 7 }, () => late),
  );
  const slow: Source = {
    ...source,
    open: (wanted, options) => {
      skippedMs += options.offset === 0 ? 0 : 25_000;
      return source.open(wanted, options);
    },
  };
  await expect(receiveFrom(slow)).rejects.toThrow('no source is left');
  expect(clock).toHaveBeenCalled();
  // With the time of one attempt 25 s, the third ends after the minute.
  expect(source.offsets).toEqual([0, 10, 10, 10]);
});

test('a source that is to be left for another one has not failed: it may be asked again', async () => {
  const list = new SourceList();
  const source = sourceOf('one', []);
  const taken = new AbortController();
  const opened: Source = {
    ...source,
    open: async (wanted, options) => {
      if (taken.signal.aborted) return await source.open(wanted, options);
      const closed = once(options.signal, 'abort');
      taken.abort(new Error('another one fetches it'));
      await closed;
      throw new Error('the connection was given up');
    },
  };
  list.add([opened]);
  class Taken extends DirectRoute {
    override guard(): AbortSignal | undefined {
      return taken.signal.aborted ? undefined : taken.signal;
    }
  }
  expect(await receive(list, new Taken(list), false)).toEqual(bytes);
});
