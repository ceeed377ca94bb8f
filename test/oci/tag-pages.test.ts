import { expect, test } from 'vitest';
import { maxReadBytes, pagedHere } from '../../src/oci/tag-pages.ts';

const request = { name: 'app', query: 'n=1' };
const listOf = (bytes: Buffer) => ({
  bytes,
  contentType: 'application/json',
  nextQuery: undefined,
  filtersApplied: undefined,
});
const tags = (name: string): Buffer => Buffer.from(JSON.stringify({ name: 'app', tags: [name, 'b'] }));

test('a list that ignores n is cut, unless it is too long to be read for one answer', () => {
  expect(JSON.parse(pagedHere(listOf(tags('a')), request).bytes.toString())).toEqual({ name: 'app', tags: ['a'] });
  const long = listOf(tags('a'.repeat(maxReadBytes)));
  expect(pagedHere(long, request)).toBe(long);
});
