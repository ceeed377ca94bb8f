import { expect, test } from 'vitest';
import { attachSimple, payloadOf, simpleSignature } from '../support/sigstore.ts';
import { repository, startSigned } from './signed-mirror.ts';

const blob = (digest: string): string => `/v2/${repository}/blobs/${digest}?ns=reg.example`;
const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const bundleType = 'application/vnd.dev.sigstore.bundle.v0.3+json';

test.each(['asked for as a manifest before', 'never asked for before'])(
  'a manifest is under the policy as a blob, too: one that was %s',
  async (before) => {
    await using mirror = await startSigned();
    const { registry, site, key } = mirror;
    const image = registry.addImage(repository, 'v1');
    registry.addBlob(image.bytes, { repository });
    if (before !== 'never asked for before') expect((await mirror.manifest('v1')).status).toBe(403);
    const conditions: Record<string, string>[] = [{}, { range: 'bytes=0-9' }, { 'if-none-match': `"${image.digest}"` }];
    for (const headers of conditions) {
      const denied = await site.get(blob(image.digest), { headers });
      expect([denied.status, denied.body.toString()]).toEqual([403, expect.stringContaining('carries no signature')]);
    }
    expect((await site.head(blob(image.digest))).status).toBe(403);
    const signed = registry.addImage(repository, 'v2', { layers: ['signed'] });
    registry.addBlob(signed.bytes, { repository });
    const { digest } = signed;
    attachSimple(registry, { repository, digest, place: 'tag', signatures: [simpleSignature(payloadOf(digest), key)] });
    for (let count = 0; count < 3; count += 1) {
      const served = await site.get(blob(digest));
      expect([served.status, served.body.equals(signed.bytes)]).toEqual([200, true]);
    }
  },
);

test('under a policy that warns, a manifest is served as a blob with the warning each time', async () => {
  await using mirror = await startSigned({ mode: 'warn' });
  const image = mirror.registry.addImage(repository, 'v1');
  mirror.registry.addBlob(image.bytes, { repository });
  for (let count = 0; count < 3; count += 1) {
    const served = await mirror.site.get(blob(image.digest));
    expect([served.status, served.body.equals(image.bytes)]).toEqual([200, true]);
    expect(served.headers['warning']).toContain('carries no signature');
  }
});

test('blobs that are no manifests are served whole under a policy, small or large, JSON or not', async () => {
  await using mirror = await startSigned();
  const json = Buffer.from(JSON.stringify({ architecture: 'amd64', history: 'x'.repeat(20_000) }));
  const contents = [
    json,
    Buffer.from(' \n[1, 2]'),
    Buffer.alloc(0),
    Buffer.alloc(5 * 1024 * 1024, 'layer'),
    Buffer.from('{"a'),
  ];
  for (const bytes of contents) {
    const { digest } = mirror.registry.addBlob(bytes, { repository });
    for (let count = 0; count < 3; count += 1) {
      const served = await mirror.site.get(blob(digest));
      expect([served.status, served.body.equals(bytes)]).toEqual([200, true]);
    }
    const part = await mirror.site.get(blob(digest), { headers: { range: 'bytes=2-4' } });
    if (bytes.length > 4) expect([part.status, part.body.equals(bytes.subarray(2, 5))]).toEqual([206, true]);
  }
});

test.each<[string, (layers: string) => string | Buffer]>([
  [
    'its lists under names in other case',
    (layers) => `{"schemaVersion":2,"Config":${layers.slice(1, -1)},"Layers":${layers}}`,
  ],
  ['a letter of a name escaped, another in other case', (layers) => `{"L\\u0061yers" : \n${layers}}`],
  ['more values than are read', (layers) => `{"annotations":{"x":[${'0,'.repeat(60_000)}0]},"layers":${layers}}`],
  ['more depth than is read', (layers) => `{"x":${'['.repeat(200)}${']'.repeat(200)},"layers":${layers}}`],
  ['something behind its end', (layers) => `{"schemaVersion":2,"layers":${layers}}\n}`],
  [
    'a byte that is no UTF-8',
    (layers) => Buffer.concat([Buffer.from('{"x":"'), Buffer.from([0xff]), Buffer.from(`","layers":${layers}}`)]),
  ],
])('a manifest that another reader may take is under the policy as a blob: one with %s', async (_, write) => {
  await using mirror = await startSigned();
  const { registry, site } = mirror;
  const [{ digest, size, mediaType } = { digest: '', size: 0, mediaType: '' }] = registry.addImage(
    repository,
    undefined,
  ).layers;
  const { digest: hidden } = registry.addBlob(Buffer.from(write(JSON.stringify([{ mediaType, digest, size }]))), {
    repository,
  });
  for (let count = 0; count < 2; count += 1) expect((await site.get(blob(hidden))).status).toBe(403);
});

test('a document with lists of the same names further in is no manifest', async () => {
  await using mirror = await startSigned();
  const values = Array.from({ length: 60_000 }, () => 0);
  const bytes = Buffer.from(
    JSON.stringify({ source: { layers: [1], manifests: null }, layers: 'none', values, text: '"layers":[' }),
  );
  const { digest } = mirror.registry.addBlob(bytes, { repository });
  const served = await mirror.site.get(blob(digest));
  expect([served.status, served.body.equals(bytes)]).toEqual([200, true]);
});

test.each<[string, (layer: object, material: object) => string]>([
  [
    'layers under a member that Go takes for `layers`',
    (layer, material) => JSON.stringify({ schemaVersion: 2, config: layer, layers: [material], Layers: [layer] }),
  ],
  [
    'a media type under a member that Go takes for `mediaType`',
    (layer, material) =>
      JSON.stringify({ schemaVersion: 2, config: layer, layers: [{ ...material, MediaType: 'application/x' }] }),
  ],
  [
    'its layers twice',
    (layer, material) =>
      `{"schemaVersion":2,"layers":${JSON.stringify([layer])},"layers":${JSON.stringify([material])}}`,
  ],
  [
    'an empty list of manifests beside its layers',
    (layer) =>
      JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, config: layer, layers: [layer], manifests: [] }),
  ],
  [
    'a layer that is no descriptor beside those of signatures',
    (layer, material) =>
      JSON.stringify({ schemaVersion: 2, config: layer, layers: [material, { ...layer, size: '1' }] }),
  ],
])('an image cannot pass for a signature with %s', async (_, write) => {
  await using mirror = await startSigned();
  const { registry } = mirror;
  const { layers } = registry.addImage(repository, undefined);
  const [{ digest, size, mediaType } = { digest: '', size: 0, mediaType: '' }] = layers;
  const layer = { mediaType, digest, size };
  registry.addManifest(repository, 'v1', write(layer, { ...layer, mediaType: bundleType }), ociManifest);
  expect((await mirror.manifest('v1')).status).toBe(403);
});
