import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ArchiveError, shownName, withFileName } from '../../src/archive/archive-error.ts';
import { asObject, parseJson, parseObject } from '../../src/archive/archived-json.ts';
import {
  type ChecksumList,
  checksumListPath,
  findChecksumList,
  formatChecksumList,
  readChecksumList,
} from '../../src/archive/checksum-list.ts';
import { compressionOf, maxUnpackedBytes, UnknownCompression, unpackFailure } from '../../src/archive/compression.ts';
import { readDescription, writeDescription } from '../../src/archive/description.ts';
import { shownImage } from '../../src/archive/found-images.ts';
import { countObjects } from '../../src/archive/limits.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const [a, b, c] = ['a', 'b', 'c'].map((text) => digestOf(Buffer.from(text))).toSorted() as [
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
];

describe('an error of an archive', () => {
  test('names the file of the archive, once', () => {
    const error = new ArchiveError('it is cut short');
    const named = withFileName(error, ['/data/images.tar.001', '/data/images.tar.002']) as Error;
    expect(named).toBeInstanceOf(ArchiveError);
    expect([named.message, named.name, named.cause]).toEqual([
      'images.tar.001: it is cut short',
      'ArchiveError',
      error,
    ]);
    const full = new ArchiveError('/data/b.tar cannot be read');
    expect(withFileName(full, ['/data/a.tar', '/data/b.tar'])).toBe(full);
    const other = new Error('else');
    expect(withFileName(other, ['/data/a.tar'])).toBe(other);
    expect((withFileName(error, []) as Error).message).toBe(': it is cut short');
  });

  test('shows a name in one line of printable characters', () => {
    expect(shownName('a b~')).toBe('"a b~"');
    expect(shownName('a\n\x1b[31mä\x7f')).toBe('"a??[31m??"');
    expect(shownName('x'.repeat(120))).toBe(`"${'x'.repeat(120)}"`);
    expect(shownName('x'.repeat(121))).toBe(`"${'x'.repeat(117)}..."`);
  });

  test('calls an image by its name, its tag or its digest', () => {
    expect(shownImage({ kind: 'full', name: 'docker.io/x:1' }, a)).toBe('docker.io/x:1');
    expect(shownImage({ kind: 'tag', tag: '1\n' }, a)).toBe('"1?"');
    expect(shownImage({ kind: 'none' }, a)).toBe(`an image without a name (${a})`);
  });
});

describe('JSON in an archive', () => {
  test('is an object where one is wanted', () => {
    expect(parseObject(Buffer.from('{"a":1}'), 'x.json')).toEqual({ a: 1 });
    for (const text of ['[]', 'null', '1', '"a"']) {
      expect(() => parseObject(Buffer.from(text), 'x.json')).toThrow('x.json in it is not a JSON object');
      expect(asObject(JSON.parse(text))).toEqual({});
    }
    expect(() => asObject(undefined, 'y')).toThrow(ArchiveError);
    expect(parseJson(Buffer.from('[1]'), 'x.json')).toEqual([1]);
  });

  test.each(['', '{', '{"a":"\xff"}'])('that is %j is refused', (text) => {
    expect(() => parseJson(Buffer.from(text, 'latin1'), 'x.json')).toThrow('x.json in it is not JSON');
  });

  test('has as many objects and lists as it has brackets that open', () => {
    expect(countObjects(Buffer.from('{"a":[{},[]],"b":"}]"}'))).toBe(4);
    expect(countObjects(Buffer.from('[[{}]]'))).toBe(3);
    expect(countObjects(Buffer.from('"a"'))).toBe(0);
  });

  test('is counted in objects and lists before it is parsed', () => {
    const many = (count: number): Buffer => Buffer.from(`[${Array.from({ length: count - 1 }, () => '{}').join()}]`);
    expect(parseJson(many(200_000), 'x.json')).toHaveLength(199_999);
    expect(() => parseJson(many(200_001), 'x.json')).toThrow('x.json in it has more than 200000 objects');
  });
});

