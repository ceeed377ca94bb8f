import { describe, expect, test, vi } from 'vitest';
import { RedisClock } from '../../src/coordination/clock.ts';
import type { Message, Replica } from '../../src/coordination/coordinator.ts';
import { Fleet, type FleetOptions } from '../../src/coordination/fleet.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { fakeLink, lost, type Run } from './fake-link.ts';
import { digest, secret } from './support.ts';

const seal = new Seal(secret);
const nowMs = 1_000_000_000_000;
const tag: Message = {
  kind: 'tag',
  repository: 'docker.io/library/app',
  tag: '1',
  variant: '',
  digest: digest(1),
};
const limit: Message = { kind: 'limit', upstream: 'u', url: 'http://u', service: 'registry', forMs: 5 };

/** What Redis has, as the script of a beat tells it. */
interface State {
  version: number;
  isAll: number;
  entries: string[];
  epoch: string;
  seq: number;
  now: number;
  messages: [string, [string, string]][];
  count: number;
  last: string;
  before: string;
}

function messageOf(seq: number, message: Message, { from = 'other', atMs = nowMs - 7 } = {}): State['messages'][0] {
  return [`${seq}-0`, ['m', seal.close('message', { from, message, atMs })]];
}

function entryOf(id: string, more: Partial<Replica> = {}): string[] {
  return [id, seal.close('replica', { id, address: `http://${id}`, boot: 'z', isOffline: false, ...more })];
}

/** A replica and a Redis that a test writes. */
function fleetWith(options: Partial<FleetOptions> & { readonly answer?: (run: Run) => unknown } = {}) {
  const state: State = {
    version: 1,
    isAll: 1,
    entries: [],
    epoch: 'e1',
    seq: 0,
    now: nowMs,
    messages: [],
    count: 0,
    last: '0',
    before: '',
  };
  const { link, runs } = fakeLink((run) => {
    if (options.answer) {
      const given = options.answer(run);
      if (given !== undefined) return given;
    }
    if (run.script !== 'beat') return [];
    const { version, isAll, entries, epoch, seq, now, messages, count, last, before } = state;
    return [version, isAll, entries, epoch, seq, now, messages, count, last, before];
  });
  const heard: [Message, { from: string; ageMs: number }][] = [];
  const missed: boolean[] = [];
  const changes: (readonly Replica[])[] = [];
  const fleet = new Fleet({
    link,
    seal,
    clock: new RedisClock(),
    wakeChannel: 'wake',
    isOffline: false,
    beatMs: 3_600_000,
    onChange: (replicas) => void changes.push(replicas),
    ...options,
  });
  const subscription = fleet.subscribe({
    received: (message, event) => void heard.push([message, event]),
    missed: (news) => void missed.push(news.changes),
  });
  const beats = () => runs.filter(({ script }) => script === 'beat');
  const start = async (membership: Partial<Parameters<Fleet['join']>[1]> = {}) => {
    fleet.join('http://me', { id: 'me', ...membership });
    await new Promise(setImmediate);
  };
  return {
    fleet,
    state,
    runs,
    beats,
    heard,
    missed,
    changes,
    subscription,
    start,
    [Symbol.asyncDispose]: () => fleet.leave(),
  };
}

