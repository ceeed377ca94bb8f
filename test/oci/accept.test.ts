import { expect, test } from 'vitest';
import { AcceptReader } from '../../src/oci/accept.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';

const types = (count: number): string => Array.from({ length: count }, (_, at) => `a/${at}`).join(',');

test('what a client accepts is read up to a hundred types, and 8 KiB', () => {
  const accepts = new AcceptReader();
  expect(accepts.variant(`${types(98)},${ociManifest},${ociIndex}`)).toEqual([ociIndex, ociManifest].toSorted());
  expect(accepts.variant(`${types(100)},${ociManifest}`)).toEqual([]);
  expect(accepts.variant(`a/${'x'.repeat(8 * 1024)},${ociManifest}`)).toEqual([]);
});
