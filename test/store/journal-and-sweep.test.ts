import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { NameEntry } from '../../src/store/catalog/name-entry.ts';
import { NameJournal } from '../../src/store/catalog/name-journal.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { openPartial } from '../../src/store/files/partial-file.ts';
import { maxPartials, partialLastsMs, sweepIngest } from '../../src/store/files/sweep.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { app, digest, foreign, other, Records, sorted } from './records.ts';

const pin = (reference: string): NameEntry => ({ kind: 'pin', repository: 'docker.io/a', reference, atMs: 1 });

describe('the journal of names', () => {
  async function open() {
    const folder = await temporaryDirectory('journal');
    const path = join(folder.path, 'names-1.journal');
    const clock = { nowMs: 1234 };
    const journal = new NameJournal({
      path,
      onFault: (error) => {
        throw error;
      },
      now: () => clock.nowMs,
    });
    const references = async (from = 0): Promise<string[]> => {
      const found: string[] = [];
      for await (const { entries } of journal.read(from)) {
        for (const entry of entries) if (entry.kind === 'pin') found.push(entry.reference);
      }
      return found;
    };
    return {
      journal,
      path,
      clock,
      references,
      [Symbol.asyncDispose]: async () => {
        journal[Symbol.dispose]();
        await folder[Symbol.asyncDispose]();
      },
    };
  }

  test('begins with the time of its first line, and knows its length and its end', async () => {
    await using on = await open();
    const { journal } = on;
    expect([journal.bytes, journal.begunAtMs, journal.isComplete]).toEqual([0, 0, true]);
    let flushed = 0;
    journal.onFlushed = () => (flushed += 1);
    journal.flush();
    journal.add(pin('1'));
    journal.add(pin('2'));
    expect(journal.bytes).toBe(0);
    await new Promise(setImmediate);
    const { size } = await stat(on.path);
    expect([journal.bytes, journal.begunAtMs, flushed]).toEqual([size, 1234, 1]);
    expect((await readFile(on.path, 'utf8')).split('\n')).toHaveLength(4);
    const tail = journal.tail(size);
    on.clock.nowMs = 9999;
    journal.add(pin('3'));
    expect(await on.references()).toEqual(['1', '2', '3']);
    expect(await on.references(size)).toEqual(['3']);
    expect([journal.tail(size), journal.tail(journal.bytes) === tail, journal.begunAtMs]).toEqual([tail, false, 1234]);
    expect((await stat(on.path)).mode & 0o777).toBe(0o600);
    const again = new NameJournal({ path: on.path, onFault: () => undefined });
    expect([again.bytes, again.begunAtMs, again.tail(size)]).toEqual([journal.bytes, 1234, tail]);
    again[Symbol.dispose]();
  });

  test('is rewritten with what the catalog knows, and with what comes meanwhile', async () => {
    await using on = await open();
    const { journal } = on;
    for (let at = 0; at < 50; at += 1) journal.add(pin(`old ${at}`));
    journal.flush();
    const before = journal.bytes;
    on.clock.nowMs = 2000;
    const pages = [[pin('a'), pin('b')], [pin('c')]];
    let steps = 0;
    const between = async (): Promise<void> => {
      steps += 1;
      if (steps === 1) journal.add(pin('meanwhile'));
      await new Promise(setImmediate);
    };
    expect(await journal.rewrite(pages, between, { after: 5000 })).toBe(true);
    expect((await on.references()).toSorted()).toEqual(['a', 'b', 'c', 'meanwhile']);
    expect([journal.bytes < before, journal.begunAtMs > 5000, journal.bytes]).toEqual([
      true,
      true,
      (await stat(on.path)).size,
    ]);
    journal.add(pin('later'));
    expect(await on.references()).toContain('later');
    expect(await readdir(join(on.path, '..'))).toEqual(['names-1.journal']);
  });

  test('stays as it was where a rewrite is interrupted', async () => {
    await using on = await open();
    on.journal.add(pin('kept'));
    const reason = new Error('interrupted');
    const rewriting = on.journal.rewrite([[pin('a')], [pin('b')]], () => Promise.reject(reason), { after: 0 });
    await expect(rewriting).rejects.toBe(reason);
    expect(await on.references()).toEqual(['kept']);
    expect(await readdir(join(on.path, '..'))).toEqual(['names-1.journal']);
  });

  test('is none where it has no path', async () => {
    using journal = new NameJournal({ path: undefined, onFault: () => undefined });
    journal.add(pin('x'));
    journal.flush();
    expect([journal.bytes, journal.tail(0)]).toEqual([0, undefined]);
    expect(await Array.fromAsync(journal.read(0))).toEqual([]);
  });
});

