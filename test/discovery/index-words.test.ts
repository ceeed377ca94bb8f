import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isRelease, versionKey } from '../../src/discovery/search/version-key.ts';
import { digestFacet, facet, phrasesOf, repositoryFacets, wordsOf } from '../../src/discovery/search/words.ts';
import { artifactTypeOf, type TypeEvidence } from '../../src/oci/artifact-types.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { fuzz } from '../support/fuzz.ts';

test('versions are in the order of Semantic Versioning, other tags before them', () => {
  const ordered = [
    'latest',
    '0.9',
    '1.0.0-alpha',
    '1.0.0-alpha.1',
    '1.0.0-alpha.beta',
    '1.0.0-beta.2',
    '1.0.0-beta.11',
    '1.0.0-rc.1',
    '1.0.0',
    '1.0.0_build.5',
    '1.9',
    'v1.10.0',
    '2',
    '10.0.0.1',
    '20260101',
  ];
  const shuffled = [...ordered.slice(7), ...ordered.slice(0, 7)].toReversed();
  const keyed = shuffled.map((tag) => [versionKey(tag), tag] as const);
  expect(keyed.toSorted(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)).map(([, tag]) => tag)).toEqual(
    ordered,
  );
  expect(['1.0', '1.0.0_x', '1.0-rc.1', 'latest'].map((tag) => isRelease(versionKey(tag)))).toEqual([
    true,
    true,
    false,
    false,
  ]);
});

describe('the words of an index', () => {
  test('are letters and digits of any script, and a query has the same', async () => {
    expect(wordsOf('docker.io/library/Nginx', '1.25.3', 'Größe ｆｕｌｌ')).toBe(
      ' docker io library nginx 1 25 3 größe full ',
    );
    expect(phrasesOf('  Nginx 1.25 nginx "*" ')).toEqual(['nginx', '1 25']);
    await fuzz([fc.string({ unit: 'binary' })], (text) => {
      for (const phrase of phrasesOf(text)) {
        expect(phrase).not.toMatch(/["*:()^]/);
        expect(wordsOf(phrase)).toBe(` ${phrase} `);
      }
    });
  });

  test('tell facets apart, whatever their values are', async () => {
    expect(repositoryFacets('docker.io/charts/app')).toHaveLength(3);
    expect(digestFacet(`sha256:${'ab'.repeat(32)}`)).toBe(digestFacet('ab'.repeat(32)));
    const value = fc.string({ unit: 'grapheme' });
    await fuzz([value, value], (one, other) => {
      const [first, second] = [facet('r', one), facet('r', other)];
      expect(first).toMatch(/^kr[a-z0-9]*$/);
      expect(first === second).toBe(one.toLowerCase() === other.toLowerCase());
    });
  });
});

const plain: TypeEvidence = {
  mediaType: ociManifest,
  artifactType: undefined,
  configType: undefined,
  layerTypes: [],
  annotations: {},
};
const imageConfig = 'application/vnd.oci.image.config.v1+json';

test.each<[string, Partial<TypeEvidence>]>([
  ['image', { configType: imageConfig, layerTypes: ['application/vnd.oci.image.layer.v1.tar+gzip'] }],
  ['index', { mediaType: ociIndex }],
  ['helm', { configType: 'application/vnd.cncf.helm.config.v1+json' }],
  ['cnab', { mediaType: ociIndex, artifactType: 'application/vnd.cnab.manifest.v1' }],
  ['wasm', { configType: 'application/vnd.wasm.config.v0+json', layerTypes: ['application/wasm'] }],
  ['sbom', { artifactType: 'application/spdx+json; version=2.3' }],
  ['sbom', { configType: imageConfig, layerTypes: ['text/spdx'] }],
  ['signature', { configType: imageConfig, layerTypes: ['application/vnd.dev.cosign.simplesigning.v1+json'] }],
  ['signature', { configType: 'application/vnd.cncf.notary.signature', layerTypes: ['application/jose+json'] }],
  ['signature', { artifactType: 'application/vnd.dev.sigstore.bundle.v0.3+json' }],
  ['attestation', { configType: imageConfig, layerTypes: ['application/vnd.dsse.envelope.v1+json'] }],
  ['attestation', { artifactType: 'application/vnd.docker.attestation.manifest.v1+json' }],
  ['singularity', { configType: 'application/vnd.sylabs.sif.config.v1+json' }],
  ['opa', { configType: 'application/vnd.cncf.openpolicyagent.config.v1+json' }],
  ['model', { artifactType: 'application/vnd.cncf.model.manifest.v1+json' }],
  [
    'model',
    {
      mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
      configType: 'application/vnd.docker.container.image.v1+json',
      layerTypes: ['application/vnd.ollama.image.model'],
    },
  ],
  ['buildcache', { configType: 'application/vnd.buildkit.cacheconfig.v0' }],
  ['artifact', { artifactType: 'application/vnd.example.thing', configType: 'application/vnd.oci.empty.v1+json' }],
  ['artifact', { configType: 'application/vnd.example.config' }],
])('a manifest is a %s by its types %#', (name, evidence) => {
  expect(artifactTypeOf({ ...plain, ...evidence })).toBe(name);
});
