import { describe, expect, test } from 'vitest';
import { ociIndex } from '../../src/oci/media-types.ts';
import type { AddedImage } from '../support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const path = '/v2/docker.io/library/app';

/** The registry collects what only an image has. */
function collect(registry: ScriptedRegistry, image: AddedImage): void {
  for (const part of [image.config, ...image.layers]) registry.removeBlob(part.digest);
}

describe('a tag within its time whose image lacks a part that the upstream no longer has', () => {
  test('is resolved again at once, in every spelling', async () => {
    await using registry = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': registry } });
    const old = registry.addImage('library/app', '1', { layers: ['old layer'] });
    for (let time = 0; time < 3; time += 1) expect((await site.get(`${path}/manifests/1`)).sha256).toBe(old.digest);
    const asked = registry.requests.length;
    expect((await site.get(`${path}/manifests/1`)).sha256).toBe(old.digest);
    expect(registry.requests).toHaveLength(asked);
    const image = registry.addImage('library/app', '1', { layers: ['new layer'] });
    collect(registry, old);
    expect((await site.get(`${path}/blobs/${old.layers[0]!.digest}`)).status).toBe(404);
    for (const spelling of [path, '/v2/library/app']) {
      expect((await site.get(`${spelling}/manifests/1`)).sha256).toBe(image.digest);
    }
    expect((await site.get(`${path}/blobs/${image.layers[0]!.digest}`)).status).toBe(200);
  });

  test('also where that part is a manifest of its index, or a layer of one', async () => {
    await using registry = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': registry } });
    const index = (image: AddedImage, tag: string) => {
      const { mediaType, digest, size } = image;
      const manifests = [{ mediaType, digest, size, platform: { os: 'linux', architecture: 'amd64' } }];
      return registry.addManifest('library/app', tag, { schemaVersion: 2, mediaType: ociIndex, manifests }, ociIndex);
    };
    const old = registry.addImage('library/app', undefined, { layers: ['old layer'] });
    const oldIndex = index(old, 'index');
    expect((await site.get(`${path}/manifests/index`)).sha256).toBe(oldIndex.digest);
    expect((await site.get(`${path}/manifests/${old.digest}`)).status).toBe(200);
    const image = registry.addImage('library/app', undefined, { layers: ['new layer'] });
    const next = index(image, 'index');
    collect(registry, old);
    expect((await site.get(`${path}/blobs/${old.layers[0]!.digest}`)).status).toBe(404);
    expect((await site.get(`${path}/manifests/index`)).sha256).toBe(next.digest);
  });

  test('costs one question for each such answer, and no tag of another image any', async () => {
    await using registry = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': registry } });
    const broken = registry.addImage('library/app', 'broken', { layers: ['lost'] });
    registry.addImage('library/app', 'other', { layers: ['kept'] });
    for (const tag of ['broken', 'other']) await site.get(`${path}/manifests/${tag}`);
    collect(registry, broken);
    const lost = `${path}/blobs/${broken.layers[0]!.digest}`;
    expect((await site.get(lost)).status).toBe(404);
    registry.forgetRequests();
    for (let time = 0; time < 3; time += 1) {
      expect((await site.get(`${path}/manifests/broken`)).sha256).toBe(broken.digest);
      expect((await site.get(`${path}/manifests/other`)).status).toBe(200);
      expect((await site.get(lost)).status).toBe(404);
    }
    expect(registry.requests.map((request) => request.path)).toEqual(['/v2/library/app/manifests/broken']);
  });
});

test.each([400, 401, 403, 405, 500])(
  'a tag whose digest is answered with %i is had by GET of the tag',
  async (status) => {
    await using registry = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': registry } });
    const image = registry.addImage('library/app', '1');
    expect((await site.head(`${path}/manifests/1`)).status).toBe(200);
    registry.fault(image.digest, { kind: 'status', status });
    expect(await site.get(`${path}/manifests/1`)).toMatchObject({ status: 200, sha256: image.digest });
  },
);
