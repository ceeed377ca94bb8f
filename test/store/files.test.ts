import { mkdir, open, readdir, readFile, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { writeAt } from '../../src/memory/write-at.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { nothingRemoved } from '../../src/oci/facts.ts';
import { DiskFault, NoRoom } from '../../src/store/files/blob-store.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { Extents } from '../../src/store/files/extents.ts';
import { isCache, layoutOf, prepareLayout, reasonOf, requireOurs } from '../../src/store/files/layout.ts';
import { quarantine } from '../../src/store/files/quarantine.ts';
import { readAt } from '../../src/store/files/read-at.ts';
import { isOnReadOnlyDisk, openReadOnlyLayout } from '../../src/store/files/read-only-layout.ts';
import { leftPartials } from '../../src/store/files/sweep.ts';
import { readVerified } from '../../src/store/files/verified-read.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const large = Buffer.alloc(2_500_000, 'a large blob');
const small = Buffer.from('a small blob');

async function prepared() {
  await using owned = new AsyncDisposableStack();
  const { path } = owned.use(await temporaryDirectory('files'));
  const layout = layoutOf(path);
  await prepareLayout(layout);
  const calls: string[] = [];
  const space = {
    begun: () => {},
    mayGrow: () => true,
    claim: () => Promise.resolve({ isGranted: true, end: () => {} }),
    closed: () => {},
    look: () => void calls.push('look'),
  };
  const store = new DiskStore({
    layout,
    memoryBytes: 1000,
    space,
    onAltered: (one) => calls.push(`altered ${one}`),
    onGone: (one) => calls.push(`gone ${one}`),
    changes: { changed: (fact) => calls.push(fact), changedAll: () => undefined, count: () => 0 },
  });
  const rest = owned.move();
  const put = async (bytes: Buffer): Promise<Digest> => {
    await store.put(digestOf(bytes), bytes);
    return digestOf(bytes);
  };
  return { layout, store, put, calls, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

describe('a stored blob that is read for another process', () => {
  const read = async (layout: ReturnType<typeof layoutOf>[], digest: Digest, size: number): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const chunk of readVerified(layout, { digest, size })) chunks.push(Buffer.from(chunk));
    return Buffer.concat(chunks);
  };

  test('comes whole, in chunks of a mebibyte, from the first place that has it', async () => {
    await using on = await prepared();
    const digest = await on.put(large);
    const none = layoutOf(join(on.layout.dir, 'none'));
    expect(await read([none, on.layout], digest, large.length)).toEqual(large);
    expect(await read([on.layout, none], digest, large.length)).toEqual(large);
    const lengths: number[] = [];
    for await (const { length } of readVerified([on.layout], { digest, size: large.length })) lengths.push(length);
    expect(lengths).toEqual([1024 * 1024, 1024 * 1024, large.length - 2 * 1024 * 1024]);
    const empty = await on.put(Buffer.alloc(0));
    expect(await read([on.layout], empty, 0)).toHaveLength(0);
  });

  test('is refused in one sentence where it is not what it should be', async () => {
    await using on = await prepared();
    const digest = await on.put(large);
    const gone = digestOf(small);
    const none = layoutOf(join(on.layout.dir, 'none'));
    await expect(read([on.layout, none], gone, 1)).rejects.toThrow(
      `${gone} is not in the cache any more: run it again`,
    );
    await expect(read([on.layout], digest, 5)).rejects.toThrow(
      `${digest} has ${large.length} bytes in the cache instead of 5`,
    );
    const reading = readVerified([on.layout], { digest, size: large.length });
    await reading.next();
    await truncate(on.layout.blob(digest), 1024 * 1024 + 5);
    await reading.next();
    await expect(reading.next()).rejects.toThrow(`${digest} has become shorter in the cache`);
    await writeFile(on.layout.blob(digest), Buffer.alloc(large.length));
    await expect(read([on.layout], digest, large.length)).rejects.toThrow(`${digest} has been altered in the cache`);
    await rm(on.layout.blob(digest));
    await symlink(on.layout.blob(digest), on.layout.blob(digest));
    await expect(read([on.layout, none], digest, 5)).rejects.toThrow(`${digest} cannot be read: ELOOP`);
  });
});

describe('a cache directory that is only read', () => {
  test('has its catalog and journal copied, and the copy removed', async () => {
    await using on = await prepared();
    const texts = { 'catalog.sqlite': 'catalog', 'catalog.sqlite-wal': 'log', 'names-1.journal': 'names' };
    for (const [name, text] of Object.entries(texts)) await writeFile(join(on.layout.dir, name), text, { mode: 0o644 });
    const opened = await openReadOnlyLayout(on.layout);
    const { layout } = opened;
    const folder = join(layout.catalog, '..');
    expect([layout.isReadOnly, layout.dir, layout.blobs, layout.blob(digestOf(small))]).toEqual([
      true,
      on.layout.dir,
      on.layout.blobs,
      on.layout.blob(digestOf(small)),
    ]);
    for (const [name, text] of Object.entries(texts)) {
      expect(await readFile(join(folder, name), 'utf8')).toBe(text);
      expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600);
    }
    expect([layout.ingest, layout.quarantine]).toEqual([join(folder, 'ingest'), join(folder, 'quarantine')]);
    await opened[Symbol.asyncDispose]();
    await expect(readdir(folder)).rejects.toThrow('ENOENT');
  });

  test('need not have a catalog, and is one of this version', async () => {
    await using on = await prepared();
    await using opened = await openReadOnlyLayout(on.layout);
    expect(await readdir(join(opened.layout.catalog, '..'))).toEqual([]);
    await mkdir(on.layout.catalog);
    await expect(openReadOnlyLayout(on.layout)).rejects.toThrow(
      /^cannot copy the catalog of the read-only cache .*EISDIR/,
    );
    await writeFile(join(on.layout.dir, 'millpond.json'), '{"layout":2}');
    await expect(openReadOnlyLayout(on.layout)).rejects.toThrow('has layout 2 and this version reads layout 1');
    expect(await isOnReadOnlyDisk(on.layout)).toBe(false);
    expect(await isOnReadOnlyDisk(layoutOf(join(on.layout.dir, 'none')))).toBe(false);
  });
});

