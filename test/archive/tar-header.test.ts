import { describe, expect, test } from 'vitest';
import { blockBytes, decodeAttributes, decodeHeader, encodeHeader, padded } from '../../src/archive/tar-header.ts';

const header = (changes: Readonly<Record<number, string | Uint8Array>> = {}, { signed = false } = {}): Buffer => {
  const block = encodeHeader('a/b', 5);
  for (const [at, bytes] of Object.entries(changes)) Buffer.from(bytes as string).copy(block, Number(at));
  block.write('        ', 148);
  const sum = block.reduce((total, byte) => total + (signed && byte >= 0x80 ? byte - 0x100 : byte), 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
};

describe('a header that is written', () => {
  test('is that of a file or a folder, byte by byte', () => {
    const block = encodeHeader('dir/file', 0o1234);
    const field = (start: number, length: number): string => block.toString('latin1', start, start + length);
    expect(block).toHaveLength(512);
    expect(field(0, 9)).toBe('dir/file\0');
    expect(field(100, 8)).toBe('0000644\0');
    expect(field(108, 16)).toBe('0000000\x000000000\0');
    expect(field(124, 12)).toBe('00000001234\0');
    expect(field(136, 12)).toBe('02263523000\0');
    expect(Number.parseInt(field(136, 11), 8)).toBe(Date.UTC(1980, 0) / 1000);
    expect(field(156, 2)).toBe('0\0');
    expect(field(257, 8)).toBe('ustar\x0000');
    expect(field(329, 16)).toBe('0000000\x000000000\0');
    const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
    expect(field(148, 8)).toBe(`${sum.toString(8).padStart(6, '0')}\0 `);
    const folder = encodeHeader('dir/', 0);
    expect(folder.toString('latin1', 100, 108)).toBe('0000755\0');
    expect(folder.toString('latin1', 156, 157)).toBe('5');
  });

  test.each([0, 1, 512, 0o77777777777, 0o77777777777 + 1, 2 ** 40])('says a size of %i', (size) => {
    expect(decodeHeader(encodeHeader('x', size))).toEqual({ name: 'x', size, type: '0', linkName: '' });
  });

  test('counts in octal digits as far as eleven of them go, and in base 256 beyond', () => {
    expect(encodeHeader('x', 0o77777777777).toString('latin1', 124, 136)).toBe('77777777777\0');
    expect(encodeHeader('x', 0o77777777777 + 1).toString('hex', 124, 136)).toBe('800000000000000200000000');
  });

  test('of a name up to 100 bytes is one block, and a longer one has an extra header', () => {
    expect(encodeHeader('n'.repeat(100), 1)).toHaveLength(512);
    for (const name of ['n'.repeat(101), `${'n'.repeat(99)}/x`, 'n'.repeat(600)]) {
      const written = encodeHeader(name, 7);
      expect(decodeHeader(written)).toMatchObject({ name: 'pax-header', type: 'x' });
      const { size } = decodeHeader(written)!;
      expect(decodeAttributes(written.subarray(512, 512 + size))).toEqual(new Map([['path', name]]));
      expect(written).toHaveLength(1024 + padded(size));
      expect(decodeHeader(written.subarray(-512))).toMatchObject({ size: 7, type: '0' });
      expect(written.toString('latin1').at(156 - 512)).toBe('0');
    }
  });

  test.each([101, 980, 986, 987, 988, 989, 990, 991])(
    'counts the digits of the length of an extra header for a name of %i bytes',
    (length) => {
      const name = 'n'.repeat(length - 1).concat('x');
      const written = encodeHeader(name, 0);
      const { size } = decodeHeader(written)!;
      const record = written.toString('latin1', 512, 512 + size);
      expect(record).toBe(`${size} path=${name}\n`);
    },
  );

  test('is followed by whole blocks', () => {
    expect([0, 1, 511, 512, 513].map(padded)).toEqual([0, 512, 512, 512, 1024]);
    expect(blockBytes).toBe(512);
  });
});

describe('a header that is read', () => {
  test('of zeros ends an archive', () => {
    expect(decodeHeader(Buffer.alloc(512))).toBeUndefined();
  });

  test.each([
    ['other bytes', Buffer.alloc(512, 0x41)],
    [
      'a wrong sum',
      (() => {
        const block = header();
        block.write('1', 148);
        return block;
      })(),
    ],
    [
      'one byte',
      (() => {
        const block = Buffer.alloc(512);
        block[0] = 1;
        return block;
      })(),
    ],
    [
      'nothing but a sum',
      (() => {
        const block = Buffer.alloc(512);
        block[148] = 0x31;
        return block;
      })(),
    ],
  ])('of %s is damaged', (_, block) => {
    expect(() => decodeHeader(block)).toThrow('it is not a tar archive, or a header in it is damaged');
  });

  test('may have a sum over bytes with a sign', () => {
    expect(decodeHeader(header({ 0: 'grün' }, { signed: true }))).toMatchObject({ name: 'grün/b'.slice(0, 4) });
    expect(decodeHeader(header({ 0: Buffer.from([0x80, 0]) }, { signed: true }))?.size).toBe(5);
  });

  test('has a prefix only where it is of ustar', () => {
    const prefix = { 345: 'some/where\0' };
    expect(decodeHeader(header(prefix))?.name).toBe('some/where/a/b');
    expect(decodeHeader(header({ ...prefix, 257: 'ustar  \0' }))?.name).toBe('a/b');
  });

  test('has names that fill their fields', () => {
    const [name, prefix, link] = ['n'.repeat(100), 'p'.repeat(155), 'l'.repeat(100)];
    expect(decodeHeader(header({ 0: name, 345: prefix, 157: link, 156: '2' }))).toEqual({
      name: `${prefix}/${name}`,
      size: 5,
      type: '2',
      linkName: link,
    });
  });

  test.each([
    ['0', 'file', '0'],
    ['\0', 'file', '0'],
    ['7', 'file', '0'],
    ['5', 'folder/', '5'],
    ['2', 'link/', '2'],
    ['x', 'extra', 'x'],
  ])('with the flag %j and the name %s is of the type %s', (flag, name, type) => {
    expect(decodeHeader(header({ 0: `${name}\0`, 156: flag }))?.type).toBe(type);
  });

  test.each([
    ['00000000005\0', 5],
    ['         17 ', 15],
    ['7\0          ', 7],
    ['\0\0\0\0\0\0\0\0\0\0\0\0', 0],
    ['            ', 0],
    [Buffer.from('800000000000000000000100', 'hex'), 256],
    [Buffer.from('800000000000ffffffffffff', 'hex'), 2 ** 48 - 1],
  ])('with a size written as %j has it', (written, size) => {
    expect(decodeHeader(header({ 124: written }))?.size).toBe(size);
  });

  test.each([
    ['8', '8          \0'],
    ['letters', '0000000005x\0'],
    ['digits after a space', '5 6         '],
    ['more than six bytes', Buffer.from('800000000001000000000000', 'hex')],
    ['a high byte at once', Buffer.from('800100000000000000000000', 'hex')],
    ['a negative number', Buffer.from('ffffffffffffffffffffffff', 'hex')],
    ['another first byte', Buffer.from('810000000000000000000001', 'hex')],
  ])('with a size of %s is refused', (_, written) => {
    expect(() => decodeHeader(header({ 124: written }))).toThrow('the size of "a/b" in it is not a number');
  });
});

describe('the attributes of an extra header', () => {
  const record = (key: string, value: string): string => {
    for (let length = key.length + value.length; ; length += 1) {
      const text = `${length} ${key}=${value}\n`;
      if (Buffer.byteLength(text) === length) return text;
    }
  };

  test('are read one after the other, as far as there are zeros', () => {
    const content = `${record('path', 'a=b')}${record('größe', 'ä\nö')}${record('empty', '')}`;
    const expected = new Map([
      ['path', 'a=b'],
      ['größe', 'ä\nö'],
      ['empty', ''],
    ]);
    expect(decodeAttributes(Buffer.from(content))).toEqual(expected);
    expect(decodeAttributes(Buffer.from(`${content}\0\0 x`))).toEqual(expected);
    expect(decodeAttributes(Buffer.alloc(0))).toEqual(new Map());
  });

  test.each([
    ['no length', 'path=a\n'],
    ['no space', '5'],
    ['a length that is no number', 'x5 path=a\n'],
    ['a length with something behind', '10x path=a\n'],
    ['a length beyond the end', '11 path=a\n'],
    ['a length of nothing', '0 path=a\n'],
    ['no line end', '9 path=ab'],
    ['no sign between', '8 patha\n'],
    ['a sign in the next record only', '8 patha\n8 p=abc\n'],
    ['a sign right behind it', '8 patha\n=\n'],
    ['a length that is a number in another way', '1e1 p=abc\n'],
    ['a length with a sign', '+10 p=abc\n'],
    ['no length in the second record', '8 p=abc\np=abc\n'],
    ['a length of more than ten digits', '00000000009 p=a\n'],
  ])('with %s are damaged', (_, content) => {
    expect(() => decodeAttributes(Buffer.from(content))).toThrow('a pax header in it is damaged');
  });
});
