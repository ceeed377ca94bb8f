import { lstat, readFile } from 'node:fs/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { dockerManifest, dockerManifestList, ociIndex, ociManifest } from '../../../src/oci/media-types.ts';
import {
  type Compression,
  type LocalImage,
  type LocalManifest,
  localBlob,
  type MediaTypes,
  tarArchive,
} from '../../support/images.ts';
import { run } from '../../support/processes.ts';

/** The files of an installed Debian package as a layer, not compressed. */
export async function packageTar(name: string): Promise<Buffer> {
  const listed = (await run('dpkg', ['-L', name])).split('\n');
  const files: Record<string, Buffer> = {};
  for (const file of listed) {
    const path = file.replace(/^\//, '');
    const found = path.length > 0 && path.length < 100 ? await lstat(file).catch(() => undefined) : undefined;
    if (found?.isFile()) files[path] = await readFile(file);
  }
  return tarArchive(files);
}

export interface PackageImage {
  /** Not compressed, the lowest first. */
  readonly layers: readonly Buffer[];
  readonly architecture?: string;
  readonly mediaTypes?: MediaTypes;
  readonly compression?: Compression;
}

/** An image with these layers, the same bytes each time. */
export function packageImage(description: PackageImage): LocalImage {
  const { architecture = 'amd64', mediaTypes = 'oci', compression = 'gzip' } = description;
  const isDocker = mediaTypes === 'docker';
  const layerType = isDocker
    ? 'application/vnd.docker.image.rootfs.diff.tar.gzip'
    : `application/vnd.oci.image.layer.v1.tar+${compression}`;
  const layers = description.layers.map((tar) =>
    localBlob(compression === 'zstd' ? zstdCompressSync(tar) : gzipSync(tar), layerType),
  );
  const config = localBlob(
    JSON.stringify({
      created: '2026-01-01T00:00:00Z',
      architecture,
      os: 'linux',
      config: { Cmd: ['/bin/true'] },
      rootfs: { type: 'layers', diff_ids: description.layers.map((tar) => localBlob(tar).digest) },
      history: layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'dpkg -L' })),
    }),
    isDocker ? 'application/vnd.docker.container.image.v1+json' : 'application/vnd.oci.image.config.v1+json',
  );
  const mediaType = isDocker ? dockerManifest : ociManifest;
  const body = { schemaVersion: 2, mediaType, config: descriptor(config), layers: layers.map(descriptor) };
  return { ...localBlob(JSON.stringify(body), mediaType), blobs: [config, ...layers], manifests: [], config };
}

/** An index or a manifest list over one image for each architecture. */
export function packageIndex(
  images: Readonly<Record<string, readonly Buffer[]>>,
  mediaTypes: MediaTypes = 'oci',
): LocalManifest {
  const manifests = Object.entries(images).map(([architecture, layers]) =>
    packageImage({ layers, architecture, mediaTypes }),
  );
  const mediaType = mediaTypes === 'docker' ? dockerManifestList : ociIndex;
  const entries = manifests.map((manifest, index) => ({
    ...descriptor(manifest),
    platform: { os: 'linux', architecture: Object.keys(images)[index] },
  }));
  const body = { schemaVersion: 2, mediaType, manifests: entries };
  return { ...localBlob(JSON.stringify(body), mediaType), blobs: [], manifests };
}

function descriptor({ mediaType, digest, size }: { mediaType: string; digest: string; size: number }) {
  return { mediaType, digest, size };
}
