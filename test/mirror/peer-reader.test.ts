import { describe, expect, test } from 'vitest';
import type { Fill } from '../../src/mirror/fill/fill.ts';
import type { FillState } from '../../src/mirror/fill/fill-events.ts';
import { PeerReader } from '../../src/mirror/sharing/peer-reader.ts';
import { Progress } from '../../src/waiting/progress.ts';

const signal = new AbortController().signal;

/** A fill as a reader for another replica sees it. */
function fillOf(bytes: string) {
  const state = {
    state: 'running' as FillState,
    heading: undefined as Fill['heading'],
    generation: 0,
    available: 0,
    /** What is still in memory, from this position on. */
    recent: undefined as { start: number; text: string } | undefined,
    holders: 0,
    wanted: [] as number[],
    loans: 0,
    onRead: () => undefined as void,
  };
  const progress = new Progress();
  const fill = {
    get state() {
      return state.state;
    },
    get heading() {
      return state.heading;
    },
    get generation() {
      return state.generation;
    },
    progress,
    partial: {
      availableFrom: (position: number) => Math.max(position, state.available),
      read: (buffer: Buffer, position: number, length: number) => {
        state.onRead();
        return Promise.resolve(Buffer.from(bytes).copy(buffer, 0, position, position + length));
      },
    },
    unverifiedFrom: (position: number) => {
      const { recent } = state;
      if (recent === undefined || position !== recent.start) return undefined;
      state.loans += 1;
      return { bytes: Buffer.from(recent.text), again: () => undefined, [Symbol.dispose]: () => (state.loans -= 1) };
    },
    want: (position: number) => state.wanted.push(position),
    hold: () => (state.holders += 1),
    release: () => Promise.resolve((state.holders -= 1)),
  };
  const change = (more: Partial<typeof state>): void => {
    Object.assign(state, more);
    progress.wake();
  };
  return { state, change, reader: new PeerReader(fill as unknown as Fill) };
}

const heading = { size: 10, contentType: 'a/b' };
const gone = { reason: 'not-found', code: 'BLOB_UNKNOWN' };

describe('another replica', () => {
  test.each<[string, number, object]>([
    ['bytes are on disk', 3, { available: 4 }],
    ['bytes are in memory', 3, { recent: { start: 3, text: 'x' } }],
    ['the end is asked for', 10, {}],
    ['all of it is verified', 3, { state: 'verified' }],
  ])('is answered once %s', async (_, position, more) => {
    const { change, reader, state } = fillOf('0123456789');
    const ready = reader.ready(position, signal);
    const isDone = { value: false };
    void ready.then(() => (isDone.value = true));
    change({ available: 3 });
    await new Promise(setImmediate);
    expect([isDone.value, state.wanted]).toEqual([false, []]);
    change({ heading, ...(position === 3 && { available: 3 }) });
    await new Promise(setImmediate);
    if (position === 3) expect([isDone.value, state.wanted]).toEqual([false, [3]]);
    change(more);
    expect(await ready).toBe(heading);
    expect(state.loans).toBe(0);
  });

  test('is given what is in memory, then what is on disk, and waits for the rest', async () => {
    const { change, reader, state } = fillOf('0123456789');
    change({ heading, recent: { start: 0, text: 'ab' }, available: 5 });
    const buffer = Buffer.alloc(10);
    expect([await reader.read(buffer, 0, signal), buffer.toString('utf8', 0, 2), state.loans]).toEqual([2, 'ab', 0]);
    expect([await reader.read(buffer, 2, signal), buffer.toString('utf8', 0, 3)]).toEqual([3, '234']);
    expect(await reader.read(Buffer.alloc(2), 2, signal)).toBe(2);
    const rest = reader.read(buffer, 5, signal);
    await new Promise(setImmediate);
    expect(state.wanted).toEqual([5]);
    change({ available: 10 });
    expect(await rest).toBe(5);
    const end = reader.read(buffer, 10, signal);
    change({ state: 'verified' });
    expect(await end).toBe(0);
    await reader[Symbol.asyncDispose]();
    await reader[Symbol.asyncDispose]();
    expect(state.holders).toBe(0);
  });

  test.each(['failed', 'spilled'] as const)('gets an error from a fill that has %s', async (how) => {
    const { change, reader } = fillOf('0123456789');
    const [ready, read] = [reader.ready(0, signal), reader.read(Buffer.alloc(1), 0, signal)];
    change({ state: how });
    await expect(ready).rejects.toMatchObject(gone);
    await expect(read).rejects.toMatchObject(gone);
  });

  test('is not given bytes of another attempt after those of one', async () => {
    for (const from of ['memory', 'disk']) {
      const { change, reader } = fillOf('0123456789');
      change({ heading, ...(from === 'memory' ? { recent: { start: 0, text: 'ab' } } : { available: 5 }) });
      await reader.read(Buffer.alloc(2), 0, signal);
      change({ generation: 1, recent: { start: 2, text: 'cd' }, available: 5 });
      expect(reader.peek(2)).toBeUndefined();
      await expect(reader.read(Buffer.alloc(2), 2, signal)).rejects.toMatchObject(gone);
    }
    const fresh = fillOf('0123456789');
    fresh.change({ generation: 1, available: 5 });
    expect(await fresh.reader.read(Buffer.alloc(2), 0, signal)).toBe(2);
  });

  test('is not given bytes that were read while they were replaced', async () => {
    const { change, reader, state } = fillOf('0123456789');
    change({ heading, available: 5 });
    state.onRead = () => {
      state.onRead = () => undefined;
      state.generation = 1;
    };
    await expect(reader.read(Buffer.alloc(2), 0, signal)).rejects.toMatchObject(gone);
  });

  test('that leaves is not waited for', async () => {
    const { reader } = fillOf('');
    const left = new AbortController();
    const [ready, read] = [reader.ready(0, left.signal), reader.read(Buffer.alloc(1), 0, left.signal)];
    left.abort(new Error('left'));
    await expect(ready).rejects.toThrow('left');
    await expect(read).rejects.toThrow('left');
  });
});
