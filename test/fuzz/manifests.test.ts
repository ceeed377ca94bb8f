import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { digestOf, isDigest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { JsonLimitError, parseJson } from '../../src/oci/json.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { indexEntries } from '../../src/oci/platform.ts';
import { damaged, fuzz } from '../support/fuzz.ts';
import { localImage, localIndex } from '../support/images.ts';

const digest = digestOf(Buffer.from('x'));
const odd = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(null, -1, 1e300, 0.5, '', [], {}, digest, `${digest}0`, ociManifest, '__proto__'),
);
const descriptor = fc.dictionary(
  fc.constantFrom('mediaType', 'digest', 'size', 'platform', 'annotations', 'urls'),
  fc.oneof(fc.constant(digest), fc.nat(), odd, fc.constant({ os: 'linux', architecture: 'arm64' })),
);
const member = fc.oneof(odd, descriptor, fc.array(fc.oneof(descriptor, odd), { maxLength: 5 }));
const names = [
  'config',
  'layers',
  'manifests',
  'blobs',
  'subject',
  'fsLayers',
  'schemaVersion',
  'mediaType',
  'annotations',
];
const made = fc.dictionary(fc.constantFrom(...names), member).map((body) => Buffer.from(JSON.stringify(body)));
const image = localImage({ label: 'fuzz' });
const index = localIndex('fuzz', ['amd64', 'arm64']);
const body = fc.oneof(made, damaged(image.bytes), damaged(index.bytes));

test('a manifest names digests, sizes and platforms, or is refused', async () => {
  await fuzz(
    [body, fc.constantFrom(ociManifest, ociIndex, '', 'text/html')],
    (bytes, contentType) => {
      let links: ReturnType<typeof readManifest>;
      try {
        links = readManifest(bytes, contentType);
      } catch (error) {
        expect(error).toMatchObject({ reason: 'bad-manifest' });
        expect(error).toBeInstanceOf(RegistryError);
        return;
      }
      const named = [...links.manifests, ...links.blobs, ...(links.subject ? [links.subject] : [])];
      for (const one of named) {
        expect(isDigest(one.digest)).toBe(true);
        expect(Number.isSafeInteger(one.size) && one.size >= -1).toBe(true);
        expect(one.mediaType).toBeTypeOf('string');
      }
      for (const value of Object.values(links.annotations ?? {})) expect(value).toBeTypeOf('string');
      for (const { platform } of indexEntries(bytes, contentType)) {
        if (platform) expect([typeof platform.os, typeof platform.architecture]).toEqual(['string', 'string']);
      }
    },
    { runs: 2000 },
  );
});

test('JSON is what JSON.parse makes of it, or is refused', async () => {
  const limits = { maxValues: 100, maxDepth: 10 };
  await fuzz(
    [
      fc.oneof(
        body,
        fc.json().map((text) => Buffer.from(text)),
      ),
    ],
    (bytes) => {
      let found: unknown;
      try {
        found = parseJson(bytes, limits);
      } catch (error) {
        if (error instanceof JsonLimitError) return;
        expect(error).toBeInstanceOf(SyntaxError);
        return;
      }
      expect(found).toEqual(JSON.parse(new TextDecoder().decode(bytes)));
      expect(depthOf(found)).toBeLessThanOrEqual(limits.maxDepth);
    },
    { runs: 1000 },
  );
});

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}