describe('a cache directory', () => {
  test('says which layout it has, and is none of another program', async () => {
    await using on = await prepared();
    const version = join(on.layout.dir, 'millpond.json');
    expect(await requireOurs(on.layout)).toBe(1);
    expect(await isCache(on.layout)).toBe(true);
    for (const text of ['', '{}', '{"layout":"1"}']) {
      await writeFile(version, text);
      await expect(requireOurs(on.layout)).rejects.toThrow('does not say what layout it has');
    }
    await rm(version);
    expect(await isCache(on.layout)).toBe(false);
    expect(await requireOurs(on.layout)).toBeUndefined();
    for (const algorithm of ['sha256', 'sha512']) {
      const file = join(on.layout.blobs, algorithm, 'x');
      await writeFile(file, '');
      await expect(requireOurs(on.layout)).rejects.toThrow('has blobs that are not from a cache');
      for (const name of ['catalog.sqlite', 'names-1.journal']) {
        await writeFile(join(on.layout.dir, name), '');
        expect([await requireOurs(on.layout), await isCache(on.layout)]).toEqual([undefined, true]);
        await rm(join(on.layout.dir, name));
      }
      await rm(file);
    }
    expect(await isCache(layoutOf(join(on.layout.dir, 'none')))).toBe(false);
    await rm(join(on.layout.blobs, 'sha256'), { recursive: true });
    await writeFile(join(on.layout.blobs, 'sha256'), '');
    await expect(requireOurs(on.layout)).rejects.toThrow('cannot list the folder');
  });

  test('has a catalog that its owner alone may read, with its logs', async () => {
    await using on = await prepared();
    const files = ['', '-wal', '-shm'].map((suffix) => on.layout.catalog + suffix);
    for (const file of files) await writeFile(file, '', { mode: 0o644 });
    await prepareLayout(on.layout);
    for (const file of files) expect((await stat(file)).mode & 0o777).toBe(0o600);
  });

  test.each([
    ['EACCES', 'this user may not (EACCES)'],
    ['EPERM', 'this user may not (EPERM)'],
    ['EEXIST', 'something that is no folder is in its place or on its way (EEXIST)'],
    ['ENOTDIR', 'something that is no folder is in its place or on its way (ENOTDIR)'],
    ['EROFS', 'its file system is read-only (EROFS)'],
    ['EISDIR', 'it is a folder (EISDIR)'],
    ['ENOENT', 'a link on its way leads nowhere (ENOENT)'],
    ['EIO', 'EIO'],
    [undefined, 'unknown'],
  ])('that is refused with %s says: %s', (code, reason) => {
    expect(reasonOf(Object.assign(new Error('x'), code && { code }))).toBe(reason);
  });
});

