import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { dockerSchema1Signed, ociIndex, ociManifest } from '../../src/oci/media-types.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const descriptor = (digit: string, more = {}) => ({ mediaType: 'x/y', digest: digest(digit), size: 1, ...more });

function read(body: unknown, contentType = ociManifest) {
  return readManifest(Buffer.from(JSON.stringify(body)), contentType);
}

describe('what a manifest refers to', () => {
  test('config and layers of an image, its subject, type and annotations', () => {
    const links = read({
      mediaType: ociManifest,
      config: descriptor('1', { mediaType: 'application/x.config' }),
      layers: [descriptor('2'), descriptor('3')],
      subject: descriptor('4'),
      annotations: { a: 'b', c: 1 },
    });
    expect(links.blobs.map((blob) => blob.digest)).toEqual([digest('1'), digest('2'), digest('3')]);
    expect(links).toMatchObject({
      mediaType: ociManifest,
      manifests: [],
      subject: { digest: digest('4') },
      artifactType: 'application/x.config',
      annotations: { a: 'b' },
    });
  });

  test('the manifests of an index, and its own artifact type before that of a config', () => {
    const manifests = [descriptor('1', { mediaType: ociManifest })];
    const links = read({ manifests, artifactType: 'a/b' }, `${ociIndex}; charset=utf-8`);
    expect(links.manifests).toMatchObject([{ digest: digest('1'), size: 1 }]);
    expect(links).toMatchObject({ mediaType: ociIndex, artifactType: 'a/b', blobs: [] });
  });

  test('what else an index names are blobs, as in the cache of a build', () => {
    const manifests = [descriptor('1', { mediaType: '' }), descriptor('2'), descriptor('3', { mediaType: ociIndex })];
    const links = read({ manifests }, ociIndex);
    expect(links.manifests.map((link) => link.digest)).toEqual([digest('1'), digest('3')]);
    expect(links.blobs.map((link) => link.digest)).toEqual([digest('2')]);
  });

  test('the layers of schema 1, whose size is unknown', () => {
    const links = read({ schemaVersion: 1, fsLayers: [{ blobSum: digest('1') }, {}, null] }, dockerSchema1Signed);
    expect(links.blobs).toEqual([{ mediaType: '', digest: digest('1'), size: -1 }]);
  });

  test('leaves out what is no descriptor', () => {
    const bad = [null, 1, {}, { digest: 'x', size: 1 }, descriptor('1', { size: -1 }), descriptor('2', { size: 1.5 })];
    expect(read({ layers: [...bad, descriptor('3')] }).blobs).toMatchObject([{ digest: digest('3') }]);
  });
});

test.each([
  '',
  'null',
  '[]',
  '"text"',
  '12',
  '{}',
  '{"errors":[]}',
  '{"token":"x"}',
  '{"manifests":{}}',
  '<html>',
  '{"layers":[]',
])('%j is no manifest', (text) => {
  expect(() => readManifest(Buffer.from(text), ociManifest)).toThrow(RegistryError);
});

test('bytes that are no UTF-8 are read as replacement characters', () => {
  const bytes = Buffer.concat([
    Buffer.from('{"layers":[],"annotations":{"x":"'),
    Buffer.from([0xff]),
    Buffer.from('"}}'),
  ]);
  expect(readManifest(bytes, ociManifest).annotations).toEqual({ x: '\ufffd' });
});

test('any JSON is a manifest or an error of the registry', () => {
  const member = fc.oneof(fc.jsonValue(), fc.constant([descriptor('1')]), fc.constant(descriptor('2')));
  const names = fc.constantFrom('config', 'layers', 'manifests', 'blobs', 'subject', 'fsLayers', 'schemaVersion');
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(names, member)), (body) => {
      try {
        for (const blob of read(body).blobs) expect(blob.digest).toMatch(/^sha(?:256|512):/);
      } catch (error) {
        expect(error).toMatchObject({ name: 'RegistryError', code: 'MANIFEST_INVALID' });
      }
    }),
  );
});
