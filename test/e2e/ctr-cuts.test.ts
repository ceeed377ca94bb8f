import { afterAll, beforeAll, expect, test } from 'vitest';
import { readAll, seededSource } from '../support/bytes.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import type { AddedImage } from '../support/contents.ts';
import { localBlob, tarArchive } from '../support/images.ts';
import { showOutputOnFailure } from '../support/processes.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';

const MB = 1_000_000;
const repository = 'library/large';

const clients = [
  { release: 'system', layerFetchBytes: 0, connections: [1] },
  { release: '2', layerFetchBytes: 0, connections: [1] },
  { release: '2', layerFetchBytes: 4 * MB, connections: [1, 3] },
] as const;

for (const { release, layerFetchBytes, connections } of clients) {
  const suffix = release === '2' ? '-2' : '';
  const how =
    layerFetchBytes === 0 ? 'each layer in one request' : `layers in parallel requests of ${layerFetchBytes} bytes`;
  describeWith(['root', `containerd${suffix}`, `ctr${suffix}`], `containerd (${release}), ${how}`, () => {
    let containerd: Containerd;
    beforeAll(async () => {
      containerd = await startContainerd({ release, layerFetchBytes });
    });
    afterAll(async () => {
      await containerd?.[Symbol.asyncDispose]();
    });
    showOutputOnFailure(() => [containerd?.process]);

    test.each(connections)(
      'pulls an image of three layers of 40 MB from an upstream that cuts every answer (%i connections for a blob)',
      async (connectionsPerBlob) => {
        await using upstream = await startRegistry();
        await using site = await startTestSite({
          upstreams: { 'docker.io': { urls: [upstream.origin], connectionsPerBlob } },
        });
        const image = addLargeImage(upstream, `${connectionsPerBlob}`);
        upstream.fault(/blobs/, { kind: 'cut', afterBytes: 7 * MB });
        const hosts = await containerd.hostsDirectory(`hosts-${connectionsPerBlob}`, {
          _default: `server = "http://127.0.0.1:1"\n\n[host."${site.origin}"]\n  capabilities = ["pull", "resolve"]\n`,
        });
        const reference = `docker.io/${repository}:v${connectionsPerBlob}`;
        await containerd.ctr('images', 'pull', '--hosts-dir', hosts, '--snapshotter', 'native', reference);
        expect(await containerd.ctr('images', 'ls', `name==${reference}`)).toContain(image.digest);
        await containerd.ctr('images', 'rm', '--sync', reference);

        const blobs = [image.config, ...image.layers];
        const sent = blobs.reduce((sum, { digest }) => sum + upstream.bytesSent(digest), 0);
        const bytes = blobs.reduce((sum, { size }) => sum + size, 0);
        expect(sent).toBeLessThanOrEqual(1.05 * bytes);
        const parts = site.logLines.filter(({ msg, status }) => msg === 'request' && status === 206);
        if (layerFetchBytes > 0) expect(parts.length).toBeGreaterThan(image.layers.length);
        else expect(parts).toEqual([]);
      },
    );
  });
}

/** Three layers that cannot be compressed, in an image that can be unpacked. */
function addLargeImage(upstream: ScriptedRegistry, version: string): AddedImage {
  const layers = [1, 2, 3].map((layer) => {
    const content = readAll(seededSource(40 * MB, `large ${version} ${layer}`));
    return tarArchive({ [`file-${layer}`]: content });
  });
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    config: {},
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => localBlob(layer).digest) },
  });
  const layerMediaType = 'application/vnd.oci.image.layer.v1.tar';
  return upstream.addImage(repository, `v${version}`, { layers, config, layerMediaType });
}