describe('the store', () => {
  test('keeps what is held, and looks again when it is let go', async () => {
    await using on = await prepared();
    const { store } = on;
    const [a, b] = [await on.put(small), await on.put(large)];
    const held = await store.hold([a, b, digestOf(Buffer.from('to come'))]);
    expect([
      store.isInUse(a),
      store.isInUse(digestOf(Buffer.from('to come'))),
      await store.evict(b, () => undefined),
    ]).toEqual([true, true, false]);
    const twice = await store.hold([b]);
    on.calls.length = 0;
    held[Symbol.dispose]();
    held[Symbol.dispose]();
    expect([store.isInUse(a), store.isInUse(b), on.calls]).toEqual([false, true, ['look', 'look']]);
    twice[Symbol.dispose]();
    const removed: string[] = [];
    expect(await store.evict(b, () => removed.push('forgotten'))).toBe(true);
    expect([removed, store.mayHave(b), store.mayHave(a), on.calls.slice(-4)]).toEqual([
      ['forgotten'],
      false,
      true,
      [`blob ${b}`, `blob ${b}`, nothingRemoved, `gone ${b}`],
    ]);
  });

  test('waits, when it holds, for what is on its way out', async () => {
    await using on = await prepared();
    const digest = await on.put(large);
    const evicting = on.store.evict(digest, () => undefined);
    expect(on.store.isInUse(digest)).toBe(true);
    using _ = await on.store.hold([digest]);
    expect(on.store.mayHave(digest)).toBe(false);
    expect(await evicting).toBe(true);
  });

  test('does not evict what is read elsewhere or open', async () => {
    await using on = await prepared();
    const digest = await on.put(large);
    const reading = on.store.reading(digest);
    expect(await on.store.evict(digest, () => undefined)).toBe(false);
    reading[Symbol.dispose]();
    {
      await using blob = await on.store.open(digest);
      expect([blob?.size, on.store.isInUse(digest)]).toEqual([large.length, true]);
    }
    expect(on.store.isInUse(digest)).toBe(false);
    expect(await on.store.open(digestOf(Buffer.from('none')))).toBeUndefined();
    expect(on.store.isInUse(digestOf(Buffer.from('none')))).toBe(false);
    await rm(on.layout.blob(digest));
    await symlink(on.layout.blob(digest), on.layout.blob(digest));
    await expect(on.store.open(digest)).rejects.toMatchObject({ message: 'cannot open a blob: ELOOP', code: 'ELOOP' });
    await expect(on.store.stat(digest)).rejects.toThrow('cannot look at a blob: ELOOP');
    expect(on.store.isInUse(digest)).toBe(false);
  });

  test('reads small blobs from memory, and holds their files against their digests', async () => {
    await using on = await prepared();
    const digest = await on.put(small);
    expect(on.store.small(digest)).toEqual(small);
    const again = new DiskStore({
      layout: on.layout,
      memoryBytes: 1000,
      onAltered: (one) => on.calls.push(`altered ${one}`),
    });
    expect([again.small(digest), again.mayHave(digest)]).toEqual([undefined, true]);
    expect(await again.read(digest)).toEqual(small);
    expect(again.small(digest)).toEqual(small);
    await writeFile(on.layout.blob(digest), 'another blob');
    const later = new DiskStore({
      layout: on.layout,
      memoryBytes: 1000,
      onAltered: (one) => on.calls.push(`altered ${one}`),
    });
    expect(await later.read(digest)).toBeUndefined();
    expect([on.calls.at(-1), await readdir(join(on.layout.blobs, 'sha256'))]).toEqual([`altered ${digest}`, []]);
    const big = await on.put(large);
    await writeFile(on.layout.blob(big), Buffer.alloc(large.length));
    expect(await later.read(big)).toBeUndefined();
    expect(await later.stat(big)).toBeUndefined();
  });

  test('says of a file when it was last read or written to, and of a folder in its place nothing', async () => {
    await using on = await prepared();
    const digest = await on.put(small);
    await utimes(on.layout.blob(digest), 20, 10);
    expect(await on.store.stat(digest)).toEqual({ size: small.length, modifiedAtMs: 10_000, usedAtMs: 20_000 });
    await utimes(on.layout.blob(digest), 10, 20);
    expect((await on.store.stat(digest))?.usedAtMs).toBe(20_000);
    await on.store.remove(digest);
    await on.store.remove(digest);
    expect(await on.store.stat(digest)).toBeUndefined();
  });

  test('drops partial files that are not in use', async () => {
    await using on = await prepared();
    const [a, b] = [digestOf(small), digestOf(large)];
    await writeFile(on.layout.partial(a), 'abc');
    await writeFile(on.layout.partial(b), 'x');
    await utimes(on.layout.partial(a), 1, 1);
    await writeFile(join(on.layout.ingest, 'else'), 'x');
    using _ = on.store.reading(b);
    const partials = await on.store.partials();
    expect(partials.map(({ digest, isOpen, bytes }) => [digest, isOpen, bytes])).toEqual([
      [a, false, 3],
      [b, true, 1],
    ]);
    expect([await on.store.dropPartial(b), await on.store.dropPartial(a)]).toEqual([false, true]);
    expect((await leftPartials(on.layout)).map(({ digest }) => digest)).toEqual([b]);
  });
});