describe('a beat', () => {
  test('tells who this replica is, and what it knows', async () => {
    await using site = fleetWith({ isOffline: true });
    expect([site.fleet.self, site.fleet.epoch, site.fleet.position]).toEqual(['', '', undefined]);
    await site.fleet.beat();
    expect(site.runs).toEqual([]);
    await site.start();
    const [{ keys, values } = { keys: [], values: [] }] = site.beats();
    expect(keys).toEqual(['{fleet}', '{fleet}:messages', '{fleet}:expiries', '{fleet}:changes', '{fleet}:news']);
    const [epoch, self, entry, lives, ...known] = values;
    expect(epoch).toMatch(/^[0-9a-f-]{36}$/);
    expect([self, lives, known]).toEqual(['me', 5 * 3_600_000, [0, '', 0, 64]]);
    const { boot } = site.fleet;
    expect(seal.open('replica', entry)).toEqual({ id: 'me', address: 'http://me', boot, isOffline: true });
    expect([site.fleet.self, site.fleet.epoch]).toEqual(['me', 'e1']);
    site.state.version = 7;
    await site.fleet.beat();
    expect(site.beats().at(-1)?.values.slice(4)).toEqual([1, 'e1', 0, 0]);
    expect(JSON.parse(site.fleet.position!)).toEqual({ epoch: 'e1', seq: 0, changedAt: 0, atMs: nowMs, unread: [] });
  });

  test('tells who the others are, once each time that changes', async () => {
    await using site = fleetWith();
    site.state.entries = [...entryOf('b'), ...entryOf('me'), ...entryOf('a')];
    await site.start();
    expect(site.fleet.replicas.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(site.changes).toHaveLength(1);
    expect(site.fleet.replica('a')?.address).toBe('http://a');
    expect([site.fleet.replica('me'), site.fleet.replica('x')]).toEqual([undefined, undefined]);
    Object.assign(site.state, { isAll: 0, entries: [] });
    await site.fleet.beat();
    expect(site.changes).toHaveLength(1);
    site.state.entries = ['a', ''];
    await site.fleet.beat();
    expect(site.changes.at(-1)?.map(({ id }) => id)).toEqual(['b']);
  });

  test('that is asked for during another one follows it', async () => {
    const gate = Promise.withResolvers<undefined>();
    await using site = fleetWith({ answer: ({ script }) => (script === 'beat' ? gate.promise : undefined) });
    site.fleet.join('http://me', { id: 'me' });
    const waiting = site.fleet.beat();
    expect(site.beats()).toHaveLength(1);
    gate.resolve(undefined);
    await waiting;
    await expect.poll(() => site.beats().length).toBe(2);
    await new Promise(setImmediate);
    expect(site.beats()).toHaveLength(2);
  });

  test('that fails is sent again at its time, and never ends in an error', async () => {
    let isLost = true;
    await using site = fleetWith({ beatMs: 5, answer: () => (isLost ? lost() : undefined) });
    await site.start();
    expect(site.fleet.epoch).toBe('');
    await expect.poll(() => site.beats().length).toBeGreaterThan(2);
    isLost = false;
    await expect.poll(() => site.fleet.epoch).toBe('e1');
  });

  test.each([
    [0, 800],
    [0.5, 1_000],
    [1, 1_200],
  ])('comes about once a second: by a chance of %d, after %i ms', async (chance, afterMs) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    using _chance = vi.spyOn(Math, 'random').mockReturnValue(chance);
    try {
      await using site = fleetWith({ beatMs: undefined });
      await site.start();
      const before = site.beats().length;
      expect(site.beats()[0]?.values[3]).toBe(5_000);
      vi.advanceTimersByTime(afterMs - 1);
      expect(site.beats()).toHaveLength(before);
      vi.advanceTimersByTime(1);
      expect(site.beats()).toHaveLength(before + 1);
    } finally {
      vi.useRealTimers();
    }
  });

  test('is signed with the secret of now', async () => {
    const own = new Seal(secret);
    await using site = fleetWith({ seal: own });
    site.fleet.reseal();
    expect(site.fleet.self).toBe('');
    await site.start();
    const before = site.beats().at(-1)?.values[2];
    own.renew(Buffer.from('another secret of the replicas'));
    site.fleet.reseal();
    await site.fleet.beat();
    expect(site.beats().at(-1)?.values[2]).not.toBe(before);
    expect(own.open('replica', site.beats().at(-1)?.values[2])).toMatchObject({ id: 'me', boot: site.fleet.boot });
  });
});

