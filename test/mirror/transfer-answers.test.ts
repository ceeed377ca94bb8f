import { describe, expect, test } from 'vitest';
import type { TransferEvent } from '../../src/mirror/fill/fill-events.ts';
import { DirectRoute, type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { Transfer, type TransferOptions } from '../../src/mirror/fill/transfer.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import type { BlobAnswer } from '../../src/upstream/client.ts';
import { Refusal } from '../../src/upstream/passage.ts';

const bytes = Buffer.from('0123456789');
const digest = digestOf(bytes);

interface Reply {
  readonly start?: number;
  readonly end?: number | undefined;
  readonly size?: number | undefined;
  /** What comes; default: from the start to the end. */
  readonly chunks?: readonly (string | Error)[];
}

type Asked = { offset: number; end?: number; size?: number };

/** A source whose answers come in order; the last one again and again. */
function sourceOf(id: string, ...replies: readonly (Reply | Error)[]) {
  const asked: Asked[] = [];
  const destroyed = { count: 0 };
  const open: Source['open'] = (_, { signal: _signal, ...options }) => {
    const reply = replies[Math.min(asked.length, replies.length - 1)]!;
    asked.push(options);
    if (reply instanceof Error) return Promise.reject(reply);
    const { start = options.offset, end = bytes.length, size = bytes.length } = reply;
    const { chunks = [bytes.subarray(start, end).toString()] } = reply;
    const body: BlobAnswer['body'] = {
      async *[Symbol.asyncIterator]() {
        for (const chunk of chunks) {
          await Promise.resolve();
          if (chunk instanceof Error) throw chunk;
          yield Buffer.from(chunk);
        }
      },
      destroy: () => (destroyed.count += 1),
    };
    const known = 'size' in reply ? reply.size : size;
    return Promise.resolve({ size: known, start, end: 'end' in reply ? reply.end : end, contentType: 'a/b', body });
  };
  const source: Source = { id, upstream: 'docker.io', repository: 'docker.io/a', connections: 1, open };
  return Object.assign(source, { asked, destroyed });
}

function transferOf(
  sources: readonly Source[],
  options: Partial<TransferOptions> & { readonly maxBytes?: number } = {},
) {
  const list = new SourceList(options.maxBytes);
  list.add(sources);
  const events: TransferEvent[] = [];
  const answers: unknown[] = [];
  const transfer = new Transfer({
    digest,
    sources: list,
    route: new DirectRoute(list),
    offset: 0,
    mayStartOver: true,
    isAwaited: () => false,
    expectedSizes: new Set(),
    report: (event) => void events.push(event),
    onAnswer: (source, heading) => {
      answers.push([source.id, heading]);
      return true;
    },
    signal: AbortSignal.timeout(60_000),
    ...options,
  });
  const read = async () => Buffer.concat(await Array.fromAsync(transfer.bytes())).toString();
  const errors = () => events.filter((event) => event.kind === 'source-failed').map(({ error }) => error);
  return { transfer, list, events, answers, read, errors };
}

describe('a blob', () => {
  test('is read whole, and its source told what it should have', async () => {
    const source = sourceOf('a', {});
    const { transfer, read, answers, events } = transferOf([source], { expectedSizes: new Set([10]) });
    expect(await read()).toBe('0123456789');
    expect(source.asked).toEqual([{ offset: 0, end: undefined, size: 10 }]);
    expect([transfer.size, [...transfer.contributors], source.destroyed.count]).toEqual([10, [source], 1]);
    expect(answers).toEqual([['a', { size: 10, contentType: 'a/b' }]]);
    expect(events).toEqual([{ kind: 'received', source, bytes: 10 }]);
  });

  test('without a size ends where its body ends', async () => {
    const { transfer, read } = transferOf([sourceOf('a', { size: undefined, end: undefined })]);
    expect(await read()).toBe('0123456789');
    expect(transfer.size).toBe(10);
  });

  test('goes on from the byte reached at the same source, and at another one after two failures', async () => {
    const cut = new Error('reset');
    const first = sourceOf('a', { chunks: ['012', cut] }, { chunks: [cut] }, { chunks: [cut] });
    const second = sourceOf('b', {});
    const { read, errors, events } = transferOf([first, second]);
    expect(await read()).toBe('0123456789');
    expect(first.asked.map(({ offset }) => offset)).toEqual([0, 3]);
    expect(second.asked.map(({ offset }) => offset)).toEqual([3]);
    expect(errors()).toMatchObject([
      { reason: 'cut', cause: cut },
      { reason: 'cut', cause: cut },
    ]);
    expect(events.filter(({ kind }) => kind === 'source-failed')).toMatchObject([
      { digest, source: first, position: 3 },
      { digest, source: first, position: 3 },
    ]);
  });

  test('of a body that ends too early is read on', async () => {
    const { read, errors } = transferOf([sourceOf('a', { chunks: ['0123'] }, {})]);
    expect(await read()).toBe('0123456789');
    expect(errors()).toMatchObject([
      { reason: 'wrong-size', message: expect.stringContaining('4 bytes instead of 10') as string },
    ]);
  });

  test('whose body is longer than it says is none', async () => {
    const { read, errors } = transferOf([sourceOf('a', { chunks: ['0123456789x'] }, {})]);
    expect(await read()).toBe('0123456789');
    expect(errors()).toMatchObject([{ reason: 'wrong-size' }]);
  });

  test('that only comes from its start is read from there, where that may be', async () => {
    const source = sourceOf('a', { start: 0 });
    const { read, list } = transferOf([source], { offset: 4, size: 10 });
    expect(await read()).toBe('456789');
    expect(list.hasRanged).toBe(false);
    const strict = transferOf([sourceOf('a', { start: 0 }), sourceOf('b', {})], {
      offset: 4,
      size: 10,
      mayStartOver: false,
    });
    expect(await strict.read()).toBe('456789');
    expect(strict.errors()).toMatchObject([{ reason: 'range-ignored' }]);
    expect([...strict.transfer.contributors].map(({ id }) => id)).toEqual(['b']);
  });

  test('that comes in chunks of which the first are known is read from the one that is new', async () => {
    const { read, events } = transferOf([sourceOf('a', { start: 0, chunks: ['012', '3456', '789'] })], {
      offset: 4,
      size: 10,
    });
    expect(await read()).toBe('456789');
    expect(events.map((event) => event.kind === 'received' && event.bytes)).toEqual([3, 4, 3]);
  });

  test('that begins behind what was asked for is none', async () => {
    const { read, errors } = transferOf([sourceOf('a', { start: 5 }), sourceOf('b', {})], { offset: 4, size: 10 });
    expect(await read()).toBe('456789');
    expect(errors()).toMatchObject([{ reason: 'range-ignored' }]);
  });

  test.each<[string, Reply, Partial<TransferOptions>]>([
    ['a manifest says otherwise', { size: 11 }, { expectedSizes: new Set([10]) }],
    ['that is known for certain', { size: 11 }, { size: 10, offset: 1 }],
    ['that would be none', { size: 0, end: 0 }, {}],
  ])('of another size is none where %s', async (_, reply, options) => {
    const { read, errors } = transferOf([sourceOf('a', reply), sourceOf('b', {})], options);
    expect(await read()).toBe('0123456789'.slice(options.offset ?? 0));
    expect(errors()).toMatchObject([{ reason: 'wrong-size' }]);
  });

  test('may have any of the sizes that manifests give it', async () => {
    const { read, errors } = transferOf([sourceOf('a', {})], { expectedSizes: new Set([9, 10]) });
    expect([await read(), errors()]).toEqual(['0123456789', []]);
  });

  test('that is empty is read', async () => {
    const source = sourceOf('a', { size: 0, end: 0, chunks: [] });
    const empty = transferOf([source], { digest: digestOf(Buffer.alloc(0)) });
    expect(await empty.read()).toBe('');
    expect([empty.transfer.size, source.asked.length]).toEqual([0, 1]);
  });

  test.each<[string, Reply]>([
    ['says', {}],
    ['has', { size: undefined, end: undefined }],
  ])('is refused where it %s more bytes than it may', async (_, reply) => {
    const { read, list } = transferOf([sourceOf('a', reply)], { maxBytes: 9 });
    await expect(read()).rejects.toMatchObject({ reason: 'no-source' });
    expect(list.errorFor('docker.io/a')).toMatchObject({
      reason: 'too-large',
      message: 'this blob has more than cache.maxBlobSize (9 bytes)',
    });
    expect(await transferOf([sourceOf('a', reply)], { maxBytes: 10 }).read()).toBe('0123456789');
  });
});

describe('a part', () => {
  test('is asked for up to its limit, which may move', async () => {
    const limits = [8, 8, 6];
    const source = sourceOf('a', { end: 8, chunks: ['23', '4567'] });
    const { read } = transferOf([source], { offset: 2, size: 10, limit: () => limits.shift() ?? 6 });
    expect(await read()).toBe('2345');
    expect(source.asked).toEqual([{ offset: 2, end: 8, size: 10 }]);
  });

  test('is asked for in requests of so many bytes', async () => {
    const source = sourceOf('a', { end: 4 }, { end: 8 }, {});
    const { read } = transferOf([source], { size: 10, partBytes: 4 });
    expect(await read()).toBe('0123456789');
    expect(source.asked).toEqual([
      { offset: 0, end: 4, size: 10 },
      { offset: 4, end: 8, size: 10 },
      { offset: 8, end: undefined, size: 10 },
    ]);
  });

  test('of a source that gives all of it is noted', async () => {
    const { read, list } = transferOf([sourceOf('a', {})], { size: 10, partBytes: 4 });
    expect(await read()).toBe('0123456789');
    expect(list.hasRanged).toBe(false);
    const whole = transferOf([sourceOf('a', {})], { size: 10, partBytes: 10 });
    expect([await whole.read(), whole.list.hasRanged]).toEqual(['0123456789', true]);
  });

  test('that is no longer wanted is not read', async () => {
    const source = sourceOf('a', {});
    const { read, transfer } = transferOf([source], { onAnswer: () => false });
    expect(await read()).toBe('');
    expect([transfer.contributors.size, source.destroyed.count, source.asked.length]).toEqual([0, 1, 1]);
  });
});

describe('a source that is left for another one', () => {
  test('because it is too slow has not failed, and is the last to be asked again', async () => {
    const slow = new RegistryError('too-slow', 'too slow');
    const first = sourceOf('a', { chunks: ['012', slow] }, { chunks: ['6789'] });
    const second = sourceOf('b', { chunks: ['345', slow] });
    const { read, events, errors } = transferOf([first, second], { size: 10 });
    expect(await read()).toBe('0123456789');
    expect([first.asked.map(({ offset }) => offset), second.asked.map(({ offset }) => offset)]).toEqual([[0, 6], [3]]);
    expect(errors()).toEqual([slow, slow]);
    expect(events.filter(({ kind }) => kind === 'source-failed')).toEqual([
      { kind: 'source-failed', digest, source: first, error: slow, position: 3 },
      { kind: 'source-failed', digest, source: second, error: slow, position: 6 },
    ]);
  });

  test('because nothing is sent to it for a while is said', async () => {
    const refusal = new Refusal('limited', 'not asked', { upstream: 'docker.io', retryAfterMs: 60_000 });
    const first = sourceOf('a', { chunks: ['012', refusal] });
    const second = sourceOf('b', {});
    const { read, events } = transferOf([first, second]);
    expect(await read()).toBe('0123456789');
    expect(events.filter(({ kind }) => kind !== 'received')).toEqual([
      { kind: 'source-failed', digest, source: first, error: refusal, position: 3 },
    ]);
    expect(second.asked).toMatchObject([{ offset: 3 }]);
  });
});

describe('patience', () => {
  const fails = (reason: 'timeout' | 'unreachable' | 'limited' | 'denied') => new RegistryError(reason, reason);

  test.each<[string, RegistryError, number]>([
    ['that cannot be reached is asked twice', fails('unreachable'), 2],
    ['that was silent is asked once', fails('timeout'), 1],
    ['that limits is asked once', fails('limited'), 1],
    ['that says no is asked once', fails('denied'), 1],
  ])('a source %s', async (_, error, times) => {
    const source = sourceOf('a', error);
    await expect(transferOf([source]).read()).rejects.toMatchObject({ reason: 'no-source' });
    expect(source.asked).toHaveLength(times);
  });

  test('of a source whose client has bytes is eight failures in a row', async () => {
    const source = sourceOf('a', fails('timeout'));
    const random = Math.random;
    Math.random = () => -0.49;
    try {
      await expect(transferOf([source], { isAwaited: () => true, size: 10, offset: 1 }).read()).rejects.toThrow();
    } finally {
      Math.random = random;
    }
    expect(source.asked).toHaveLength(8);
  });

  test('of a source that has answered and given nothing is three failures in a row', async () => {
    const source = sourceOf('a', { chunks: [new Error('reset')] });
    await expect(transferOf([source]).read()).rejects.toThrow();
    expect(source.asked).toHaveLength(3);
  });

  test('ends where the caller leaves', async () => {
    const left = AbortSignal.abort(new Error('left'));
    await expect(transferOf([sourceOf('a', fails('unreachable'))], { signal: left }).read()).rejects.toThrow('left');
  });
});
