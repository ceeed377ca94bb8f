import { describe, expect, test, vi } from 'vitest';
import { Changes, changesKeptMs, isChange } from '../../src/coordination/changes.ts';
import { RedisClock } from '../../src/coordination/clock.ts';
import type { Change } from '../../src/coordination/coordinator.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { fakeLink, lost } from './fake-link.ts';
import { secret } from './support.ts';

const seal = new Seal(secret);
const hourMs = 3_600_000;
const startMs = 1_000_000_000_000;
const change = (reference: string, kind: Change['kind'] = 'purge'): Change => ({ kind, repository: 'r', reference });

interface Entry {
  readonly sealed: string;
  readonly at: number;
}

function entry(
  message: Change,
  options: { readonly at?: number; readonly atMs?: number; readonly from?: string; readonly of?: Seal } = {},
): Entry {
  const { at = startMs, atMs = at, from = 'other', of = seal } = options;
  return { sealed: of.close('change', { from, message, atMs, id: `${at}` }), at };
}

/** A replica `me` and the changes in Redis, which a test writes. */
function start({ isLost = false } = {}) {
  const state = { stored: [] as Entry[], isLost, now: startMs };
  const { link, runs } = fakeLink(({ script, values }) => {
    if (state.isLost) lost();
    if (script === 'read-changes') return state.stored.flatMap(({ sealed, at }) => [sealed, String(at)]);
    // Redis gives each a time of its own.
    return values.slice(4).flatMap((_, index) => (index % 2 === 0 ? [String(state.now + index)] : []));
  });
  const clock = new RedisClock();
  vi.spyOn(clock, 'nowMs', 'get').mockImplementation(() => state.now);
  const heard: [string, { from: string; ageMs: number }][] = [];
  const unread: number[] = [];
  const untold: { change: string; sealed?: string }[][] = [];
  const changes = new Changes({
    link,
    seal,
    clock,
    wakeChannel: 'wake',
    self: () => 'me',
    onChange: ({ kind, reference }, event) => void heard.push([`${kind} ${reference}`, event]),
    onUnread: (count) => void unread.push(count),
    onUntold: (text) => void untold.push(JSON.parse(text) as (typeof untold)[0]),
  });
  return {
    state,
    changes,
    heard,
    unread,
    untold,
    runs,
    /** What is written to Redis: texts and times. */
    recorded: () =>
      runs
        .filter(({ script }) => script === 'record-changes')
        .map(({ values }) => ({ limits: values.slice(0, 4), entries: values.slice(4) })),
    catchUp: (now = startMs) =>
      changes.catchUp({ count: state.stored.length, last: state.stored.at(-1)?.at ?? 0, now }),
    names: () => heard.map(([name]) => name),
  };
}

const from = (at: number) => ({ at, unread: [] });

