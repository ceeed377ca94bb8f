import { describe, expect, test, vi } from 'vitest';
import { dockerManifestList, dockerSchema1Signed, ociManifest } from '../../src/oci/media-types.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import type { AddedImage } from '../support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { settled } from './support.ts';

const MiB = 1024 * 1024;
const ociArtifactManifest = 'application/vnd.oci.artifact.manifest.v1+json';
const own = 'ns=private.example';
const other = 'ns=other.example';

interface Place {
  readonly site: TestSite;
  readonly owner: ScriptedRegistry;
  readonly stranger: ScriptedRegistry;
  /** All of it is stored, through the owner. */
  readonly secret: AddedImage;
}

/** A private image of one upstream in the cache, beside another upstream that does not have it. */
async function withSecret(work: (place: Place) => Promise<void>, layer = { size: MiB, seed: 'secret' }): Promise<void> {
  await using owner = await startRegistry();
  await using stranger = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'private.example': owner, 'other.example': stranger } });
  const secret = owner.addImage('team/secret', '1', { layers: [layer] });
  const parts = ['manifests/1', ...[secret.config, ...secret.layers].map(({ digest }) => `blobs/${digest}`)];
  for (const part of parts) expect((await site.get(`/v2/team/secret/${part}?${own}`)).status).toBe(200);
  await settled(site);
  await work({ site, owner, stranger, secret });
}

function describing({ digest, size }: { digest: string; size: number }, mediaType: string, more: object = {}): object {
  return { mediaType, digest, size, ...more };
}

const layerType = 'application/vnd.oci.image.layer.v1.tar+gzip';
const foreignType = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
const configType = 'application/vnd.oci.image.config.v1+json';

/** Manifests with which another upstream claims the layer of the secret image. */
const claims: Readonly<Record<string, (secret: AddedImage, config: object) => { body: object; type: string }>> = {
  layer: ({ layers }, config) => ({
    body: { schemaVersion: 2, mediaType: ociManifest, config, layers: [describing(layers[0]!, layerType)] },
    type: ociManifest,
  }),
  'foreign layer': ({ layers }, config) => ({
    body: {
      schemaVersion: 2,
      mediaType: ociManifest,
      config,
      layers: [describing(layers[0]!, foreignType, { urls: ['https://elsewhere.example/layer'] })],
    },
    type: ociManifest,
  }),
  'layer with addresses': ({ layers }, config) => ({
    body: {
      schemaVersion: 2,
      mediaType: ociManifest,
      config,
      layers: [describing(layers[0]!, layerType, { urls: ['https://elsewhere.example/layer'] })],
    },
    type: ociManifest,
  }),
  config: ({ layers }) => ({
    body: { schemaVersion: 2, mediaType: ociManifest, config: describing(layers[0]!, configType), layers: [] },
    type: ociManifest,
  }),
  'blob of an artifact': ({ layers }) => ({
    body: { mediaType: ociArtifactManifest, blobs: [describing(layers[0]!, layerType)] },
    type: ociArtifactManifest,
  }),
  'layer of schema 1': ({ layers }) => ({
    body: { schemaVersion: 1, name: 'evil/app', tag: '1', fsLayers: [{ blobSum: layers[0]!.digest }], history: [] },
    type: dockerSchema1Signed,
  }),
  'entry of a list': ({ layers }) => ({
    body: { schemaVersion: 2, mediaType: dockerManifestList, manifests: [describing(layers[0]!, layerType)] },
    type: dockerManifestList,
  }),
};

