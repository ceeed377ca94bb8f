import system from 'node:fs';
import { mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { SmallFile } from '../../src/store/files/small-file-job.ts';
import { SmallFileWriter, type WriterSystem } from '../../src/store/files/small-file-writer.ts';
import { temporaryFolder } from '../support/site.ts';

const names = [
  'closeSync',
  'fstatSync',
  'fsyncSync',
  'mkdirSync',
  'openSync',
  'renameSync',
  'rmSync',
  'writeSync',
] as const;
type Name = (typeof names)[number];

/** A cache directory, and a writer whose calls of the system are noted, and fail where a test says so. */
async function startWriter() {
  const folder = await temporaryFolder();
  const at = (...parts: string[]): string => join(folder.path, ...parts);
  for (const name of ['ingest', 'blobs', 'blobs/sha256']) await mkdir(at(name));
  const state = {
    nowMs: 0,
    log: [] as string[],
    later: [] as (() => void)[],
    /** Called before each call; may throw. */
    before: (_name: Name, _args: readonly unknown[]): void => undefined,
    /** The most bytes that one call writes. */
    mostWritten: Number.POSITIVE_INFINITY,
  };
  const opened = new Map<number, string>();
  const own = (path: string): string => relative(folder.path, path);
  const nameOf = (args: readonly unknown[]): string =>
    typeof args[0] === 'number' ? (opened.get(args[0]) ?? '?') : own(args[0] as string);
  const calls = Object.fromEntries(
    names.map((name) => [
      name,
      (...args: unknown[]) => {
        state.log.push(`${name.slice(0, -4)} ${nameOf(args)}`);
        state.before(name, args);
        if (name === 'writeSync') args[3] = Math.min(args[3] as number, state.mostWritten);
        const result = (system[name] as (...args: unknown[]) => unknown)(...args);
        if (name === 'openSync') opened.set(result as number, own(args[0] as string));
        return result;
      },
    ]),
  ) as unknown as WriterSystem['calls'];
  const writer = new SmallFileWriter({ calls, now: () => state.nowMs, later: (work) => void state.later.push(work) });
  const file = (name: string): SmallFile => ({ temporary: at('ingest', name), path: at('blobs/sha256', name), end: 0 });
  return {
    state,
    at,
    file,
    writer,
    /** Writes one file. */
    write: (name: string, content = name, pieces?: readonly Uint8Array[]) => {
      const bytes = Buffer.from(pieces ? '' : content);
      return writer.write({ bytes, files: [{ ...file(name), end: bytes.length, ...(pieces && { pieces }) }] })[0];
    },
    /** The calls since the last time. */
    calls: () => state.log.splice(0),
    /** The files and folders that were synced since the last time. */
    synced: () =>
      state.log
        .splice(0)
        .filter((line) => line.startsWith('fsync'))
        .map((line) => line.slice('fsync '.length)),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

function failure(code: string | undefined): Error {
  return Object.assign(new Error('failed'), code === undefined ? {} : { code });
}

describe('a small file', () => {
  test('is written, closed and renamed, and not synced', async () => {
    await using cache = await startWriter();
    const modifiedAtMs = cache.write('a', 'content');
    expect(cache.calls()).toEqual([
      'open ingest/a',
      'write ingest/a',
      'fstat ingest/a',
      'close ingest/a',
      'rename ingest/a',
    ]);
    const path = cache.at('blobs/sha256/a');
    expect(await readFile(path, 'utf8')).toBe('content');
    const { mode, mtimeMs } = await stat(path);
    expect([mode & 0o777, mtimeMs]).toEqual([0o600, modifiedAtMs]);
  });

  test('of several pieces is synced before it gets its name', async () => {
    await using cache = await startWriter();
    cache.write('a', '', [Buffer.from('one '), Buffer.from(''), Buffer.from('two')]);
    expect(cache.calls()).toEqual([
      'open ingest/a',
      'write ingest/a',
      'write ingest/a',
      'fstat ingest/a',
      'fsync ingest/a',
      'close ingest/a',
      'rename ingest/a',
    ]);
    expect(await readFile(cache.at('blobs/sha256/a'), 'utf8')).toBe('one two');
  });

  test('is written whole where the system takes it in parts', async () => {
    await using cache = await startWriter();
    cache.state.mostWritten = 3;
    cache.write('a', 'abcdefgh');
    expect(await readFile(cache.at('blobs/sha256/a'), 'utf8')).toBe('abcdefgh');
    expect(cache.calls().filter((line) => line === 'write ingest/a')).toHaveLength(3);
  });

  test('gets its own part of the content of several', async () => {
    await using cache = await startWriter();
    const ends = { a: 2, b: 2, c: 5 };
    const files = Object.entries(ends).map(([name, end]) => ({ ...cache.file(name), end }));
    const answers = cache.writer.write({ bytes: Buffer.from('aaccc'), files });
    expect(answers).toEqual([expect.any(Number), expect.any(Number), expect.any(Number)]);
    const contents = await Promise.all(
      Object.keys(ends).map((name) => readFile(cache.at('blobs/sha256', name), 'utf8')),
    );
    expect(contents).toEqual(['aa', '', 'ccc']);
  });

  test.each([
    ['ENOSPC', 'writeSync'],
    ['EIO', 'fstatSync'],
    ['EIO', 'renameSync'],
    [undefined, 'writeSync'],
  ] as const)('that fails with %s in %s answers with that, and leaves nothing', async (code, failing) => {
    await using cache = await startWriter();
    cache.state.before = (name) => {
      if (name === failing) throw failure(code);
    };
    expect(cache.write('a')).toBe(code ?? 'EUNKNOWN');
    const calls = cache.calls();
    expect(calls.filter((line) => line === 'open ingest/a')).toHaveLength(1);
    expect(calls.filter((line) => line === 'close ingest/a')).toHaveLength(1);
    expect(calls.at(-1)).toBe('rm ingest/a');
    expect(await system.promises.readdir(cache.at('ingest'))).toEqual([]);
    cache.state.before = () => undefined;
    expect(cache.write('a')).toEqual(expect.any(Number));
    cache.calls();
    // Only the second one has a name that can be lost.
    cache.writer.sync(() => undefined);
    expect(cache.synced()).toEqual(['blobs/sha256/a', 'blobs/sha256']);
  });

  test('that cannot be opened leaves nothing to remove, and is its own failure', async () => {
    await using cache = await startWriter();
    cache.state.before = (name, [path]) => {
      if (name === 'openSync' && path === cache.at('ingest/b')) throw failure('EMFILE');
    };
    const files = ['a', 'b', 'c'].map((name) => cache.file(name));
    const answers = cache.writer.write({ bytes: Buffer.alloc(0), files });
    expect(answers).toEqual([expect.any(Number), 'EMFILE', expect.any(Number)]);
  });

  test('makes the folders again that are gone, for their owner alone', async () => {
    await using cache = await startWriter();
    for (const gone of [['ingest'], ['blobs/sha256'], ['blobs'], ['ingest', 'blobs']]) {
      for (const name of gone) await rm(cache.at(name), { recursive: true });
      expect(cache.write('a')).toEqual(expect.any(Number));
      for (const name of gone) expect((await stat(cache.at(name))).mode & 0o777).toBe(0o700);
    }
    expect(await readFile(cache.at('blobs/sha256/a'), 'utf8')).toBe('a');
  });

  test('makes no directory of the cache, and answers why a folder cannot be made', async () => {
    await using cache = await startWriter();
    await rm(cache.at('ingest'), { recursive: true });
    cache.state.before = (name) => {
      if (name === 'mkdirSync') throw failure('EACCES');
    };
    expect(cache.write('a')).toBe('EACCES');
    cache.state.before = () => undefined;
    await rm(cache.at('.'), { recursive: true });
    expect(cache.write('a')).toBe('ENOENT');
    await expect(stat(cache.at('.'))).rejects.toThrow('ENOENT');
    await mkdir(cache.at('.'));
  });
});

describe('a sync', () => {
  test('comes to each file that is not synced yet, and then to their folders', async () => {
    await using cache = await startWriter();
    let settled = 0;
    cache.writer.sync(() => (settled += 1));
    expect([settled, cache.synced()]).toEqual([1, []]);
    for (const name of ['a', 'b']) cache.write(name);
    cache.calls();
    cache.writer.sync(() => (settled += 1));
    expect([settled, cache.synced()]).toEqual([2, ['blobs/sha256/a', 'blobs/sha256/b', 'blobs/sha256']]);
    cache.writer.sync(() => undefined);
    expect(cache.synced()).toEqual(['blobs/sha256']);
  });

  test('comes to the folder alone of a file that was synced before it got its name', async () => {
    await using cache = await startWriter();
    cache.write('a', '', [Buffer.from('a')]);
    cache.calls();
    cache.writer.sync(() => undefined);
    expect(cache.calls()).toEqual(['open blobs/sha256', 'fsync blobs/sha256', 'close blobs/sha256']);
  });

  test('lets other work have its turn after eight files, and answers when all are done', async () => {
    await using cache = await startWriter();
    for (let index = 0; index < 17; index += 1) cache.write(`${index}`);
    cache.calls();
    let settled = 0;
    cache.writer.sync(() => (settled += 1));
    const files = (from: number, to: number): string[] =>
      Array.from({ length: to - from }, (_, index) => `blobs/sha256/${from + index}`);
    expect([settled, cache.synced(), cache.state.later.length]).toEqual([0, files(0, 8), 1]);
    cache.state.later.shift()?.();
    expect([settled, cache.synced(), cache.state.later.length]).toEqual([0, files(8, 16), 1]);
    // A file that comes meanwhile is synced, too.
    cache.write('late');
    cache.calls();
    cache.state.later.shift()?.();
    const last = ['blobs/sha256/16', 'blobs/sha256/late', 'blobs/sha256'];
    expect([settled, cache.synced(), cache.state.later.length]).toEqual([1, last, 0]);
  });

  test('leaves out files that were written a minute ago, which the system has brought to the disk', async () => {
    await using cache = await startWriter();
    cache.write('a');
    cache.state.nowMs = 1_000;
    cache.write('b');
    cache.state.nowMs = 2_000;
    // Written again: that is what counts.
    cache.write('a');
    cache.state.nowMs = 60_999;
    cache.write('c');
    const copies = ['blobs/sha256/b', 'blobs/sha256/a', 'blobs/sha256/c', 'blobs/sha256'];
    cache.calls();
    const other = cache.state.nowMs;
    cache.writer.sync(() => undefined);
    expect(cache.synced()).toEqual(copies);
    for (const [name, laterMs] of [
      ['d', 0],
      ['e', 1_000],
      ['f', 60_000],
    ] as const) {
      cache.state.nowMs = other + laterMs;
      cache.write(name);
    }
    cache.calls();
    cache.writer.sync(() => undefined);
    expect(cache.synced()).toEqual(['blobs/sha256/e', 'blobs/sha256/f', 'blobs/sha256']);
  });

  test('passes over a file that is gone, and one that the disk does not take', async () => {
    await using cache = await startWriter();
    for (const name of ['a', 'b', 'c']) cache.write(name);
    cache.calls();
    await rm(cache.at('blobs/sha256/a'));
    cache.state.before = (name) => {
      if (name === 'fsyncSync' && cache.state.log.at(-1)?.endsWith('/b')) throw failure('EIO');
    };
    let settled = 0;
    cache.writer.sync(() => (settled += 1));
    const calls = cache.calls();
    expect([settled, calls.filter((line) => line === 'close blobs/sha256/b').length]).toEqual([1, 1]);
    expect(calls.at(-1)).toBe('close blobs/sha256');
  });
});

test('by itself it makes the calls of the system, in its own time', async () => {
  await using cache = await startWriter();
  const writer = new SmallFileWriter();
  const files = Array.from({ length: 20 }, (_, index) => cache.file(`${index}`));
  expect(writer.write({ bytes: new Uint8Array(0), files })).toHaveLength(20);
  await new Promise<void>((resolve) => writer.sync(resolve));
  expect(await system.promises.readdir(cache.at('blobs/sha256'))).toHaveLength(20);
});