describe('the changes that Redis keeps', () => {
  test('are heard once, with their age, but for those of this replica', async () => {
    const site = start();
    site.changes.continueFrom(from(startMs - 10));
    site.state.stored = [
      entry(change('old'), { at: startMs - 10 }),
      entry(change('1'), { at: startMs - 5 }),
      entry(change('mine'), { at: startMs - 4, from: 'me' }),
      entry(change('2'), { at: startMs + 7 }),
    ];
    await site.catchUp();
    expect(site.heard).toEqual([
      ['purge 1', { from: 'other', ageMs: 5 }],
      ['purge 2', { from: 'other', ageMs: 0 }],
    ]);
    expect(site.changes.at).toBe(startMs + 7);
    await site.catchUp();
    site.state.stored.push(entry(change('3'), { at: startMs + 8 }));
    await site.catchUp();
    expect(site.names()).toEqual(['purge 1', 'purge 2', 'purge 3']);
    // Only news is read.
    expect(site.runs.map(({ script, keys }) => `${script} ${keys.join()}`)).toEqual(
      Array(2).fill('read-changes {fleet}:changes'),
    );
  });

  test('are read again where there are as many, and the last is another one', async () => {
    const site = start();
    site.changes.continueFrom(from(1));
    site.state.stored = [entry(change('1'))];
    await site.catchUp();
    site.state.stored = [entry(change('2'), { at: startMs + 1 })];
    await site.catchUp();
    expect(site.names()).toEqual(['purge 1', 'purge 2']);
  });

  test('remove nothing from a disk that is new, and pin on it what is pinned', async () => {
    const site = start();
    site.state.stored = [entry(change('1')), entry(change('2', 'pin'), { at: startMs + 1 })];
    await site.catchUp();
    expect(site.names()).toEqual(['pin 2']);
    site.state.stored.push(entry(change('3'), { at: startMs + 2 }));
    await site.catchUp();
    expect(site.names()).toEqual(['pin 2', 'purge 3']);
  });

  test('about one image are heard by their last word, also where that is this replica’s own', async () => {
    const site = start();
    site.changes.continueFrom(from(1));
    site.state.stored = [
      entry(change('1', 'pin'), { at: startMs }),
      entry(change('1', 'approve'), { at: startMs + 1 }),
      entry(change('1', 'unpin'), { at: startMs + 2, from: 'me' }),
      entry(change('1', 'reject'), { at: startMs + 3 }),
      entry({ ...change('1', 'pin'), repository: 'other' }, { at: startMs + 4 }),
    ];
    await site.catchUp();
    expect(site.names()).toEqual(['unpin 1', 'reject 1', 'pin 1']);
  });

  test('are not believed an hour after they were signed, nor once their month is over', async () => {
    const site = start();
    site.changes.continueFrom(from(1));
    const monthAgo = startMs - changesKeptMs;
    site.state.stored = [
      entry(change('over'), { at: monthAgo - 1 }),
      entry(change('old'), { at: monthAgo }),
      entry(change('moved'), { at: startMs, atMs: startMs - hourMs - 1 }),
      entry(change('late'), { at: startMs + 1, atMs: startMs + 1 - hourMs }),
    ];
    await site.catchUp();
    expect(site.names()).toEqual(['purge old', 'purge late']);
  });

  test('may have been cut before this replica heard all of them', async () => {
    const cut = async ({ doneAt, count, oldest }: { doneAt: number | undefined; count: number; oldest: number }) => {
      const site = start();
      if (doneAt !== undefined) site.changes.continueFrom(from(doneAt));
      expect(site.changes.isCut).toBe(false);
      const sealed = Array.from({ length: 2 }, (_, index) => entry(change(`${index}`), { at: oldest + index }));
      // Most are of strangers, and count all the same.
      const strange = Array.from({ length: count - 2 }, (_, index) => ({ sealed: `x${index}`, at: 1 }));
      site.state.stored = [...strange, ...sealed];
      await site.catchUp();
      return site.changes.isCut;
    };
    const [doneAt, oldest, count] = [startMs, startMs + 1, 1_000];
    expect(await cut({ doneAt, count, oldest })).toBe(true);
    expect(await cut({ doneAt, count: 999, oldest })).toBe(false);
    expect(await cut({ doneAt, count, oldest: startMs })).toBe(false);
    expect(await cut({ doneAt: undefined, count, oldest })).toBe(false);
  });

  test('are not cut where there are none', async () => {
    const site = start();
    site.changes.continueFrom(from(0));
    await site.changes.catchUp({ count: 0, last: 0, now: startMs });
    expect(site.changes.isCut).toBe(false);
  });
});

describe('changes that another secret has signed', () => {
  const foreign = new Seal(Buffer.from('another secret of the replicas'));

  test('are counted once, and kept for a later run that can read them', async () => {
    const site = start();
    site.changes.continueFrom(from(startMs - 1));
    const early = entry(change('0'), { at: startMs - 1, of: foreign });
    const late = entry(change('1'), { at: startMs, of: foreign });
    site.state.stored = [early, late];
    await site.catchUp();
    expect([site.unread, site.names()]).toEqual([[1], []]);
    const [mark] = site.changes.unread;
    expect([site.changes.unread.length, late.sealed.startsWith(mark!), mark?.length]).toEqual([1, true, 22]);
    site.state.stored.push(entry(change('2'), { at: startMs + 1 }));
    await site.catchUp();
    expect(site.unread).toEqual([1]);
    site.state.stored.push(entry(change('3'), { at: startMs + 2, of: foreign }));
    await site.catchUp();
    expect(site.unread).toEqual([1, 2]);
    // A run that has the other secret does what this one could not; and nothing else once more.
    const next = start();
    next.changes.continueFrom({ at: startMs + 2, unread: [mark!] });
    next.state.stored = [{ ...late, sealed: `${mark}x` }, entry(change('2'), { at: startMs + 1 })];
    await next.catchUp();
    expect([next.unread, next.changes.unread, next.names()]).toEqual([[], [mark], []]);
    const last = start();
    const readable = entry(change('1'), { at: startMs });
    last.changes.continueFrom({ at: startMs + 2, unread: [readable.sealed.slice(0, 22)] });
    last.state.stored = [readable, entry(change('2'), { at: startMs + 1 })];
    await last.catchUp();
    expect([last.names(), last.changes.unread]).toEqual([['purge 1'], []]);
  });
});