describe('leaving', () => {
  test('is announced, and ends the beats', async () => {
    const site = fleetWith({ beatMs: 1 });
    await site.start();
    await site.fleet.leave();
    const { length } = site.runs;
    const [, self, entry, lives] = site.runs.at(-1)!.values;
    expect([self, entry, lives]).toEqual(['me', '', 0]);
    expect(site.runs.at(-1)!.values.slice(4)).toEqual([1, 'e1', 0, 0]);
    await site.fleet.beat();
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(site.runs).toHaveLength(length);
  });

  test('before joining is announced to no replica, and while Redis is lost is no failure', async () => {
    const site = fleetWith();
    await site.fleet.leave();
    expect(site.runs).toEqual([]);
    const other = fleetWith({ answer: lost });
    await other.start();
    await other.fleet.leave();
  });
});

describe('the id of a replica', () => {
  const shared = async (before: string) => {
    const site = fleetWith();
    await site.start();
    site.state.before = before;
    await site.fleet.beat();
    const { self } = site.fleet;
    await site.fleet.leave();
    return self;
  };
  const entry = (boot: string) => entryOf('me', { boot })[1]!;

  test('is another one where a replica with the same one has a boot before its own', async () => {
    const self = await shared(entry(''));
    expect(self).toMatch(/^[A-Za-z0-9_-]{16}$/);
  });

  test.each([
    ['a later boot', entry('~')],
    ['none', ''],
    ['that of a stranger', 'x'],
  ])('stays where what stood there was %s', async (_, before) => {
    expect(await shared(before)).toBe('me');
  });

  test('stays at the first look, and where its own entry stood there', async () => {
    await using site = fleetWith();
    site.state.before = entry('');
    await site.start();
    site.state.before = String(site.beats()[0]!.values[2]);
    await site.fleet.beat();
    expect(site.fleet.self).toBe('me');
  });
});

describe('messages', () => {
  test('are heard once they are new, with their age, but for those of this replica and of strangers', async () => {
    await using site = fleetWith();
    Object.assign(site.state, { seq: 3, messages: [messageOf(3, tag)] });
    await site.start();
    // What was said before it came it looks up anyway.
    expect([site.heard, site.missed]).toEqual([[], []]);
    const stranger = new Seal(Buffer.from('another secret of the replicas'));
    site.state.seq = 8;
    site.state.messages = [
      messageOf(4, tag),
      messageOf(5, tag, { from: 'me' }),
      ['6-0', ['m', stranger.close('message', { from: 'x', message: tag, atMs: nowMs })]],
      messageOf(7, limit, { atMs: nowMs + 5 }),
      messageOf(8, tag, { from: 'third' }),
    ];
    await site.fleet.beat();
    expect(site.heard).toEqual([
      [tag, { from: 'other', ageMs: 7 }],
      [limit, { from: 'other', ageMs: 0 }],
      [tag, { from: 'third', ageMs: 7 }],
    ]);
    expect(site.missed).toEqual([]);
    site.state.messages = [];
    await site.fleet.beat();
    expect(site.beats().at(-1)?.values[6]).toBe(8);
    site.subscription[Symbol.dispose]();
    Object.assign(site.state, { seq: 9, messages: [messageOf(9, tag)] });
    await site.fleet.beat();
    expect(site.heard).toHaveLength(3);
  });

  test('of a pause are heard although they are old: it may still last', async () => {
    await using site = fleetWith();
    Object.assign(site.state, { seq: 2, messages: [messageOf(1, tag), messageOf(2, limit)] });
    await site.start();
    expect(site.heard).toEqual([[limit, { from: 'other', ageMs: 7 }]]);
  });

  test('that were thrown away before they were read are missed', async () => {
    await using site = fleetWith();
    Object.assign(site.state, { seq: 3, messages: [] });
    await site.start();
    Object.assign(site.state, { seq: 9, messages: [messageOf(5, tag), messageOf(9, tag)] });
    await site.fleet.beat();
    expect([site.missed, site.heard]).toEqual([[false], []]);
    Object.assign(site.state, { seq: 12, messages: [] });
    await site.fleet.beat();
    expect(site.missed).toEqual([false, false]);
    Object.assign(site.state, { seq: 13, messages: [messageOf(13, tag)] });
    await site.fleet.beat();
    expect([site.missed, site.heard]).toEqual([[false, false], [[tag, { from: 'other', ageMs: 7 }]]]);
  });

  test('are missed where Redis was emptied', async () => {
    await using site = fleetWith();
    await site.start();
    Object.assign(site.state, { epoch: 'e2', seq: 1, messages: [messageOf(1, tag)] });
    await site.fleet.beat();
    expect([site.missed, site.heard, site.fleet.epoch]).toEqual([[false], [], 'e2']);
  });

  test('of which there are more than a page are read in the next beat', async () => {
    await using site = fleetWith();
    await site.start();
    const page = Array.from({ length: 500 }, (_, index) => messageOf(index + 1, tag));
    Object.assign(site.state, { seq: 501, messages: page });
    await site.fleet.beat();
    expect(site.heard).toHaveLength(500);
    expect(JSON.parse(site.fleet.position!)).toMatchObject({ seq: 500 });
    site.state.messages = [messageOf(501, tag)];
    await expect.poll(() => site.heard.length).toBe(501);
    expect(site.beats().at(-1)?.values[6]).toBe(500);
  });

  test('are sent sealed, with the time of Redis, under an id of their own', async () => {
    await using site = fleetWith();
    await site.start();
    await site.fleet.announce(tag);
    const { script, keys, values } = site.runs.at(-1)!;
    expect([script, keys, values[2]]).toEqual(['announce', ['{fleet}', '{fleet}:messages'], 'wake']);
    expect(values[0]).toMatch(/^[0-9a-f-]{36}$/);
    const { atMs, ...sent } = seal.open('message', values[1]) as { atMs: number };
    expect(sent).toEqual({ from: 'me', message: tag });
    expect(Math.abs(atMs - nowMs)).toBeLessThan(60_000);
  });
});