describe('bytes that came from another upstream', () => {
  test.each(Object.keys(claims))('are not given to a repository that only names them as a %s', async (shape) => {
    await withSecret(async ({ site, stranger, secret }) => {
      const layer = secret.layers[0]!;
      const { digest, size } = stranger.addBlob('{}', { mediaType: configType });
      const { body, type } = claims[shape]!(secret, describing({ digest, size }, configType));
      stranger.addManifest('evil/app', '1', body, type);
      const manifest = await site.get(`/v2/evil/app/manifests/1?${other}`, { headers: { accept: type } });
      expect(manifest.status).toBe(200);
      // A HEAD is a claim too.
      stranger.fault(({ method, path }) => method === 'HEAD' && path.endsWith(layer.digest), {
        kind: 'status',
        status: 200,
        headers: { 'Content-Length': String(layer.size) },
      });
      for (const range of [undefined, 'bytes=0-99', 'bytes=-70000']) {
        const reply = await site.get(`/v2/evil/app/blobs/${layer.digest}?${other}`, {
          headers: range === undefined ? {} : { range },
        });
        expect(reply.status).toBe(404);
      }
      expect(await site.get(`/v2/team/secret/blobs/${layer.digest}?${own}`)).toMatchObject({ sha256: layer.digest });
    });
  });

  test('are not given between the moment of their file and that of their row in the catalog', async () => {
    await using owner = await startRegistry();
    await using stranger = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'private.example': owner, 'other.example': stranger } });
    const secret = owner.addImage('team/secret', '1', { layers: [{ size: 10_000, seed: 'secret' }] });
    const layer = secret.layers[0]!;
    const config = stranger.addBlob('{}', { mediaType: configType });
    const { body, type } = claims['layer']!(secret, describing(config, configType));
    stranger.addManifest('evil/app', '1', body, type);
    expect((await site.get(`/v2/evil/app/manifests/1?${other}`, { headers: { accept: type } })).status).toBe(200);
    const statuses: number[] = [];
    // oxlint-disable-next-line typescript/unbound-method -- called with the store that it belongs to
    const { ingest } = DiskStore.prototype;
    using _ = vi.spyOn(DiskStore.prototype, 'ingest').mockImplementation(async function (this: DiskStore, ...asked) {
      const partial = await ingest.apply(this, asked);
      if (asked[0] !== layer.digest || statuses.length > 0) return partial;
      const commit = partial.commit.bind(partial);
      partial.commit = async () => {
        const committed = await commit();
        statuses.push((await site.get(`/v2/evil/app/blobs/${layer.digest}?${other}`)).status);
        statuses.push((await site.head(`/v2/evil/app/blobs/${layer.digest}?${other}`)).status);
        return committed;
      };
      return partial;
    });
    expect(await site.get(`/v2/team/secret/blobs/${layer.digest}?${own}`)).toMatchObject({ sha256: layer.digest });
    await settled(site);
    expect(statuses).toEqual([404, 404]);
  });

  test('are not given where a HEAD says that the blob, the manifest or the tag is there', async () => {
    await withSecret(async ({ site, stranger, secret }) => {
      const paths = [
        `blobs/${secret.layers[0]!.digest}`,
        `blobs/${secret.config.digest}`,
        `manifests/${secret.digest}`,
        'manifests/stolen',
      ];
      const length = { 'Content-Length': String(secret.size), 'Docker-Content-Digest': secret.digest };
      stranger.fault(({ method }) => method === 'HEAD', {
        kind: 'status',
        status: 200,
        headers: { ...length, 'Content-Type': ociManifest },
      });
      for (const path of paths) await site.head(`/v2/evil/app/${path}?${other}`);
      for (const path of paths) expect((await site.get(`/v2/evil/app/${path}?${other}`)).status).toBe(404);
      for (const path of paths) expect((await site.get(`/v2/evil/app/${path}?${other}`)).status).toBe(404);
    });
  });

  test('are not given as a manifest that an index only names, nor what that manifest names', async () => {
    await withSecret(async ({ site, stranger, secret }) => {
      stranger.addIndex('evil/app', '1', [{ manifest: secret, platform: { os: 'linux', architecture: 'amd64' } }]);
      expect((await site.get(`/v2/evil/app/manifests/1?${other}`)).status).toBe(200);
      for (const path of [`manifests/${secret.digest}`, `blobs/${secret.config.digest}`]) {
        expect((await site.get(`/v2/evil/app/${path}?${other}`)).status).toBe(404);
      }
    });
  });

  test('are not given while they are being filled', async () => {
    await withSecret(async ({ site, owner, stranger }) => {
      const { digest, size } = owner.addBlob({ size: MiB, seed: 'filling' }, { repository: 'team/secret' });
      const stall = owner.fault(digest, { kind: 'stall', afterBytes: MiB / 2 });
      const allowed = site.get(`/v2/team/secret/blobs/${digest}?${own}`);
      await stall.reached;
      stranger.fault(
        digest,
        { kind: 'status', status: 200, headers: { 'Content-Length': String(size) } },
        { times: 1 },
      );
      expect((await site.head(`/v2/evil/app/blobs/${digest}?${other}`)).status).toBe(200);
      expect((await site.get(`/v2/evil/app/blobs/${digest}?${other}`)).status).toBe(404);
      stall.release();
      expect(await allowed).toMatchObject({ complete: true, sha256: digest });
    });
  });

  test('are not given where the upstream gives other bytes under the digest', async () => {
    await withSecret(async ({ site, stranger, secret }) => {
      const layer = secret.layers[0]!;
      stranger.addBlob({ size: MiB, seed: 'secret' });
      stranger.fault(({ method, path }) => method === 'GET' && path.endsWith(layer.digest), { kind: 'html' });
      const reply = await site.get(`/v2/evil/app/blobs/${layer.digest}?${other}`);
      expect(reply.complete && reply.status === 200).toBe(false);
    });
  });
});

