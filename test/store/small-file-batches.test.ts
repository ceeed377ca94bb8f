import { EventEmitter } from 'node:events';
import { describe, expect, test } from 'vitest';
import { type SmallFileAnswer, type SmallFileJob, syncJob } from '../../src/store/files/small-file-job.ts';
import { SmallFiles, type SmallFileThread } from '../../src/store/files/small-files.ts';

const MiB = 1024 * 1024;

/** Small files whose thread is the test. */
function start() {
  const threads: EventEmitter[] = [];
  const jobs: (SmallFileJob | typeof syncJob)[] = [];
  let isHolding = false;
  const files = new SmallFiles(() => {
    const thread = Object.assign(new EventEmitter(), {
      ref: () => void (isHolding = true),
      unref: () => void (isHolding = false),
      postMessage: (job: SmallFileJob | typeof syncJob, transfer?: readonly ArrayBuffer[]) =>
        void jobs.push(structuredClone(job, transfer && { transfer: [...transfer] })),
    });
    threads.push(thread);
    isHolding = false;
    return thread as unknown as SmallFileThread;
  });
  let count = 0;
  const results: (number | string)[] = [];
  const begin = (content: Buffer | Buffer[] = Buffer.from('x'), isSynced = false): Promise<number> => {
    count += 1;
    const place = { temporary: 't', path: `p${count}` };
    const write = isSynced ? files.writeSynced([content].flat(), place) : files.write(content, place);
    void write.then(
      (atMs) => results.push(atMs),
      (error: unknown) => results.push(String(error)),
    );
    return write;
  };
  return {
    files,
    jobs,
    threads,
    /** Whether the process waits for the thread. */
    isHolding: () => isHolding,
    results,
    write: (content?: Buffer | Buffer[], isSynced?: boolean): void => void begin(content, isSynced),
    begin,
    /** The job that the thread got last. */
    last: () => {
      const job = jobs.at(-1);
      if (job === undefined || job === syncJob) throw new Error('no files');
      return { ...job, texts: textsOf(job), paths: job.files.map(({ path }) => path) };
    },
    answer: async (message: SmallFileAnswer) => {
      threads.at(-1)?.emit('message', message);
      await nextTurn();
    },
    fail: async (error: Error) => {
      threads.at(-1)?.emit('error', error);
      await nextTurn();
    },
  };
}

async function nextTurn(): Promise<void> {
  await new Promise(setImmediate);
}

function textsOf({ bytes, files }: SmallFileJob): string[] {
  return files.map(({ end, pieces }, index) =>
    pieces === undefined
      ? Buffer.from(bytes.subarray(files[index - 1]?.end ?? 0, end)).toString()
      : pieces.map((piece) => Buffer.from(piece).toString()).join('|'),
  );
}

describe('small files that come in one turn', () => {
  test('go to the thread together, each with a name of its own meanwhile', async () => {
    const { write, jobs, last, threads, answer, results } = start();
    write(Buffer.from('one'));
    write([Buffer.from('t'), Buffer.from('wo')]);
    write(Buffer.from(''));
    expect(threads).toHaveLength(0);
    await nextTurn();
    expect([threads.length, jobs.length]).toEqual([1, 1]);
    expect(last().texts).toEqual(['one', 'two', '']);
    expect(last().files).toEqual([
      { temporary: 't.1', path: 'p1', end: 3 },
      { temporary: 't.2', path: 'p2', end: 6 },
      { temporary: 't.3', path: 'p3', end: 6 },
    ]);
    await answer([10, 20, 30]);
    expect(results).toEqual([10, 20, 30]);
  });

  test('and are to be synced go piece by piece, beside the others', async () => {
    const { write, last } = start();
    write(Buffer.from('a'));
    const shared = Buffer.from(new SharedArrayBuffer(4), 1, 2);
    shared.write('bc');
    write([shared, Buffer.from('d')], true);
    write(Buffer.from('e'));
    await nextTurn();
    expect(last().texts).toEqual(['a', 'bc|d', 'e']);
    const [, synced] = last().files;
    // Memory that is shared is not copied, and of other memory only what belongs to the file.
    expect(synced?.pieces?.map(({ buffer }) => [buffer instanceof SharedArrayBuffer, buffer.byteLength])).toEqual([
      [true, 4],
      [false, 1],
    ]);
    expect([last().bytes.length, synced?.end]).toEqual([2, 1]);
  });

  test('and are more than 64 go 64 at a time, one batch after the other', async () => {
    const { write, last, jobs, answer } = start();
    for (let index = 0; index < 130; index += 1) write();
    await nextTurn();
    await nextTurn();
    const sizes: number[] = [];
    for (let batch = 1; batch <= 3; batch += 1) {
      expect(jobs).toHaveLength(batch);
      sizes.push(last().files.length);
      await answer(last().files.map((_, index) => index));
    }
    expect([sizes, jobs.length]).toEqual([[64, 64, 2], 3]);
    expect(last().paths).toEqual(['p129', 'p130']);
  });

  test('and are more than a mebibyte go in batches of so much, and a larger one by itself', async () => {
    const { write, last, answer } = start();
    for (const bytes of [MiB / 2, MiB / 2, 1, MiB + 1, 1]) write(Buffer.alloc(bytes));
    await nextTurn();
    const batches: string[][] = [];
    for (let batch = 0; batch < 4; batch += 1) {
      batches.push(last().paths);
      await answer(last().files.map(() => 1));
    }
    expect(batches).toEqual([['p1', 'p2'], ['p3'], ['p4'], ['p5']]);
  });
});

