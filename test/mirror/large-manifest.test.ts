import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { startRegistry } from '../support/registry.ts';
import { RowsPerTurn } from '../support/rows-per-turn.ts';
import { startTestSite } from '../support/site.ts';

test('pulls of a manifest with 4,000 layers read and write a few hundred layers per turn of the event loop', async () => {
  await using docker = await startRegistry();
  await using quay = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': docker, 'quay.io': quay } });
  const layers = Array.from({ length: 4000 }, (_, index) => ({
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    digest: digestOf(Buffer.from(`layer ${index}`)),
    size: 7,
  }));
  const body = { schemaVersion: 2, mediaType: ociManifest, config: layers[0], layers };
  for (const registry of [docker, quay]) {
    registry.addBlob('layer 0');
    registry.addManifest('library/app', '1', body, ociManifest);
  }
  using rows = new RowsPerTurn();
  const { digest } = docker.addManifest('library/other', '1', body, ociManifest);
  for (const path of [
    'docker.io/library/app/manifests/1',
    `docker.io/library/app/manifests/${digest}`,
    `docker.io/library/other/manifests/${digest}`,
    'quay.io/library/app/manifests/1',
    'docker.io/library/app/manifests/1',
  ]) {
    expect(await site.get(`/v2/${path}`)).toMatchObject({ status: 200, sha256: digest, complete: true });
    expect((await site.head(`/v2/${path}`)).status).toBe(200);
    const blob = `/v2/${path.split('/manifests/')[0]}/blobs/${layers[0]!.digest}`;
    expect(await site.get(blob)).toMatchObject({ status: 200, sha256: layers[0]!.digest });
  }
  expect(rows.most).toBeGreaterThan(200);
  expect(rows.most).toBeLessThan(2200);
});