test('bytes of another upstream are not given to one that has all of them but the end', async () => {
  await withSecret(async ({ site, stranger, secret }) => {
    const layer = secret.layers[0]!;
    stranger.addBlob({ size: MiB, seed: 'secret' });
    stranger.fault(layer.digest, { kind: 'flip', position: MiB - 1 });
    const reply = await site.get(`/v2/evil/app/blobs/${layer.digest}?${other}`);
    expect(reply.status).toBe(502);
    expect(stranger.bytesSent(layer.digest)).toBe(4096);
  });
});

describe('bytes that another upstream has too', () => {
  test('are given once it has shown a few places of them, and are not fetched again', async () => {
    await withSecret(async ({ site, stranger, secret }) => {
      const copy = stranger.addImage('team/copy', '1', { config: secret.config, layers: secret.layers });
      expect(copy.digest).toBe(secret.digest);
      const layer = secret.layers[0]!;
      for (let turn = 0; turn < 2; turn += 1) {
        for (const path of ['manifests/1', `blobs/${secret.config.digest}`, `blobs/${layer.digest}`]) {
          expect((await site.get(`/v2/team/copy/${path}?${other}`)).status).toBe(200);
        }
      }
      expect(stranger.requestsFor(layer.digest).map(({ headers }) => headers.range !== undefined)).toEqual([
        true,
        true,
        true,
        true,
      ]);
      expect(stranger.bytesSent(layer.digest)).toBe(4 * 4096);
      // A manifest and a small blob are compared whole.
      expect(stranger.bytesSent(secret.config.digest)).toBe(secret.config.size);
    });
  });

  test('are fetched where it gives no parts', async () => {
    await withSecret(async ({ site, stranger, secret }) => {
      const { digest } = stranger.addBlob({ size: MiB, seed: 'secret' });
      expect(digest).toBe(secret.layers[0]!.digest);
      stranger.fault(digest, { kind: 'ignore-range' });
      for (let turn = 0; turn < 2; turn += 1) {
        expect(await site.get(`/v2/team/copy/blobs/${digest}?${other}`)).toMatchObject({
          status: 200,
          complete: true,
          sha256: digest,
        });
        await settled(site);
      }
      expect(stranger.requestsFor(digest).filter(({ headers }) => headers.range === undefined)).toHaveLength(1);
    });
  });

  test('stay readable through both after a restart, and offline', async () => {
    await using owner = await startRegistry();
    await using stranger = await startRegistry();
    const upstreams = { 'private.example': owner, 'other.example': stranger };
    const { digest } = owner.addBlob({ size: MiB, seed: 'both' });
    stranger.addBlob({ size: MiB, seed: 'both' });
    await using first = await startTestSite({ upstreams });
    for (const ns of [own, other]) expect((await first.get(`/v2/app/blobs/${digest}?${ns}`)).status).toBe(200);
    await settled(first);
    await first.stop();
    await using site = await startTestSite({ upstreams, cacheDir: first.cacheDir, config: { offline: true } });
    for (const ns of [own, other]) {
      expect(await site.get(`/v2/app/blobs/${digest}?${ns}`)).toMatchObject({ status: 200, sha256: digest });
    }
  });
});