describe('the thread', () => {
  test('gets what comes while it writes with the next batch, and keeps the process as long as it has work', async () => {
    const { write, files, jobs, last, answer, isHolding, threads } = start();
    write();
    await nextTurn();
    expect(isHolding()).toBe(true);
    write();
    await nextTurn();
    expect(jobs).toHaveLength(1);
    await answer([1]);
    expect([jobs.length, last().paths, isHolding()]).toEqual([2, ['p2'], true]);
    const synced = files.sync();
    expect(jobs.at(-1)).toBe(syncJob);
    await answer([2]);
    expect(isHolding()).toBe(true);
    await answer(syncJob);
    await synced;
    expect([isHolding(), threads.length]).toEqual([false, 1]);
    // And again with more work, of either kind.
    write();
    await nextTurn();
    expect(isHolding()).toBe(true);
    await answer([3]);
    expect(isHolding()).toBe(false);
    void files.sync();
    expect([isHolding(), threads.length]).toEqual([true, 1]);
  });

  test('is not sent twice what an answer has made it take before its turn', async () => {
    const { write, files, jobs, answer, results } = start();
    write();
    await nextTurn();
    await answer([1]);
    void files.sync();
    write();
    // The answer to the sync comes before the turn of the new file.
    const answered = answer(syncJob);
    expect(jobs).toHaveLength(3);
    write();
    await answered;
    expect(jobs).toHaveLength(3);
    await answer([2]);
    expect(jobs).toHaveLength(4);
    await answer([3]);
    expect(results).toEqual([1, 2, 3]);
  });

  test('is not started to sync nothing, and answers each sync in its turn', async () => {
    const { write, files, threads, answer } = start();
    await files.sync();
    expect(threads).toHaveLength(0);
    write();
    await nextTurn();
    const done: string[] = [];
    void files.sync().then(() => done.push('first'));
    void files.sync().then(() => done.push('second'));
    await answer(syncJob);
    expect(done).toEqual(['first']);
    await answer(syncJob);
    expect(done).toEqual(['first', 'second']);
    await answer([1]);
  });

  test('says of each file what went wrong', async () => {
    const { begin, answer } = start();
    const writes = [begin(), begin(), begin()];
    await nextTurn();
    await answer([1, 'ENOSPC', 3]);
    expect(await writes[0]).toBe(1);
    await expect(writes[1]).rejects.toMatchObject({ name: 'DiskFault', code: 'ENOSPC' });
    expect(await writes[2]).toBe(3);
  });

  test('that dies loses what waits and ends every sync and wait for room; the next file starts another', async () => {
    const { write, files, fail, threads, answer, results, last, jobs } = start();
    expect(files.isUsable).toBe(true);
    for (let index = 0; index < 600; index += 1) write();
    await nextTurn();
    const ended: string[] = [];
    void files.room().then(() => ended.push('room'));
    void files.sync().then(() => ended.push('sync'));
    await nextTurn();
    expect(ended).toEqual([]);
    await fail(new Error('out of memory'));
    expect(ended.toSorted()).toEqual(['room', 'sync']);
    expect(files.isUsable).toBe(false);
    expect(results).toHaveLength(600);
    expect(new Set(results)).toEqual(new Set([expect.stringMatching(/^DiskFault: cannot commit a blob/)]));
    // Nothing is owed by then.
    await files.room();
    await files.sync();
    const sent = jobs.length;
    await nextTurn();
    expect([threads.length, jobs.length]).toEqual([1, sent]);
    write(Buffer.from('y'));
    await nextTurn();
    expect([threads.length, last().texts]).toEqual([2, ['y']]);
    await answer([7]);
    expect(results.at(-1)).toBe(7);
  });

  test('that dies before the turn of a file is sent nothing', async () => {
    const { write, jobs, threads, fail, files, results } = start();
    write();
    await nextTurn();
    threads[0]!.emit('message', [1]);
    write();
    await fail(new Error('out of memory'));
    expect([jobs.length, threads.length, files.isUsable]).toEqual([1, 1, false]);
    expect(results).toHaveLength(2);
  });
});

describe('room', () => {
  /** Whether there is room now. */
  async function hasRoom(files: SmallFiles): Promise<boolean> {
    let has = false;
    void files.room().then(() => (has = true));
    await nextTurn();
    return has;
  }

  test('is there for 512 files beside those that are being written', async () => {
    const { write, files, answer, last } = start();
    for (let index = 0; index < 511; index += 1) write();
    expect(await hasRoom(files)).toBe(true);
    // 64 of them are being written.
    for (let index = 0; index < 64; index += 1) write();
    expect(await hasRoom(files)).toBe(true);
    write();
    const room = files.room();
    expect(await hasRoom(files)).toBe(false);
    await answer(last().files.map(() => 1));
    await room;
    expect(await hasRoom(files)).toBe(true);
  });

  test('is there for 32 MiB, with what is being written', async () => {
    const { write, files, answer } = start();
    for (let index = 0; index < 31; index += 1) write(Buffer.alloc(MiB));
    write(Buffer.alloc(MiB - 1));
    expect(await hasRoom(files)).toBe(true);
    write(Buffer.alloc(1));
    expect(await hasRoom(files)).toBe(false);
    await answer([1]);
    expect(await hasRoom(files)).toBe(true);
    // Another wait ends with another batch.
    write(Buffer.alloc(MiB), true);
    const room = files.room();
    expect(await hasRoom(files)).toBe(false);
    await answer(['EIO']);
    await room;
  });
});
