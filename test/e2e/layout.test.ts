import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { localBlob, localImage } from '../support/images.ts';
import { run } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

describeWith(['skopeo'], 'the blobs of a cache', () => {
  test('are those of an OCI image layout: skopeo reads an image from them that an index names', async () => {
    await using upstream = await startRegistry();
    const image = localImage({ label: 'laid out' });
    for (const blob of image.blobs) upstream.addBlob(blob.bytes, { mediaType: blob.mediaType });
    upstream.addManifest('library/app', '1', image.bytes, image.mediaType);
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    await site.get('/v2/library/app/manifests/1');
    for (const { digest } of image.blobs) await site.get(`/v2/library/app/blobs/${digest}`);
    await site.stop();
    await using folder = await temporaryDirectory('layout');
    // What the cache has of a layout; the index, which names images, is the reader's own.
    for (const part of ['blobs', 'oci-layout']) await symlink(join(site.cacheDir, part), join(folder.path, part));
    const { mediaType, digest, size } = image;
    const annotations = { 'org.opencontainers.image.ref.name': 'app' };
    const index = { schemaVersion: 2, manifests: [{ mediaType, digest, size, annotations }] };
    await writeFile(join(folder.path, 'index.json'), JSON.stringify(index));
    const target = join(folder.path, 'copied');
    await run('skopeo', ['--insecure-policy', 'copy', `oci:${folder.path}:app`, `dir:${target}`], {
      env: { HOME: folder.path, TMPDIR: folder.path },
    });
    expect(localBlob(await readFile(join(target, 'manifest.json'))).digest).toBe(digest);
    for (const blob of image.blobs) {
      expect(localBlob(await readFile(join(target, blob.digest.slice(7)))).digest).toBe(blob.digest);
    }
  });
});
