import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Cursor } from '../../src/archive/cursor.ts';
import { readThrough } from '../../src/archive/cursor.ts';
import { openTar } from '../../src/archive/tar-archive.ts';
import { plainName, type TarEntry, tarEntries } from '../../src/archive/tar-reader.ts';
import { attributes, type RawEntry, rawEntry, rawTar } from '../support/tar-entries.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

/** Goes through bytes in memory. */
function cursorOf(bytes: Buffer): Cursor & { readonly skipped: string[] } {
  const skipped: string[] = [];
  let position = 0;
  return {
    skipped,
    get position() {
      return position;
    },
    read: (length) => {
      const chunk = bytes.subarray(position, position + length);
      position += chunk.length;
      return Promise.resolve(chunk);
    },
    skipTo: (to, within) => {
      if (to > bytes.length) return Promise.reject(new Error(`cut within ${within}`));
      skipped.push(within);
      position = to;
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

const entriesOf = (bytes: Buffer): Promise<TarEntry[]> => Array.fromAsync(tarEntries(cursorOf(bytes)));
const read = (...entries: RawEntry[]): Promise<TarEntry[]> => entriesOf(rawTar(...entries));
const namesOf = async (...entries: RawEntry[]): Promise<string[]> => (await read(...entries)).map(({ name }) => name);
const file = (name: string, content = 'x'): RawEntry => ({ name, content });

describe('an entry', () => {
  test('is a file, where it is, with its size', async () => {
    expect(await read(file('./a//b', 'hello'), file('c', ''))).toEqual([
      { name: 'a/b', size: 5, position: 512, link: undefined, unreadable: undefined },
      { name: 'c', size: 0, position: 1536, link: undefined, unreadable: undefined },
    ]);
  });

  test('may be a link, whose size is none of its content', async () => {
    const hard: RawEntry = { name: 'h', type: '1', link: 'a', size: 700 };
    const symbolic: RawEntry = { name: 's', type: '2', link: '../a', size: 700 };
    expect(await namesOf({ name: 'l/', type: '2', link: 'a' })).toEqual(['l']);
    expect(await read(hard, symbolic, file('z'))).toMatchObject([
      { name: 'h', size: 0, link: { kind: 'hard', target: 'a' }, unreadable: undefined },
      { name: 's', size: 0, link: { kind: 'symbolic', target: '../a' } },
      { name: 'z', position: 1536, link: undefined },
    ]);
  });

  test('that is a folder is left out, with its size', async () => {
    expect(await namesOf({ name: 'd', type: '5', size: 700 }, { name: 'e/', size: 700 }, file('f'))).toEqual(['f']);
  });

  test.each(['3', '4', '6'])('of the type %s has no content that could be read, nor a size', async (type) => {
    const [device, next] = await read({ name: 'd', type, size: 700 }, file('f'));
    expect(device).toMatchObject({ name: 'd', size: 0, unreadable: 'is neither a file nor a folder nor a link' });
    expect(next).toMatchObject({ name: 'f', unreadable: undefined });
  });

  test.each(['8', 'M', 'V'])('of the type %s cannot be read, and its content is skipped', async (type) => {
    const [odd, next] = await read({ name: 'd', type, content: 'x'.repeat(700) }, file('f'));
    expect(odd).toMatchObject({ size: 700, unreadable: 'is neither a file nor a folder nor a link' });
    expect(next?.name).toBe('f');
  });

  test('that is sparse is named by its attributes, and not read', async () => {
    const reason = 'is stored as a sparse file: pack it without --sparse';
    expect(await read({ name: 's', type: 'S', content: 'x' })).toMatchObject([{ name: 's', unreadable: reason }]);
    const named = attributes({ 'GNU.sparse.name': 'real', 'GNU.sparse.major': '1' });
    expect(await read(named, file('GNUSparseFile.0/real'))).toMatchObject([{ name: 'real', unreadable: reason }]);
    expect(await read(attributes({ 'GNU.sparse.map': '0,1' }), file('f'))).toMatchObject([{ unreadable: reason }]);
    expect(await read(attributes({ 'x.GNU.sparse.map': '0,1' }), file('f'))).toMatchObject([{ unreadable: undefined }]);
  });

  test('has the name, the size and the target that the attributes before it say, and the next has not', async () => {
    const said = attributes({ path: 'long/name', linkpath: 'target', size: '3' });
    expect(await read(said, { name: 'l', type: '2', link: 'else' }, file('f'))).toMatchObject([
      { name: 'long/name', link: { target: 'target' } },
      { name: 'f', size: 1, position: 2048 },
    ]);
    const [sized] = await read(attributes({ size: '3' }), { name: 'f', content: 'abc', size: 0 });
    expect(sized).toMatchObject({ size: 3, position: 1536 });
    const twice = await read(attributes({ path: 'a' }), attributes({ size: '1' }), file('f'));
    expect(twice).toMatchObject([{ name: 'a', size: 1 }]);
  });

  test('has the name or the target that headers of GNU give it', async () => {
    const long: RawEntry = { name: '././@LongLink', type: 'L', content: 'n/a\0\0' };
    const target: RawEntry = { name: '././@LongLink', type: 'K', content: '../t\0' };
    expect(await read(target, long, { name: 'n', type: '2', link: 't' })).toMatchObject([
      { name: 'n/a', link: { target: '../t' } },
    ]);
  });

  test('whose name in the header is cut off at a slash is the file that its attributes name', async () => {
    const name = `${'n'.repeat(99)}/file`;
    const entries = await read(attributes({ path: name }), file(name.slice(0, 100), 'content'), file('next'));
    expect(entries).toMatchObject([{ name, size: 7 }, { name: 'next' }]);
    expect(await namesOf(attributes({ path: `${name}/` }), file('folder', ''))).toEqual([]);
  });

  test.each(['-1', '1.5', 'x', '9007199254740993'])('with a size of %s in its attributes is refused', async (size) => {
    await expect(read(attributes({ size }), file('f'))).rejects.toThrow('the size of "f" is no number');
  });

  test('of attributes for all that follow changes nothing, but must give no names or sizes', async () => {
    expect(await namesOf(attributes({ comment: 'x' }, 'g'), file('f'))).toEqual(['f']);
    expect((await read(attributes({ 'GNU.sparse.name': 'x' }, 'g'), file('f')))[0]?.unreadable).toBeUndefined();
    for (const key of ['path', 'size', 'linkpath']) {
      await expect(read(attributes({ [key]: '1' }, 'g'), file('f'))).rejects.toThrow('gives all its entries one name');
    }
  });

  test('whose name leads out of the archive is left out, and what follows is read', async () => {
    expect(await namesOf(file('../a'), file('/a'), file('a/../b'), file('.'), file('ok'))).toEqual(['ok']);
  });
});

describe('an archive', () => {
  test('that has nothing in it has no entries', async () => {
    expect(await entriesOf(Buffer.alloc(0))).toEqual([]);
    expect(await entriesOf(Buffer.alloc(1024))).toEqual([]);
    expect(await entriesOf(Buffer.concat([Buffer.alloc(512), rawTar(file('late'))]))).toEqual([]);
  });

  test('that just stops is cut short', async () => {
    const whole = rawTar(file('a', 'x'.repeat(600)), file('b'));
    const end = whole.length - 1024;
    await expect(entriesOf(whole.subarray(0, end))).rejects.toThrow('it is cut short: its end is missing');
    expect(await entriesOf(whole.subarray(0, end + 512))).toHaveLength(2);
    await expect(entriesOf(whole.subarray(0, end + 511))).rejects.toThrow('in the middle of a header');
    await expect(entriesOf(whole.subarray(0, 100))).rejects.toThrow('in the middle of a header');
    await expect(entriesOf(whole.subarray(0, 1000))).rejects.toThrow('cut within a');
  });

  test('says within which of its entries it is cut short, by the name that is shown', async () => {
    const cursor = cursorOf(rawTar(attributes({ path: 'long' }), { name: 'd/', type: '5' }, file('../out')));
    for await (const _ of tarEntries(cursor));
    expect(cursor.skipped).toEqual(['long', '../out']);
  });

  test('that is cut short within an extra header says so', async () => {
    const extra = rawEntry(attributes({ path: 'x'.repeat(600) }));
    await expect(entriesOf(extra.subarray(0, 1024))).rejects.toThrow('it is cut short within "attributes"');
  });

  test('may have extra headers of 64 KiB, and eight of them before an entry', async () => {
    const long = (length: number): RawEntry => ({ name: 'l', type: 'L', content: 'n'.repeat(length) });
    expect(await read(long(64 * 1024), file('f'))).toEqual([]);
    await expect(read(long(64 * 1024 + 1), file('f'))).rejects.toThrow('an extra header in it has 65537 bytes');
    const some = (count: number): RawEntry[] => Array.from({ length: count }, () => attributes({ a: 'b' }));
    expect(await namesOf(...some(8), file('f'), ...some(8), file('g'))).toEqual(['f', 'g']);
    await expect(read(...some(9), file('f'))).rejects.toThrow('it has more than 8 extra headers for one entry');
  });

  test('from which more is read than an entry has is not read on', async () => {
    const cursor = cursorOf(rawTar(file('a'), file('b')));
    const entries = tarEntries(cursor);
    await entries.next();
    await cursor.read(513);
    await expect(entries.next()).rejects.toThrow('more was read than the entry has');
  });
});

test.each([
  ['a/b', 'a/b'],
  ['./a/./b/', 'a/b'],
  ['a..b', 'a..b'],
  ['a//b', 'a/b'],
  ['n'.repeat(4096), 'n'.repeat(4096)],
  ['n'.repeat(4097), undefined],
  ['/a', undefined],
  ['../a', undefined],
  ['a/..', undefined],
  ['', undefined],
  ['./', undefined],
  ['a\0b', undefined],
])('the name %j is kept as %j', (name, kept) => {
  expect(plainName(name)).toBe(kept);
});

test('bytes are read in chunks of at most 64 KiB, and must be there', async () => {
  const bytes = Buffer.alloc(150_000, 'x');
  const lengths = async (length: number): Promise<number[]> => {
    const chunks = readThrough(cursorOf(bytes), length, () => new Error('cut'));
    return (await Array.fromAsync(chunks)).map((chunk) => chunk.length);
  };
  expect(await lengths(0)).toEqual([]);
  expect(await lengths(150_000)).toEqual([65_536, 65_536, 18_928]);
  await expect(lengths(150_001)).rejects.toThrow('cut');
});

describe.each([
  ['plain', (bytes: Buffer) => bytes],
  ['compressed', (bytes: Buffer) => gzipSync(bytes)],
])('the files of a %s archive', (kind, pack) => {
  async function opened(...entries: RawEntry[]) {
    await using owned = new AsyncDisposableStack();
    const folder = owned.use(await temporaryDirectory('tar'));
    const path = join(folder.path, 'a.tar');
    await writeFile(path, pack(rawTar(...entries)));
    const archive = owned.use(await openTar([path]));
    const rest = owned.move();
    return { archive, [Symbol.asyncDispose]: () => rest.disposeAsync() };
  }
  const content = async (archive: Awaited<ReturnType<typeof openTar>>, ...names: string[]) => {
    const found: [string, number, string][] = [];
    for await (const { name, size, body } of archive.visit(new Set(names))) {
      found.push([name, size, Buffer.concat(await Array.fromAsync(body)).toString()]);
    }
    return found;
  };

  test('are visited in their order, each once, if they are wanted', async () => {
    await using open = await opened(file('b', 'B'), file('a', 'A'), file('large', 'l'.repeat(70_000)), file('z', ''));
    const { archive } = open;
    expect([...archive.files]).toEqual([
      ['b', 1],
      ['a', 1],
      ['large', 70_000],
      ['z', 0],
    ]);
    expect(await content(archive, 'a', 'none', 'z', 'b')).toEqual(
      expect.arrayContaining([
        ['b', 1, 'B'],
        ['a', 1, 'A'],
        ['z', 0, ''],
      ]),
    );
    expect(await content(archive, 'large')).toEqual([['large', 70_000, 'l'.repeat(70_000)]]);
    expect(await content(archive, 'none')).toEqual([]);
    expect(archive.isNear('b')).toBe(true);
    expect(archive.isNear('large')).toBe(kind === 'plain');
    for (let time = 0; time < 2; time += 1) expect(await content(archive, 'b')).toEqual([['b', 1, 'B']]);
  });

  test('that are links are found by what they lead to', async () => {
    const link = (name: string, target: string, type = '2'): RawEntry => ({ name, type, link: target });
    await using open = await opened(
      file('d/real', 'R'),
      link('d/near', 'real'),
      link('up', 'd/near'),
      link('d/hard', 'd/real', '1'),
      link('d/wrong', 'real', '1'),
      link('out', '../real'),
      link('absolute', '/d/real'),
      link('d/root', '/d/real'),
      link('empty', ''),
      link('round', 'trip'),
      link('trip', 'round'),
      link('nowhere', 'x'),
    );
    const { archive } = open;
    const names = [
      'd/real',
      'd/near',
      'up',
      'd/hard',
      'd/wrong',
      'out',
      'absolute',
      'd/root',
      'empty',
      'round',
      'nowhere',
      'x',
    ];
    expect(names.map((name) => archive.resolve(name))).toEqual([
      'd/real',
      'd/real',
      'd/real',
      'd/real',
      ...Array.from({ length: 8 }, () => undefined),
    ]);
    expect([...archive.unreadable]).toEqual(
      ['out', 'absolute', 'd/root', 'empty'].map((name) => [name, 'is a link that leads out of it']),
    );
    expect([...archive.files.keys()]).toEqual(['d/real']);
  });

  test('are found through eight links, and through no more', async () => {
    const links = Array.from({ length: 9 }, (_, at): RawEntry => ({ name: `l${at + 1}`, type: '2', link: `l${at}` }));
    await using open = await opened(file('l0'), ...links);
    expect(open.archive.resolve('l8')).toBe('l0');
    expect(open.archive.resolve('l9')).toBeUndefined();
  });

  test('that are there twice cannot be read, except blobs of one size', async () => {
    const blob = (size: number): RawEntry => file('x/blobs/sha256/1', 'b'.repeat(size));
    await using open = await opened(
      file('a', '1'),
      file('a', '2'),
      file('b', '1'),
      { name: 'b', type: '2', link: 'x/blobs/sha256/1' },
      blob(3),
      file('x/blobs/sha256/1', 'ccc'),
      file('blobs/sha256/aa', '1'),
      file('blobs/sha256/aa', '1'),
      file('blobs/sha256/2', '1'),
      file('blobs/sha256/2', '12'),
      file('blobs/sha256/3/x', '1'),
      file('blobs/sha256/3/x', '2'),
      file('noblobs/sha256/4', '1'),
      file('noblobs/sha256/4', '2'),
      { name: 'p', type: '6' },
      { name: 's', type: 'S', content: 'x' },
      file('s', 'x'),
    );
    const { archive } = open;
    const twice = ['a', 'blobs/sha256/2', 'blobs/sha256/3/x', 'noblobs/sha256/4', 'b'];
    expect([...archive.unreadable].filter(([, why]) => why === 'is there twice').map(([name]) => name)).toEqual(twice);
    expect(archive.unreadable.get('p')).toBe('is neither a file nor a folder nor a link');
    expect([...archive.files.keys()]).toEqual(['x/blobs/sha256/1', 'blobs/sha256/aa']);
    expect(['a', 'b', 's'].map((name) => archive.resolve(name))).toEqual([undefined, undefined, undefined]);
    expect(await content(archive, 'x/blobs/sha256/1', 's', 'a')).toEqual([['x/blobs/sha256/1', 3, 'bbb']]);
  });

  test('that are large are all visited, and none is after its end', async () => {
    await using open = await opened(file('one', '1'.repeat(70_000)), file('two', '2'.repeat(70_000)), file('three'));
    const found = await content(open.archive, 'two', 'one');
    expect(found.map(([name, size, text]) => [name, size, text.at(-1)])).toEqual([
      ['one', 70_000, '1'],
      ['two', 70_000, '2'],
    ]);
    await open.archive[Symbol.asyncDispose]();
    await expect(content(open.archive, 'one')).rejects.toThrow();
  });

  test('are none of an empty archive', async () => {
    await expect(opened()).rejects.toThrow('it is not a tar archive, or it is empty');
    await using folders = await opened({ name: 'd', type: '6' });
    expect(folders.archive.files.size).toBe(0);
  });
});

test('a compressed archive that ends within a small file says within which', async () => {
  await using folder = await temporaryDirectory('tar');
  const path = join(folder.path, 'a.tar');
  await writeFile(path, gzipSync(rawTar(file('d/small', 'x'.repeat(600))).subarray(0, 700)));
  await expect(openTar([path])).rejects.toThrow('it is cut short within "d/small"');
});
