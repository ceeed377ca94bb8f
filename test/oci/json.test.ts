import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { JsonLimitError, parseJson } from '../../src/oci/json.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

const limits = { maxValues: 1000, maxDepth: 50 };
const bytesOf = (text: string): Buffer => Buffer.from(text);

describe('JSON of somebody else', () => {
  test('is what it says, whatever is in its texts', () => {
    const value = { '[{,': 'a\\"[[[{{{,,,', list: [1, 'x', null, { deep: [true] }], é: '\u2028' };
    expect(parseJson(bytesOf(JSON.stringify(value)), limits)).toEqual(value);
    fc.assert(
      fc.property(fc.jsonValue(), (any) => {
        expect(parseJson(bytesOf(JSON.stringify(any)), limits)).toEqual(JSON.parse(JSON.stringify(any)));
      }),
    );
  });

  test('that is no UTF-8 is read with replacement characters, and a byte order mark is skipped', () => {
    const text = Buffer.concat([bytesOf('\ufeff{"a":"'), Buffer.from([0xff, 0xfe]), bytesOf('"}')]);
    expect(parseJson(text, limits)).toEqual({ a: '\ufffd\ufffd' });
  });

  test.each<[string, string, string]>([
    ['members', `{"a":{${'"k":1,'.repeat(1000)}"z":1}}`, 'more than 1000 values'],
    ['objects', `[${'{},'.repeat(1000)}{}]`, 'more than 1000 values'],
    ['lists within each other', '['.repeat(2_000_000), 'deeper than 50'],
    ['objects within each other', '{"a":'.repeat(60), 'deeper than 50'],
  ])('that has too many %s is refused before it is parsed', (_, text, reason) => {
    using parse = vi.spyOn(JSON, 'parse');
    expect(() => parseJson(bytesOf(text), limits)).toThrow(JsonLimitError);
    expect(() => parseJson(bytesOf(text), limits)).toThrow(reason);
    expect(parse).not.toHaveBeenCalled();
  });

  test('that has just as much as is allowed is read', () => {
    // The list, and a value for each of its commas and one more.
    expect(parseJson(bytesOf(`[${'1,'.repeat(998)}1]`), limits)).toHaveLength(999);
    expect(() => parseJson(bytesOf(`[${'1,'.repeat(999)}1]`), limits)).toThrow(JsonLimitError);
    expect(parseJson(bytesOf(`${'['.repeat(50)}${']'.repeat(50)}`), limits)).toBeInstanceOf(Array);
    expect(() => parseJson(bytesOf(`${'['.repeat(51)}${']'.repeat(51)}`), limits)).toThrow(JsonLimitError);
    // Depth is what is open at a time.
    expect(parseJson(bytesOf(`[${'[[[]]],'.repeat(100)}0]`), limits)).toHaveLength(101);
  });

  test.each(['', '{', '"', '"\\', '{"a":}', 'nonsense', '[1,]', '\u0000'])('that is none is refused: %j', (text) => {
    expect(() => parseJson(bytesOf(text), limits)).toThrow(SyntaxError);
  });
});