describe('a list of checksums', () => {
  const list: ChecksumList = {
    id: a,
    since: b,
    complete: [c, a],
    files: [
      { name: 'x.tar.001', sha256: '1'.repeat(64) },
      { name: 'a  b', sha256: '2'.repeat(64) },
    ],
  };
  const text = `# archive ${a}\n# since ${b}\n# holds ${a}\n# holds ${c}\n${'1'.repeat(64)}  x.tar.001\n${'2'.repeat(64)}  a  b\n`;

  async function found(content: string) {
    await using folder = await temporaryDirectory('list');
    const path = join(folder.path, 'x.tar.sha256');
    await writeFile(path, content);
    return await findChecksumList(path);
  }

  test('is written for sha256sum, with its contents sorted in comments, and read again', async () => {
    expect(formatChecksumList(list)).toBe(text);
    expect(await found(text)).toEqual({ ...list, complete: [a, c] });
    const alone = { ...list, since: undefined };
    expect(formatChecksumList(alone)).toBe(text.replace(`# since ${b}\n`, ''));
    expect((await found(formatChecksumList(alone)))?.since).toBeUndefined();
    expect(checksumListPath('/d/x.tar')).toBe('/d/x.tar.sha256');
  });

  test.each([
    ['nothing', ''],
    ['another program', `${'1'.repeat(64)}  x.tar\n`],
    ['no digest', '# archive sha256:1\n'],
    ['its first line elsewhere', `\n${text}`],
    ['something before', `x${text}`],
  ])('of %s is none', async (_, content) => {
    expect(await found(content)).toBeUndefined();
  });

  test('is read as far as its lines are right', async () => {
    const odd = `${text}# holds sha256:1\n${'1'.repeat(63)}  short\n${'1'.repeat(64)} one\n${'1'.repeat(64)}  \nx${'1'.repeat(64)}  y\n`;
    const read = await found(odd);
    expect(read?.complete).toEqual([a, c]);
    expect(read?.files.map(({ name }) => name)).toEqual(['x.tar.001', 'a  b']);
  });

  test('is asked for by its name alone', async () => {
    await using folder = await temporaryDirectory('list');
    const path = join(folder.path, 'x.tar');
    await writeFile(path, text);
    expect(await readChecksumList(path)).toBeUndefined();
    await expect(readChecksumList(`${path}.sha256`)).rejects.toThrow(`${path}.sha256 cannot be read: ENOENT`);
    await writeFile(`${path}.sha256`, 'else');
    await expect(readChecksumList(`${path}.sha256`)).rejects.toThrow('is not the list of an archive of Millpond');
    await writeFile(`${path}.sha256`, text);
    expect((await readChecksumList(`${path}.sha256`))?.id).toBe(a);
  });
});

describe('the beginning of a file', () => {
  test.each([
    ['1f8b0800', 'gzip'],
    ['1f8b', 'gzip'],
    ['28b52ffd0000', 'zstd'],
    ['502a4d180400', 'zstd'],
    ['5f2a4d180400', 'zstd'],
    ['602a4d180400', 'none'],
    ['00502a4d1804', 'none'],
    ['001f8b080000', 'none'],
    ['0028b52ffd00', 'none'],
    ['fd377a585a01', 'none'],
    ['00425a680000', 'none'],
    ['', 'none'],
  ])('%s says how it is compressed: %s', (hex, compression) => {
    expect(compressionOf(Buffer.from(hex, 'hex'))).toBe(compression);
  });

  test.each(['fd377a585a00', 'fd377a585a0001', '425a68', '425a6839'])('%s is of what is not read', (hex) => {
    expect(() => compressionOf(Buffer.from(hex, 'hex'))).toThrow(UnknownCompression);
    expect(() => compressionOf(Buffer.from(hex, 'hex'))).toThrow('it is compressed with xz or bzip2: unpack it first');
  });

  test('limits what it may unpack to', () => {
    expect([0, 1, 10 ** 9].map(maxUnpackedBytes)).toEqual([2 ** 30, 2 ** 30 + 200, 2 ** 30 + 200 * 10 ** 9]);
  });

  test('gives no reason to speak of a window where the rest is damaged', () => {
    expect(unpackFailure(new Error('x'))).toBe('is damaged or cut short');
    const code = 'ZSTD_error_frameParameter_windowTooLarge';
    expect(unpackFailure(Object.assign(new Error('x'), { code }))).toContain('--long=27 or less');
  });
});