describe('a replica that was here before', () => {
  const position = (more: object = {}) =>
    JSON.stringify({ epoch: 'e1', seq: 4, changedAt: 5, atMs: nowMs - 1_000, unread: [], ...more });

  test('hears what was said meanwhile', async () => {
    await using site = fleetWith();
    Object.assign(site.state, { seq: 6, messages: [messageOf(4, tag), messageOf(5, tag), messageOf(6, tag)] });
    await site.start({ position: position() });
    expect(site.beats()[0]?.values.slice(5)).toEqual(['e1', 4, 64]);
    expect(site.heard).toHaveLength(2);
    expect(site.missed).toEqual([]);
  });

  test('has missed commands where Redis was emptied since, or it was away for too long', async () => {
    await using emptied = fleetWith();
    await emptied.start({ position: position({ epoch: 'e0' }) });
    expect(emptied.missed).toEqual([false, true]);
    const days = 86_400_000;
    await using away = fleetWith();
    await away.start({ position: position({ atMs: nowMs - 30 * days - 1 }) });
    expect(away.missed).toEqual([true]);
    await using back = fleetWith();
    await back.start({ position: position({ atMs: nowMs - 30 * days }) });
    expect(back.missed).toEqual([]);
    await using first = fleetWith();
    await first.start({ position: 'unreadable' });
    expect(first.missed).toEqual([]);
  });

  test('announces what it could not announce then, and keeps what it cannot announce now', async () => {
    const kept: string[] = [];
    const change = { kind: 'purge', repository: 'r', reference: '1' } as const;
    await using site = fleetWith({
      answer: ({ script, values }) => (script === 'record-changes' ? values.slice(4).map(() => '77') : undefined),
    });
    const untold = JSON.stringify([{ change: JSON.stringify(change) }]);
    await site.start({ untold, keepUntold: (text) => void kept.push(text) });
    await expect.poll(() => kept.at(-1)).toBe('[]');
    const recorded = site.runs.find(({ script }) => script.startsWith('record'));
    expect(recorded?.keys).toEqual(['{fleet}:changes']);
  });
});
