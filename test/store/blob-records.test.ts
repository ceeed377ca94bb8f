import { describe, expect, test } from 'vitest';
import { type Digest } from '../../src/oci/digest.ts';
import { RememberedLists } from '../../src/store/catalog/remembered-lists.ts';
import { app, digest, foreign, Records } from './records.ts';

const minuteMs = 60_000;

describe('a stored blob', () => {
  test('is known with its file, in pages and in all', async () => {
    using records = await Records.open();
    const { blobs } = records.catalog;
    const digests = ['a', 'b', 'c'].map((name) => digest(name)).toSorted();
    for (const [at, one] of digests.entries())
      blobs.record(one, { size: at + 1, contentType: 'text/x', modifiedAtMs: 5 });
    const page = (after: string, limit: number) => blobs.page({ after, limit });
    expect(page('', 2)).toEqual([
      { digest: digests[0], size: 1 },
      { digest: digests[1], size: 2 },
    ]);
    expect(page(digests[1]!, 2)).toEqual([{ digest: digests[2], size: 3 }]);
    expect(blobs.usage()).toEqual({ blobs: 3, bytes: 6, pinnedBytes: 0, unneededBytes: 6 });
    expect(blobs.get(digests[0]!)).toEqual({ size: 1, contentType: 'text/x', modifiedAtMs: 5 });
    records.changed.length = 0;
    blobs.noteRight(digests[0]!, { size: 9, modifiedAtMs: 6 });
    expect(blobs.get(digests[0]!)).toEqual({ size: 9, contentType: 'text/x', modifiedAtMs: 6 });
    expect([blobs.usage().bytes, records.changed]).toEqual([14, [`blob ${digests[0]}`]]);
    blobs.forget(digests[0]!);
    expect([blobs.get(digests[0]!), blobs.has(digests[0]!), blobs.usage().blobs]).toEqual([undefined, false, 2]);
    blobs.adopt(digests[0]!, { size: 4, usedAtMs: 7 });
    expect(blobs.get(digests[0]!)).toEqual({
      size: 4,
      contentType: 'application/octet-stream',
      modifiedAtMs: undefined,
    });
    blobs.adopt(digests[1]!, { size: 4, usedAtMs: 7 });
    expect(blobs.get(digests[1]!)?.size).toBe(2);
  });

  test('was shown by those upstreams that have shown it', async () => {
    using records = await Records.open();
    const { blobs, grants } = records.catalog;
    const shown = (of: Digest) => ['docker.io', 'quay.io'].map((upstream) => blobs.isShown(of, upstream));
    const a = records.blob('a', { shownBy: 'docker.io' });
    expect(shown(a)).toEqual([true, false]);
    records.blob('a', { shownBy: 'quay.io' });
    expect(shown(a)).toEqual([true, true]);
    const b = records.blob('b');
    expect(shown(b)).toEqual([false, false]);
    blobs.noteShown(b, 'quay.io');
    blobs.noteShown(b, 'quay.io');
    expect(shown(b)).toEqual([false, true]);
    blobs.noteShown(digest('none'), 'quay.io');
    expect(shown(digest('none'))).toEqual([false, false]);
    // Its rights say who has had it, where that is one upstream.
    grants.grant(app, digest('c'));
    expect(shown(records.blob('c'))).toEqual([true, false]);
    grants.grant(app, digest('d'));
    grants.grant(foreign, digest('d'));
    expect(shown(records.blob('d'))).toEqual([false, false]);
    expect(grants.readers(digest('d')).toSorted()).toEqual([app, foreign]);
    expect([grants.isReadable(app, digest('d')), grants.isReadable(app, digest('e'))]).toEqual([false, false]);
    grants.grant(app, digest('e'));
    expect(grants.isReadable(app, digest('e'))).toBe(true);
  });
});