describe('the description of an archive', () => {
  const needs = [
    { digest: b, size: 2 },
    { digest: a, size: 0 },
  ];
  const parts = { index: c, base: b, needs, complete: [c, a] };

  test('is written sorted and read again', () => {
    const { id, bytes } = writeDescription(parts);
    const content = { version: 1, index: c, base: b, needs: [needs[1], needs[0]], complete: [a, c] };
    expect(JSON.parse(bytes.toString())).toEqual({ archive: id, ...content });
    expect(id).toBe(digestOf(Buffer.from(JSON.stringify(content))));
    expect(readDescription(bytes, c)).toEqual({ id, base: b, needs: content.needs, complete: [a, c] });
    const alone = writeDescription({ ...parts, base: undefined });
    expect(readDescription(alone.bytes, c).base).toBeUndefined();
    expect(JSON.parse(alone.bytes.toString())).not.toHaveProperty('base');
    const long = writeDescription({ ...parts, needs: [{ ...needs[0]!, more: 1 } as never, ...needs] });
    expect(JSON.parse(long.bytes.toString()).needs[1]).toEqual({ digest: b, size: 2 });
  });

  /** As it would be if someone had changed it and made its digest right again. */
  const changed = (change: Readonly<Record<string, unknown>>): Buffer => {
    const { archive: _, ...content } = JSON.parse(writeDescription(parts).bytes.toString());
    const next = { ...content, ...change };
    return Buffer.from(JSON.stringify({ archive: digestOf(Buffer.from(JSON.stringify(next))), ...next }));
  };

  test.each([
    ['another base', { base: 'x' }],
    ['a base that is a number', { base: 1 }],
    ['no list of needs', { needs: {} }],
    ['a need that is nothing', { needs: [null] }],
    ['a need that is text', { needs: ['x'] }],
    ['a need without a digest', { needs: [{ digest: 'x', size: 1 }] }],
    ['a need whose digest is no text', { needs: [{ digest: 1, size: 1 }] }],
    ['a need without a size', { needs: [{ digest: a }] }],
    ['a need of less than nothing', { needs: [{ digest: a, size: -1 }] }],
    ['half a byte', { needs: [{ digest: a, size: 0.5 }] }],
    ['one wrong need of two', { needs: [{ digest: a, size: 1 }, 1] }],
    ['no list of what is complete', { complete: a }],
    ['something complete without a digest', { complete: [a, 'x'] }],
    ['another index', { index: a }],
  ])('with %s has been altered', (_, change) => {
    expect(() => readDescription(changed(change), c)).toThrow('its millpond.json or index.json has been altered');
  });

  test('with another digest, or another index beside it, has been altered', () => {
    const { bytes } = writeDescription(parts);
    expect(() => readDescription(bytes, a)).toThrow('has been altered');
    const other = { ...JSON.parse(bytes.toString()), archive: a };
    expect(() => readDescription(Buffer.from(JSON.stringify(other)), c)).toThrow('has been altered');
    expect(readDescription(changed({}), c).needs).toHaveLength(2);
  });

  test('of a newer version is not read, whatever else is in it', () => {
    expect(() => readDescription(changed({ version: 2, needs: 1 }), c)).toThrow(
      'a newer version of Millpond has made it',
    );
    expect(readDescription(changed({ version: '2' }), c).id).toMatch(/^sha256:/);
    expect(readDescription(changed({ version: 1 }), c).base).toBe(b);
  });
});