describe('what the journal says', () => {
  test('gives back tags, rights and pins, and leaves what is known by now', async () => {
    using records = await Records.open();
    const { names, tags, grants, pins, blobs } = records.catalog;
    const [one, two] = [digest('one'), digest('two')];
    const restore = (entry: NameEntry) => records.catalog.together(() => names.restore(entry));
    const tag = { kind: 'tag', repository: app, tag: '1', variant: '', contentType: 'x', size: 1 } as const;
    const key = { repository: app, tag: '1', variant: '' };
    restore({ ...tag, digest: one, checkedAtMs: 10 });
    restore({ ...tag, digest: two, checkedAtMs: 10 });
    expect(tags.get(key)).toMatchObject({ digest: one, checkedAtMs: 10 });
    restore({ ...tag, digest: two, checkedAtMs: 11 });
    expect(tags.get(key)?.digest).toBe(two);
    restore({ kind: 'tag gone', ...key, atMs: 10 });
    expect(tags.get(key)?.digest).toBe(two);
    restore({ kind: 'tag gone', ...key, atMs: 11 });
    expect(tags.get(key)).toBeUndefined();
    // A time to come is of a clock that was ahead.
    restore({ ...tag, digest: one, checkedAtMs: records.nowMs + 1 });
    restore({ ...tag, digest: two, checkedAtMs: 5 });
    expect(tags.get(key)?.digest).toBe(two);
    restore({ kind: 'grant', repository: other, digest: one, size: 9 });
    expect(grants.expectedSize(other, one)).toBe(9);
    restore({ kind: 'right gone', repository: other, digest: one });
    expect(grants.mayRead(other, one)).toBe(false);
    restore({ kind: 'pin', repository: app, reference: '1', atMs: 3 });
    expect(pins.list()).toEqual([{ repository: app, reference: '1', pinnedAtMs: 3 }]);
    restore({ kind: 'unpin', repository: app, reference: '1' });
    expect(pins.list()).toEqual([]);
    restore({ kind: 'type', digest: one, contentType: 'text/x' });
    restore({ kind: 'shown', digest: one, upstream: 'quay.io' });
    blobs.adopt(one, { size: 4, usedAtMs: 1 });
    expect([blobs.get(one)?.contentType, blobs.isShown(one, 'quay.io')]).toEqual(['text/x', true]);
    restore({ kind: 'shown', digest: one, upstream: 'docker.io' });
    expect(blobs.isShown(one, 'docker.io')).toBe(true);
  });

  test('of manifests is remembered until they have been read again', async () => {
    using records = await Records.open();
    const { names } = records.catalog;
    const all = ['a', 'b', 'c'].map((name) => digest(name));
    records.catalog.together(() => {
      for (const one of all) names.restore({ kind: 'manifest', repository: app, digest: one, contentType: 'x' });
      names.restore({ kind: 'manifest', repository: foreign, digest: all[0]!, contentType: 'y' });
      names.restore({ kind: 'type', digest: digestOf(Buffer.from('layer')), contentType: 'z' });
    });
    const page = (after: string, limit: number) => names.rememberedPage({ after, limit });
    expect([page('', 9), page('', 2), page(sorted(...all)[1]!, 9)]).toEqual([
      sorted(...all),
      sorted(...all).slice(0, 2),
      sorted(...all).slice(2),
    ]);
    expect(
      names
        .remembered(all[0]!)
        .map(({ repository, contentType }) => `${repository} ${contentType}`)
        .toSorted(),
    ).toEqual([`${app} x`, `${foreign} y`]);
    expect(names.remembered(digestOf(Buffer.from('layer')))).toEqual([]);
    records.catalog.together(() => names.restore({ kind: 'right gone', repository: foreign, digest: all[0]! }));
    expect(names.remembered(all[0]!)).toHaveLength(1);
    names.forgetRemembered(all[0]!);
    expect(names.remembered(all[0]!)).toEqual([]);
    names.forgetAllRemembered();
    expect(page('', 9)).toEqual([]);
  });
});

describe('the folder of what is on its way', () => {
  async function ingest() {
    const folder = await temporaryDirectory('ingest');
    const layout = layoutOf(folder.path);
    await prepareLayout(layout);
    return { layout, [Symbol.asyncDispose]: folder[Symbol.asyncDispose] };
  }
  const nowMs = 2_000_000_000_000;

  test('keeps the partial files that changed last, a hundred of them, for a week', async () => {
    await using on = await ingest();
    const names = Array.from({ length: maxPartials + 2 }, (_, at) => on.layout.partial(digest(String(at))));
    for (const [at, path] of names.entries()) {
      await writeFile(path, 'x');
      await utimes(path, nowMs / 1000, (nowMs - partialLastsMs) / 1000 + at);
    }
    expect(await sweepIngest(on.layout, { now: () => nowMs })).toBe(2);
    await expect(stat(names[1]!)).rejects.toThrow('ENOENT');
    expect((await stat(names[2]!)).size).toBe(1);
    expect(await sweepIngest(on.layout, { now: () => nowMs + 2000 })).toBe(0);
    expect(await sweepIngest(on.layout, { now: () => nowMs + 2001 })).toBe(1);
  });

  test('notes the prefix of a file with holes, and again after 32 MiB', async () => {
    await using on = await ingest();
    const bytes = Buffer.alloc(1024 * 1024, 'abc');
    const total = 40;
    const of = digestOf(Buffer.concat(Array.from({ length: total }, () => bytes)));
    await using partial = await openPartial({ layout: on.layout, digest: of });
    await partial.append([bytes]);
    for (let at = 2; at < total; at += 1) await partial.write(at * bytes.length, [bytes]);
    const note = `${on.layout.partial(of)}.prefix`;
    expect(await readFile(note, 'utf8')).toBe(String(bytes.length));
    expect([partial.written, partial.nextAvailable(0)]).toEqual([bytes.length, 2 * bytes.length]);
    await partial.append([bytes]);
    expect(partial.written).toBe(total * bytes.length);
    expect(Number(await readFile(note, 'utf8'))).toBeGreaterThanOrEqual(33 * bytes.length);
    expect(partial.digest()).toBe(of);
  });
});