describe('lists that are remembered', () => {
  const answer = (body: string, access?: string) => ({
    bytes: Buffer.from(body),
    contentType: 'application/json',
    nextQuery: undefined,
    filtersApplied: undefined,
    access,
  });

  test('are given with their age', async () => {
    using records = await Records.open();
    const { notes } = records.catalog;
    const lists = new RememberedLists({ notes, now: () => records.nowMs });
    expect(lists.get('x')).toBeUndefined();
    lists.remember('x', { ...answer('one', 'key'), nextQuery: 'n=1' });
    records.nowMs += 5;
    expect(lists.get('x')).toEqual({
      answer: {
        bytes: Buffer.from('one'),
        contentType: 'application/json',
        nextQuery: 'n=1',
        filtersApplied: undefined,
      },
      ageMs: 5,
      access: 'key',
    });
    expect(lists.get('x')?.answer.filtersApplied).toBeUndefined();
    records.nowMs -= 10;
    expect(lists.get('x')?.ageMs).toBe(0);
  });

  test('are noted again when they have changed, or after a minute', async () => {
    using records = await Records.open();
    const { notes } = records.catalog;
    const lists = new RememberedLists({ notes, now: () => records.nowMs });
    lists.remember('x', answer('one', 'key'));
    records.nowMs += minuteMs - 1;
    lists.remember('x', answer('one', 'key'));
    expect(lists.get('x')?.ageMs).toBe(minuteMs - 1);
    records.nowMs += 1;
    lists.remember('x', answer('one', 'key'));
    expect(lists.get('x')?.ageMs).toBe(0);
    records.nowMs += 1;
    lists.remember('x', answer('one', 'else'));
    expect(lists.get('x')).toMatchObject({ ageMs: 0, access: 'else' });
    records.nowMs += 1;
    lists.remember('x', answer('two', 'else'));
    expect(String(lists.get('x')?.answer.bytes)).toBe('two');
  });

  test('have a mebibyte at most, 16 together, and the oldest goes first, also after a restart', async () => {
    using records = await Records.open();
    const { notes } = records.catalog;
    const now = () => records.nowMs;
    const MiB = 1024 * 1024;
    const lists = new RememberedLists({ notes, now });
    lists.remember('large', answer('x'.repeat(MiB + 1)));
    expect(lists.get('large')).toBeUndefined();
    for (let at = 0; at < 16; at += 1) lists.remember(String(at), answer('x'.repeat(MiB)));
    expect(lists.get('0')).toBeDefined();
    lists.remember('0', answer('y'.repeat(MiB)));
    const again = new RememberedLists({ notes, now });
    again.remember('more', answer('x'));
    expect(['0', '1', '2', 'more'].map((name) => again.get(name) !== undefined)).toEqual([true, false, true, true]);
  });

  test('are 2,000 at most', async () => {
    using records = await Records.open();
    const { notes } = records.catalog;
    notes.set('lists', JSON.stringify(Array.from({ length: 1999 }, (_, at) => [String(at), 1])));
    notes.set('list 0', JSON.stringify({ atMs: 1, body: 'x' }));
    const lists = new RememberedLists({ notes, now: () => records.nowMs });
    lists.remember('more', answer('x'));
    expect(lists.get('0')).toBeDefined();
    lists.remember('and more', answer('x'));
    expect([lists.get('0'), lists.get('more') === undefined]).toEqual([undefined, false]);
  });

  test('of one repository are a quarter of that at most, and push out none of another', async () => {
    using records = await Records.open();
    const { notes } = records.catalog;
    new RememberedLists({ notes, now: () => records.nowMs }).remember('other tags', answer('x'));
    notes.set(
      'lists',
      JSON.stringify([['other tags', 1], ...Array.from({ length: 500 }, (_, at) => [`app ${at}`, 1])]),
    );
    for (const at of [0, 1]) notes.set(`list app ${at}`, JSON.stringify({ atMs: 1, body: 'x' }));
    const lists = new RememberedLists({ notes, now: () => records.nowMs });
    lists.remember('app more', answer('x'));
    const isThere = (name: string): boolean => lists.get(name) !== undefined;
    expect(['other tags', 'app 0', 'app 1', 'app more'].map(isThere)).toEqual([true, false, true, true]);
  });

  test('are noted by short names, however much was asked for', async () => {
    using records = await Records.open();
    const { notes } = records.catalog;
    const lists = new RememberedLists({ notes, now: () => records.nowMs });
    const long = (at: number): string => `app referrers artifactType=${'a'.repeat(30_000)}${at}`;
    for (let at = 0; at < 20; at += 1) lists.remember(long(at), answer(String(at)));
    expect(String(lists.get(long(7))?.answer.bytes)).toBe('7');
    expect(notes.get('lists')?.length).toBeLessThan(20 * 310);
  });
});
