import { describe, expect, test } from 'vitest';
import { Database } from '../../src/store/catalog/database.ts';
import { JournalMark } from '../../src/store/catalog/journal-mark.ts';
import type { NameJournal } from '../../src/store/catalog/name-journal.ts';

/** A catalog in memory beside a journal that a test describes. */
async function start() {
  const database = await Database.open({ path: ':memory:', onFault: () => undefined });
  const journal = {
    begunAtMs: 0,
    bytes: 0,
    isComplete: true,
    content: 'a',
    tail: (end: number): string | undefined => `${journal.content} ${end}`,
    onFlushed: () => undefined,
  };
  const open = () => new JournalMark(database, journal as unknown as NameJournal);
  return {
    database,
    journal,
    open,
    /** The journal grows, and the catalog contains it. */
    noted: (begunAtMs: number, bytes: number) => {
      Object.assign(journal, { begunAtMs, bytes });
      open().note();
      database.flush();
    },
    compare: (begunAtMs: number, bytes: number, content = 'a') => {
      Object.assign(journal, { begunAtMs, bytes, content });
      const mark = open();
      return [mark.compare(), mark.isJournalOlder];
    },
    [Symbol.dispose]: () => database[Symbol.dispose](),
  };
}

describe('a journal beside a catalog', () => {
  test('is read whole where the catalog does not know how much of it it contains', async () => {
    using site = await start();
    expect(site.compare(5, 100)).toEqual([0, false]);
  });

  test('of a version before the mark, or a new one, is taken as it is, and known from then on', async () => {
    using site = await start();
    expect(site.compare(0, 40)).toEqual([undefined, false]);
    site.database.flush();
    expect(site.compare(0, 50)).toEqual([40, false]);
  });

  test('is read from where the catalog ends', async () => {
    using site = await start();
    site.noted(5, 100);
    expect(site.compare(5, 100)).toEqual([undefined, false]);
    expect(site.compare(5, 101)).toEqual([100, false]);
    expect(site.open().begunAtMs).toBe(5);
  });

  test('is read whole where it is another one, or does not say since when', async () => {
    using site = await start();
    site.noted(5, 100);
    expect(site.compare(5, 101, 'b')).toEqual([0, false]);
    expect(site.compare(6, 10)).toEqual([0, false]);
    expect(site.compare(6, 100)).toEqual([0, false]);
    expect(site.compare(0, 200)).toEqual([0, false]);
  });

  test.each([
    [4, 500],
    [5, 99],
    [0, 0],
    [6, 0],
  ])('that was begun at %i and has %i bytes is older than the catalog', async (begunAtMs, bytes) => {
    using site = await start();
    site.noted(5, 100);
    expect(site.compare(begunAtMs, bytes)).toEqual([undefined, true]);
    expect(site.open().begunAtMs).toBe(Math.max(5, begunAtMs));
  });

  test('that was empty and is empty is not older', async () => {
    using site = await start();
    site.noted(0, 0);
    expect(site.compare(0, 0)).toEqual([undefined, false]);
  });
});

describe('the mark', () => {
  test('goes on with the next commit after new lines, and not by itself', async () => {
    using site = await start();
    site.noted(5, 100);
    const mark = site.open();
    site.journal.bytes = 200;
    site.database.write(() => undefined);
    site.database.flush();
    expect(site.compare(5, 200)).toEqual([100, false]);
    const again = site.open();
    site.journal.onFlushed();
    site.database.flush();
    expect(site.compare(5, 200)).toEqual([undefined, false]);
    expect([mark.isCatalogBehind, again.isCatalogBehind]).toEqual([false, false]);
  });

  test.each([
    ['the journal lacks lines', { isComplete: false }],
    ['the journal cannot be read', { tail: () => undefined }],
  ])('stays where %s', async (_, fault) => {
    using site = await start();
    site.noted(5, 100);
    site.open();
    const { isComplete, tail } = site.journal;
    Object.assign(site.journal, { bytes: 200, ...fault });
    site.journal.onFlushed();
    site.database.flush();
    Object.assign(site.journal, { isComplete, tail });
    expect(site.compare(5, 200)).toEqual([100, false]);
  });

  test('stays behind a fault of the catalog, until it contains all again', async () => {
    using site = await start();
    site.noted(5, 100);
    const mark = site.open();
    site.database.get('SELECT nothing FROM nowhere');
    expect(mark.isCatalogBehind).toBe(true);
    site.journal.bytes = 200;
    site.journal.onFlushed();
    site.database.flush();
    mark.note();
    expect(mark.isCatalogBehind).toBe(false);
    site.database.flush();
    expect(site.compare(5, 200)).toEqual([undefined, false]);
  });

  test('stays behind an older journal until that is rewritten', async () => {
    using site = await start();
    site.noted(5, 100);
    Object.assign(site.journal, { begunAtMs: 4, bytes: 50 });
    const mark = site.open();
    expect(mark.compare()).toBeUndefined();
    site.journal.onFlushed();
    site.database.flush();
    expect(site.open().begunAtMs).toBe(5);
    expect(mark.isJournalOlder).toBe(true);
    const last = site.open();
    Object.assign(site.journal, { begunAtMs: 6, bytes: 60 });
    last.note();
    site.database.flush();
    expect([last.isJournalOlder, site.compare(6, 60)]).toEqual([false, [undefined, false]]);
  });
});
