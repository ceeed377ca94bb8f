import { mkdir, readdir, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { Custody } from '../../src/store/care/custody.ts';
import { type RepairResult, Scrub, type ScrubEvent } from '../../src/store/care/scrub.ts';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { FileHasher } from '../../src/store/files/file-hasher.ts';
import { type Verdict, Verification } from '../../src/store/files/verification.ts';
import { Shelf } from './shelf.ts';

const signal = new AbortController().signal;
/** Too large for the memory of the store. */
const large = 150_000;

/** A shelf whose files are checked. */
async function open() {
  await using owned = new AsyncDisposableStack();
  const shelf = owned.use(await Shelf.open());
  const { store, catalog, layout } = shelf;
  const hasher = owned.use(new FileHasher());
  const altered: Digest[] = [];
  const checks: Digest[] = [];
  const verification = new Verification({ layout, catalog, hasher, now: () => Date.now() + 60_000 });
  const check: Verification['check'] = (digest, ...rest) => {
    checks.push(digest);
    return verification.check(digest, ...rest);
  };
  const custody = owned.use(new Custody({ store, catalog, check, onAltered: (digest) => altered.push(digest) }));
  const rest = owned.move();
  const stored = async (bytes = large): Promise<{ digest: Digest; file: string; modifiedAtMs: number }> => {
    const digest = await shelf.blob(bytes);
    const { modifiedAtMs } = (await store.stat(digest))!;
    catalog.blobs.noteRight(digest, { size: bytes, modifiedAtMs });
    return { digest, file: layout.blob(digest), modifiedAtMs };
  };
  const doubt = async (digest: Digest) => {
    await using blob = await store.open(digest);
    return custody.doubt(digest, blob!);
  };
  return {
    shelf,
    store,
    catalog,
    custody,
    verification,
    altered,
    checks,
    stored,
    doubt,
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

describe('a stored file', () => {
  test('is in doubt where its size or time is another one than that of its blob', async () => {
    await using on = await open();
    const { digest, file, modifiedAtMs } = await on.stored();
    expect(await on.doubt(digest)).toBeUndefined();
    await utimes(file, 1, 1);
    expect(await on.doubt(digest)).toBe('modified');
    expect(await on.custody.look(digest, 'modified', { signal })).toBe(1000);
    expect(await on.doubt(digest)).toBeUndefined();
    await truncate(file, large - 1);
    expect(await on.doubt(digest)).toBe('size');
    on.catalog.blobs.record(digest, { size: large, contentType: 'x' });
    expect(await on.doubt(digest)).toBe('unverified');
    on.catalog.blobs.forget(digest);
    expect(await on.doubt(digest)).toBe('unverified');
    const small = await on.stored(10);
    expect(await on.doubt(small.digest)).toBeUndefined();
    expect(modifiedAtMs).toBeGreaterThan(0);
  });

  test('of another size is set aside without being read', async () => {
    await using on = await open();
    const { digest, file } = await on.stored();
    await truncate(file, 5);
    expect(await on.custody.look(digest, 'size', { signal })).toBeUndefined();
    expect([on.checks, on.altered, on.catalog.blobs.has(digest)]).toEqual([[], [digest], false]);
    expect(await readdir(on.shelf.layout.quarantine)).toHaveLength(1);
  });

  test('that is wrong is set aside, once for all who ask', async () => {
    await using on = await open();
    const { digest, file } = await on.stored();
    await writeFile(file, Buffer.alloc(large));
    const looks = await Promise.all([1, 2, 3].map(() => on.custody.look(digest, 'modified', { signal })));
    expect([looks, on.checks, on.altered]).toEqual([[undefined, undefined, undefined], [digest], [digest]]);
    expect(await on.store.stat(digest)).toBeUndefined();
    expect(await on.custody.look(digest, 'unverified', { signal })).toBeUndefined();
  });

  test('that the catalog does not know is recorded when it is right', async () => {
    await using on = await open();
    const { digest, modifiedAtMs } = await on.stored();
    on.catalog.blobs.forget(digest);
    expect(await on.custody.look(digest, 'size', { signal })).toBe(modifiedAtMs);
    expect(on.catalog.blobs.get(digest)).toMatchObject({ size: large, modifiedAtMs });
  });

  test.each([
    ['ok', true],
    ['misrecorded', true],
    ['unrecorded', true],
    ['altered', false],
    ['truncated', false],
    ['missing', false],
    ['stray', false],
  ] as const)('with the finding %s stays: %s', async (kind, stays) => {
    await using on = await open();
    const { digest } = await on.stored();
    const verdict = { kind, digest, size: large, modifiedAtMs: 9, recordedSize: 3, path: 'x' } as Verdict;
    if (kind === 'unrecorded') on.catalog.blobs.forget(digest);
    expect(await on.custody.settle(verdict)).toBe(stays);
    expect(on.catalog.blobs.get(digest)?.modifiedAtMs === 9).toBe(stays);
    expect(on.catalog.blobs.has(digest)).toBe(stays || kind === 'stray');
    expect(on.altered).toEqual(kind === 'altered' || kind === 'truncated' ? [digest] : []);
    if (kind !== 'unrecorded') return;
    await on.store.remove(digest);
    expect(await on.custody.settle(verdict)).toBe(false);
  });

  test('that cannot be read says why, and one that cannot be moved is trusted no more', async () => {
    await using on = await open();
    const { digest, file } = await on.stored();
    const settled = on.custody.settle({ kind: 'unreadable', digest, code: 'EIO' });
    await expect(settled).rejects.toMatchObject({ name: 'DiskFault', code: 'EIO' });
    expect(on.catalog.blobs.has(digest)).toBe(true);
    await rm(file);
    await mkdir(join(file, 'x'), { recursive: true });
    await writeFile(on.shelf.layout.quarantine, 'not a folder');
    await expect(on.custody.settle({ kind: 'altered', digest, size: 1 })).rejects.toBeInstanceOf(DiskFault);
    expect([on.catalog.blobs.has(digest), on.altered]).toEqual([false, []]);
  });

  test('is not looked at any more when the custody has ended', async () => {
    await using on = await open();
    const { digest } = await on.stored();
    await on.custody[Symbol.asyncDispose]();
    await expect(on.custody.look(digest, 'modified', { signal })).rejects.toThrow('this mirror is shutting down');
  });
});

describe('a scrub', () => {
  const day = 24 * 60 * 60 * 1000;

  async function scrubbed(
    on: Awaited<ReturnType<typeof open>>,
    {
      everyMs = day,
      nowMs = 10 * day,
      result = 'fetched',
    }: { everyMs?: number; nowMs?: number; result?: RepairResult } = {},
  ) {
    const events: ScrubEvent[] = [];
    const clock = { nowMs, everyMs };
    const done = Promise.withResolvers<void>();
    const repaired: Digest[] = [];
    const { catalog, verification, custody } = on;
    const scrub = new Scrub({
      catalog,
      verification,
      custody,
      repair: { fetch: (digest) => (repaired.push(digest), Promise.resolve(result)) },
      settings: () => ({ everyMs: clock.everyMs }),
      report: (event) => {
        events.push(event);
        if (event.kind === 'scrub-finished' || event.kind === 'scrub-stopped' || event.kind === 'scrub-failed')
          done.resolve();
      },
      now: () => clock.nowMs,
    });
    return { scrub, events, clock, repaired, done: done.promise, kinds: () => events.map(({ kind }) => kind) };
  }
  const note = (on: Awaited<ReturnType<typeof open>>) => JSON.parse(on.catalog.notes.get('scrub') ?? '{}');

  test('that is due reads everything, and mends what it can', async () => {
    await using on = await open();
    const [right, altered, gone, unknown] = await Promise.all([on.stored(), on.stored(), on.stored(), on.stored()]);
    await writeFile(altered.file, Buffer.alloc(large));
    await rm(gone.file);
    on.catalog.blobs.forget(unknown.digest);
    await symlink('nowhere', join(on.shelf.layout.blobs, 'sha256', 'stray'));
    Scrub.makeDue(on.catalog);
    const run = await scrubbed(on);
    await using scrub = run.scrub;
    scrub.start();
    await run.done;
    expect(run.events[0]).toEqual({ kind: 'scrub-started', startedAtMs: 10 * day, after: '' });
    expect(run.events.at(-1)).toEqual({
      kind: 'scrub-finished',
      startedAtMs: 10 * day,
      found: { stray: 1, unrecorded: 1, ok: 2, altered: 1, missing: 1 },
      fetched: 2,
    });
    expect(run.repaired.toSorted()).toEqual([altered.digest, gone.digest].toSorted());
    expect(run.events.filter(({ kind }) => kind === 'scrub-repaired')).toHaveLength(2);
    expect(run.events.filter(({ kind }) => kind === 'scrub-found')).toHaveLength(6);
    const read = run.events.reduce((sum, event) => sum + (event.kind === 'scrub-read' ? event.bytes : 0), 0);
    expect(read).toBe(4 * large);
    expect([note(on), on.catalog.blobs.has(unknown.digest), on.catalog.blobs.has(right.digest)]).toEqual([
      { finishedAtMs: 10 * day },
      true,
      true,
    ]);
  });

  test('goes on where it was, with what it had found', async () => {
    await using on = await open();
    const stored = (await Promise.all([on.stored(), on.stored(), on.stored()])).map(({ digest }) => digest).toSorted();
    const before = { startedAtMs: 5, after: stored[0], found: { ok: 7, altered: 1 }, fetched: 3 };
    on.catalog.notes.set('scrub', JSON.stringify(before));
    const run = await scrubbed(on, { result: 'lost' });
    await using scrub = run.scrub;
    scrub.start();
    await run.done;
    expect(run.events[0]).toEqual({ kind: 'scrub-started', startedAtMs: 5, after: stored[0] });
    expect(run.events.at(-1)).toEqual({
      kind: 'scrub-finished',
      startedAtMs: 5,
      found: { ok: 9, altered: 1 },
      fetched: 3,
    });
  });

  test('notes its place after twenty blobs', async () => {
    await using on = await open();
    const stored = await Promise.all(Array.from({ length: 21 }, () => on.stored(10)));
    const inOrder = stored.toSorted((one, other) => (one.digest < other.digest ? -1 : 1));
    await writeFile(inOrder[20]!.file, 'altered');
    Scrub.makeDue(on.catalog);
    const seen: unknown[] = [];
    const settle: Custody['settle'] = async (verdict) => {
      if (verdict.kind !== 'ok') seen.push(note(on));
      return await on.custody.settle(verdict);
    };
    const watched = { ...on, custody: Object.assign(Object.create(on.custody), { settle }) };
    const run = await scrubbed(watched);
    await using scrub = run.scrub;
    scrub.start();
    await run.done;
    expect(seen).toMatchObject([{ after: inOrder[19]!.digest, startedAtMs: 10 * day, finishedAtMs: 0, fetched: 0 }]);
  });

  test('that was lost before its first blob begins again with nothing', async () => {
    await using on = await open();
    const { file } = await on.stored();
    await rm(file);
    on.catalog.notes.set('scrub', JSON.stringify({ startedAtMs: 5, after: '', found: { ok: 7 }, fetched: 3 }));
    const run = await scrubbed(on, { result: 'lost' });
    await using scrub = run.scrub;
    scrub.start();
    await run.done;
    expect(run.events.at(-1)).toMatchObject({ found: { missing: 1 }, fetched: 0 });
    expect(run.events.at(-2)).toMatchObject({ kind: 'scrub-repaired', result: 'lost' });
  });

  test.each([
    ['of a new cache', {}, { finishedAtMs: 10 * day }],
    ['whose last end is in the future', { finishedAtMs: 10 * day + 1 }, { finishedAtMs: 10 * day }],
    ['that is not due yet', { finishedAtMs: 9 * day + 1 }, { finishedAtMs: 9 * day + 1 }],
  ])('%s waits', async (_, before, after) => {
    await using on = await open();
    await on.stored();
    on.catalog.notes.set('scrub', JSON.stringify(before));
    const run = await scrubbed(on);
    run.scrub.start();
    await new Promise(setImmediate);
    await run.scrub[Symbol.asyncDispose]();
    expect([run.kinds(), note(on)]).toEqual([[], after]);
  });

  test('that is due to the millisecond begins, and one that is disabled does not', async () => {
    await using on = await open();
    on.catalog.notes.set('scrub', JSON.stringify({ finishedAtMs: 9 * day }));
    const never = await scrubbed(on, { everyMs: 0 });
    never.scrub.start();
    await new Promise(setImmediate);
    await never.scrub[Symbol.asyncDispose]();
    expect(never.kinds()).toEqual([]);
    const run = await scrubbed(on);
    await using scrub = run.scrub;
    scrub.start();
    await run.done;
    expect(run.kinds()).toEqual(['scrub-started', 'scrub-finished']);
  });

  test('that is disabled meanwhile stops, and keeps its place', async () => {
    await using on = await open();
    const stored = (await Promise.all(Array.from({ length: 4 }, () => on.stored())))
      .map(({ digest }) => digest)
      .toSorted();
    on.catalog.notes.set('scrub', JSON.stringify({ startedAtMs: 5, after: stored[0], finishedAtMs: 3 }));
    let disable: () => void = () => undefined;
    const settle: Custody['settle'] = async (verdict) => {
      disable();
      return await on.custody.settle(verdict);
    };
    const run = await scrubbed({ ...on, custody: Object.assign(Object.create(on.custody), { settle }) });
    {
      await using scrub = run.scrub;
      disable = () => {
        // Other settings disable nothing.
        scrub.look();
        if (run.kinds().filter((kind) => kind === 'scrub-found').length < 2) return;
        run.clock.everyMs = 0;
        scrub.look();
      };
      scrub.start();
      await run.done;
    }
    expect(run.kinds().filter((kind) => kind !== 'scrub-read')).toEqual([
      'scrub-started',
      'scrub-found',
      'scrub-found',
      'scrub-stopped',
    ]);
    expect(note(on)).toEqual({ startedAtMs: 5, after: stored[2], finishedAtMs: 3, found: { ok: 2 }, fetched: 0 });
    const next = await scrubbed(on);
    await using scrub = next.scrub;
    scrub.start();
    await next.done;
    expect(next.events[0]).toEqual({ kind: 'scrub-started', startedAtMs: 5, after: stored[2] });
    expect(next.events.at(-1)).toMatchObject({ kind: 'scrub-finished', found: { ok: 3 } });
  });

  test('leaves what the disk does not let it mend, and fails with what is none of the disk', async () => {
    await using on = await open();
    const { digest, file } = await on.stored();
    await writeFile(file, Buffer.alloc(large));
    Scrub.makeDue(on.catalog);
    const fault = new DiskFault('x', new Error('x'));
    const settle = async (): Promise<boolean> => Promise.reject(fault);
    const broken = { ...on, custody: Object.assign(Object.create(on.custody), { settle }) };
    const run = await scrubbed(broken);
    await using scrub = run.scrub;
    scrub.start();
    await run.done;
    expect(run.events.at(-2)).toEqual({ kind: 'scrub-left', digest, fault });
    expect(run.repaired).toEqual([]);
    Scrub.makeDue(on.catalog);
    const error = new Error('a bug');
    const buggy = { ...on, custody: Object.assign(Object.create(on.custody), { settle: () => Promise.reject(error) }) };
    const failed = await scrubbed(buggy);
    failed.scrub.start();
    await failed.done;
    await failed.scrub[Symbol.asyncDispose]();
    expect(failed.events.at(-1)).toEqual({ kind: 'scrub-failed', error });
    expect(note(on)).toMatchObject({ startedAtMs: 10 * day, finishedAtMs: 0 });
  });
});
