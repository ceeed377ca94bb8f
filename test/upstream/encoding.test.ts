import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { codingsOf, plainBody, plainBytes } from '../../src/upstream/encoding.ts';

const MiB = 1024 * 1024;

/** A body that comes in pieces, and whether it has been given up. */
function answerOf(bytes: Buffer, encoding: string) {
  const state = { isDestroyed: false };
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for (let start = 0; start < bytes.length; start += 50_000)
      yield await Promise.resolve(bytes.subarray(start, start + 50_000));
  };
  const body = { [Symbol.asyncIterator]: pieces, destroy: () => (state.isDestroyed = true) };
  return { state, answer: { body, codings: codingsOf(encoding), contentLength: bytes.length } };
}

async function plain(sent: Buffer, right: Buffer, options: { encoding?: string; size?: number } = {}) {
  const { state, answer } = answerOf(sent, options.encoding ?? 'gzip');
  const found = await plainBody(answer, { digest: digestOf(right), size: options.size });
  const bytes = found && Buffer.concat(await Array.fromAsync(found.body));
  return { bytes, length: found?.length, isDestroyed: state.isDestroyed };
}

describe('a large blob of unknown size whose answer names a coding', () => {
  const noise = randomBytes(2 * MiB);

  test('is decoded where what is in it is compressed already, or JSON', async () => {
    const json = Buffer.from(JSON.stringify({ noise: noise.toString('base64') }));
    for (const right of [gzipSync(noise), json]) {
      const { bytes, length } = await plain(gzipSync(right, { level: 1 }), right);
      expect([bytes?.equals(right), length]).toEqual([true, undefined]);
    }
  });

  test('stays as it is where it is no such coding at all', async () => {
    const { bytes, length } = await plain(noise, noise);
    expect([bytes?.equals(noise), length]).toEqual([true, noise.length]);
  });

  test('is given up where it cannot be told', async () => {
    expect(await plain(gzipSync(noise), noise)).toMatchObject({ bytes: undefined, isDestroyed: true });
  });

  test('stays as it is where the manifest gives it that size', async () => {
    const layer = gzipSync(noise);
    const { bytes, length } = await plain(layer, layer, { size: layer.length });
    expect([bytes?.equals(layer), length]).toEqual([true, layer.length]);
  });
});

test('a small body is what its digest says, decoded or not', async () => {
  const right = Buffer.from('content');
  for (const [sent, encoding] of [
    [gzipSync(right), 'gzip'],
    [gzipSync(right), 'GZIP'],
    [right, 'gzip'],
    [right, 'aws-chunked'],
    [right, ''],
  ] as const) {
    const { bytes, length } = await plain(sent, right, { encoding });
    expect([encoding, bytes?.toString(), length]).toEqual([encoding, 'content', right.length]);
  }
});

test('bytes that are right neither way stay as they are', () => {
  const sent = gzipSync('something else');
  const isRight = (bytes: Buffer): boolean => bytes.toString() === 'content';
  expect(plainBytes(sent, ['gzip'], isRight)).toBe(sent);
  const broken = sent.subarray(0, 10);
  expect(plainBytes(broken, ['gzip'], isRight)).toBe(broken);
  expect(plainBytes(gzipSync('content'), ['gzip'], isRight).toString()).toBe('content');
  expect(plainBytes(sent, [], () => false)).toBe(sent);
});

test.each<[string | undefined, string[]]>([
  [undefined, []],
  ['', []],
  ['identity', []],
  ['gzip', ['gzip']],
  [' GZip , identity, br', ['gzip', 'br']],
])('Content-Encoding %j names %j', (header, codings) => {
  expect(codingsOf(header)).toEqual(codings);
});