describe('changes that this replica announces', () => {
  test('are written with their limits, and known at the time that Redis gives them', async () => {
    const site = start();
    await site.catchUp();
    await site.changes.announce(change('1', 'pin'));
    const [{ limits, entries } = { limits: [], entries: [] }] = site.recorded();
    expect(limits).toEqual(['wake', changesKeptMs, 1_000, 0]);
    expect(entries).toEqual([expect.any(String), '']);
    expect(seal.open('change', entries[0])).toMatchObject({ from: 'me', message: change('1', 'pin'), atMs: startMs });
    expect(site.untold.at(0)).toEqual([{ change: JSON.stringify(change('1', 'pin')), sealed: entries[0] }]);
    expect(site.untold.at(-1)).toEqual([]);
    // They are told once.
    await site.changes.tell();
    expect(site.recorded()).toHaveLength(1);
    // Redis has lost it: it is written again as it was.
    await site.changes.catchUp({ count: 0, last: 0, now: startMs });
    await site.changes.tell();
    await site.changes.tell();
    expect(site.recorded().slice(1)).toEqual([
      { limits: ['wake', changesKeptMs, 1_000, startMs], entries: [entries[0], startMs] },
    ]);
  });

  test('wait for what Redis has, and for no more than a thousand of them', async () => {
    const site = start({ isLost: true });
    for (let index = 0; index < 1_001; index += 1) await site.changes.announce(change(`${index}`));
    expect(site.runs).toEqual([]);
    expect(site.untold.at(-1)).toHaveLength(1_000);
    expect(site.untold.at(-1)?.at(-1)).toEqual({ change: JSON.stringify(change('999')) });
    // One that is announced again is the last.
    await site.changes.announce(change('5'));
    expect(site.untold.at(-1)?.at(-1)).toEqual({ change: JSON.stringify(change('5')) });
    const next = start();
    next.changes.takeUp(JSON.stringify([...(site.untold.at(-1) ?? []), { change: JSON.stringify(change('more')) }]));
    await next.catchUp();
    await next.changes.tell();
    expect(next.recorded()[0]?.entries).toHaveLength(2_000);
    const none = start();
    none.changes.takeUp('unreadable');
    await none.catchUp();
    await none.changes.tell();
    expect(none.recorded()).toEqual([]);
  });

  test('are signed again only when half an hour has passed', async () => {
    const site = start();
    await site.catchUp();
    site.state.isLost = true;
    await expect(site.changes.announce(change('1'))).rejects.toThrow('Redis is lost');
    const again = async (now: number) => {
      site.state.now = now;
      await expect(site.changes.tell()).rejects.toThrow('Redis is lost');
      return site.recorded().at(-1)?.entries[0];
    };
    const [first, soon, late] = [
      site.recorded().at(-1)?.entries[0],
      await again(startMs + hourMs / 2 - 1),
      await again(startMs + hourMs / 2),
    ];
    expect([soon === first, late === first]).toEqual([true, false]);
    expect(seal.open('change', late)).toMatchObject({ message: change('1'), atMs: startMs + hourMs / 2 });
    site.state.isLost = false;
    await site.changes.tell();
    expect(site.untold.at(-1)).toEqual([]);
  });

  test('are signed no earlier than the last one known, where the clock of Redis went back', async () => {
    const site = start();
    site.changes.continueFrom(from(1));
    site.state.stored = [entry(change('1'), { at: startMs + hourMs })];
    await site.catchUp();
    await site.changes.announce(change('2'));
    const { limits, entries } = site.recorded()[0]!;
    expect(limits[3]).toBe(startMs + hourMs);
    expect(seal.open('change', entries[0])).toMatchObject({ atMs: startMs + hourMs });
  });
});

describe('a Redis that was emptied', () => {
  test('gets what is known again, in its order, and what it has got since', async () => {
    const site = start();
    site.changes.continueFrom(from(1));
    const known = [entry(change('1')), entry(change('2'), { at: startMs + 2 })];
    site.state.stored = known;
    await site.catchUp();
    const since = entry(change('3'), { at: startMs + 1 });
    site.state.stored = [since];
    site.changes.lost();
    await site.catchUp();
    await site.changes.tell();
    const all = [known[0]!, since, known[1]!];
    expect(site.recorded().map(({ entries }) => entries)).toEqual([all.flatMap(({ sealed, at }) => [sealed, at])]);
    expect(site.names()).toEqual(['purge 1', 'purge 2', 'purge 3']);
    // It keeps them by then.
    site.state.stored = all;
    await site.catchUp();
    await site.changes.tell();
    expect(site.recorded()).toHaveLength(1);
    expect(site.names()).toHaveLength(3);
  });

  test('gets nothing of which the month is over', async () => {
    const site = start();
    site.changes.continueFrom(from(1));
    site.state.stored = [entry(change('1')), entry(change('2'), { at: startMs + 1 })];
    await site.catchUp();
    site.state.stored = [];
    site.changes.lost();
    await site.catchUp(startMs + changesKeptMs + 1);
    await site.changes.tell();
    expect(site.recorded()[0]?.entries.filter((_, index) => index % 2 === 1)).toEqual([startMs + 1]);
  });
});

test('commands of operators are kept for absent replicas, and other messages are not', () => {
  const kinds = ['purge', 'pin', 'unpin', 'approve', 'reject'] as const;
  expect(kinds.map((kind) => isChange(change('1', kind)))).toEqual(kinds.map(() => true));
  expect(isChange({ kind: 'limit', upstream: 'u', url: 'http://u', service: 'registry', forMs: 5 })).toBe(false);
});
