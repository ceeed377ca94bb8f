import { describe, expect, test } from 'vitest';
import { type ExportedImage, planArchive } from '../../src/archive/archive-writer.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';

const MiB = 1024 * 1024;

/** An image with so many blobs and manifests, the digests made of its name. */
function image(name: string, { blobs = 1, manifests = 1, manifestBytes = 100 } = {}): ExportedImage {
  const some = (what: string, count: number, size: number) =>
    Array.from({ length: count }, (_, at) => ({ digest: digestOf(Buffer.from(`${name} ${what} ${at}`)), size }));
  const own = some('manifest', manifests, manifestBytes);
  return {
    name: `docker.io/library/${name}`,
    isAttachment: false,
    digest: own[0]!.digest,
    mediaType: ociManifest,
    size: manifestBytes,
    manifests: own,
    blobs: some('blob', blobs, 1),
    lacks: [],
    absent: [],
    container: undefined,
  };
}

const many = (count: number, options: Parameters<typeof image>[1] = {}): ExportedImage[] =>
  Array.from({ length: count }, (_, at) => image(`x:${at}`, options));

describe('an archive', () => {
  test.each([
    ['images', many(20_001, { blobs: 0 }), /would have 20001 images, more than can be read again/],
    ['files', [image('x:1', { blobs: 200_000 })], /would have 200006 files, .* export fewer images at a time/],
    ['bytes of manifests', many(200, { manifestBytes: 3 * MiB }), /would have manifests of 629145600 bytes/],
    ['bytes of one manifest', [image('x:1', { manifestBytes: 4 * MiB + 1 })], /x:1 has a manifest of 4194305 bytes/],
    [
      'bytes of manifests of one image',
      [image('x:1', { manifests: 11, manifestBytes: 3 * MiB })],
      /x:1 has manifests of 34603008 bytes, more than fit an archive/,
    ],
  ])('that has more %s than can be read again is not written', (_, images, message) => {
    expect(() => planArchive(images, undefined)).toThrow(message);
  });

  test('that leaves too much to its base is not written either', () => {
    const [large, small] = [image('x:1', { blobs: 200_001 }), image('x:2')];
    const complete = [...large.manifests, ...large.blobs].map(({ digest }) => digest);
    const base = { id: digestOf(Buffer.from('base')), complete };
    expect(() => planArchive([large, small], base)).toThrow('would name too much in its millpond.json');
  });

  test('knows what its own images consist of, and forgets what else its base had', () => {
    const [old, kept, added] = [image('old:1'), image('kept:1'), image('added:1')];
    const base = planArchive([old, kept], undefined);
    const next = planArchive([kept, added], base);
    const partsOf = (images: readonly ExportedImage[]) =>
      images.flatMap(({ manifests, blobs }) => [...manifests, ...blobs].map(({ digest }) => digest));
    expect(next.complete.toSorted()).toEqual(partsOf([kept, added]).toSorted());
    expect(next.leftOut).toBe(partsOf([kept]).length);
    expect(planArchive([old, kept, added], next).blobs).toBe(partsOf([old]).length);
  });
});
