import { expect, test } from 'vitest';
import { readIndexFile } from '../../src/archive/index-file.ts';

/** An `index.json` without images, and beside them so many values that cost memory. */
function indexWith(value: string, count: number): Buffer {
  return Buffer.from(
    `{"schemaVersion":2,"manifests":[],"more":[${Array.from({ length: count }, () => value).join(',')}]}`,
  );
}

test.each(['{}', '[]'])('a list of images with more than 200,000 of %s is refused before it is parsed', (value) => {
  expect(() => readIndexFile(indexWith(value, 200_000))).toThrow('more than 200000 objects');
  expect(readIndexFile(indexWith(value, 199_997))).toEqual({ images: [], unreadable: [] });
});