describe('blobs that were found altered', () => {
  test('are kept beside the others, the latest twenty, and a gibibyte of them', async () => {
    await using on = await prepared();
    const { layout } = on;
    const names = async () => (await readdir(layout.quarantine)).toSorted();
    await mkdir(layout.quarantine);
    for (let at = 10; at < 31; at += 1) await writeFile(join(layout.quarantine, `2020-${at}`), 'x');
    const digest = await on.put(small);
    await quarantine(layout, digest);
    const kept = await names();
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([
      20,
      '2020-12',
      expect.stringMatching(new RegExp(`^20[^:]*-sha256-${digest.slice(7)}$`)),
    ]);
    await truncate(join(layout.quarantine, '2020-30'), 1024 ** 3 - small.length);
    await quarantine(layout, digest);
    expect((await names()).slice(0, 2)).toEqual(['2020-30', kept.at(-1)]);
    await writeFile(join(layout.quarantine, '2020-31'), 'x');
    await quarantine(layout, digest);
    expect((await names())[0]).toBe('2020-31');
  });

  test('are removed where they cannot be moved', async () => {
    await using on = await prepared();
    const digest = await on.put(small);
    await writeFile(on.layout.quarantine, 'not a folder');
    await quarantine(on.layout, digest);
    expect(await on.store.stat(digest)).toBeUndefined();
    await quarantine(on.layout, digest);
  });
});

test('a fault of the disk has the code of the system', () => {
  const fault = new DiskFault('x', Object.assign(new Error('y'), { code: 'EIO' }));
  expect([fault.message, fault.code, fault.name]).toEqual(['cannot x: EIO', 'EIO', 'DiskFault']);
  expect(new DiskFault('x', new Error('y')).code).toBe('EUNKNOWN');
  expect(new DiskFault('x', 'y').code).toBe('EUNKNOWN');
  expect(new NoRoom()).toMatchObject({ code: 'ENOROOM', message: 'cannot keep a blob: ENOROOM' });
});

test('bytes are written whole, however few the system takes at a time', async () => {
  const written: [string, number][] = [];
  const handle = {
    writev: (chunks: Buffer[], position: number) => {
      const text = Buffer.concat(chunks).toString().slice(0, 4);
      written.push([text, position]);
      return Promise.resolve({ bytesWritten: text.length });
    },
  };
  await writeAt(
    handle as never,
    ['ab', 'cd', 'efg', 'hij'].map((text) => Buffer.from(text)),
    10,
  );
  expect(written).toEqual([
    ['abcd', 10],
    ['efgh', 14],
    ['ij', 18],
  ]);
  await expect(
    writeAt({ writev: () => Promise.resolve({ bytesWritten: 0 }) } as never, [Buffer.from('a')], 0),
  ).rejects.toMatchObject({ code: 'EIO' });
  await writeAt(handle as never, [], 0);
});

test('a file that is shorter than it was is a fault of the disk, and a closed one too', async () => {
  await using folder = await temporaryDirectory('read');
  const path = join(folder.path, 'x');
  await writeFile(path, 'abc');
  const handle = await open(path, 'r');
  const buffer = Buffer.alloc(9);
  expect(await readAt(handle, buffer, { position: 1, length: 9 })).toBe(2);
  expect(await readAt(handle, buffer, { position: 3, length: 0 })).toBe(0);
  await expect(readAt(handle, buffer, { position: 3, length: 1 })).rejects.toThrow('cannot read a blob: EUNKNOWN');
  await handle.close();
  await expect(readAt(handle, buffer, { position: 0, length: 1 })).rejects.toBeInstanceOf(Error);
});

test('a set of positions can be emptied, and merges what touches', () => {
  const extents = new Extents();
  extents.add(0, 5);
  extents.add(5, 9);
  expect([extents.endAt(0), extents.end, extents.startAfter(0)]).toEqual([9, 9, undefined]);
  extents.add(12, 13);
  extents.clear();
  expect([extents.isEmpty, extents.end]).toEqual([true, 0]);
});
