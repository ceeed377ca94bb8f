import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import type { Digest, DigestAlgorithm } from '../../src/oci/digest.ts';
import { dockerManifest, dockerManifestList, ociIndex, ociManifest } from '../../src/oci/media-types.ts';

/** A blob that is ready to be pushed. */
export interface LocalBlob {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly size: number;
  readonly mediaType: string;
}

/** A manifest with all that it names. */
export interface LocalManifest extends LocalBlob {
  readonly blobs: readonly LocalBlob[];
  readonly manifests: readonly LocalManifest[];
}

export interface LocalImage extends LocalManifest {
  readonly config: LocalBlob;
}

export type Compression = 'gzip' | 'zstd';
export type MediaTypes = 'oci' | 'docker';

export interface ImageDescription {
  /** Goes into the image's one file, so that two images with different labels share no layer. */
  readonly label: string;
  readonly architecture?: string;
  readonly mediaTypes?: MediaTypes;
  readonly compression?: Compression;
}

export interface ArtifactDescription {
  readonly artifactType?: string;
  readonly config?: LocalBlob;
  readonly layers?: readonly LocalBlob[];
  readonly subject?: LocalBlob;
  readonly annotations?: Readonly<Record<string, string>>;
}

const emptyType = 'application/vnd.oci.empty.v1+json';

export function localBlob(
  content: Uint8Array | string,
  mediaType = 'application/octet-stream',
  algorithm: DigestAlgorithm = 'sha256',
): LocalBlob {
  const bytes = Buffer.from(content as string);
  const digest = `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
  return { bytes, digest, size: bytes.length, mediaType };
}

/** A file as one-file container image that clients can unpack: a layer, a config with its `diff_ids`, a manifest. */
export function localImage(description: ImageDescription): LocalImage {
  const { label, architecture = 'amd64', mediaTypes = 'oci', compression = 'gzip' } = description;
  const docker = mediaTypes === 'docker';
  const tar = tarArchive({
    'etc/': '',
    'etc/label': `${label} ${architecture}\n`,
    hello: `#!/bin/sh\necho ${label}\n`,
  });
  const layer = localBlob(
    compression === 'zstd' ? zstdCompressSync(tar) : gzipSync(tar),
    docker
      ? 'application/vnd.docker.image.rootfs.diff.tar.gzip'
      : `application/vnd.oci.image.layer.v1.tar+${compression}`,
  );
  const config = localBlob(
    JSON.stringify({
      created: '2026-01-01T00:00:00Z',
      architecture,
      os: 'linux',
      config: { Cmd: ['/hello'], Labels: { label } },
      rootfs: { type: 'layers', diff_ids: [localBlob(tar).digest] },
      history: [{ created: '2026-01-01T00:00:00Z', created_by: 'made by hand' }],
    }),
    docker ? 'application/vnd.docker.container.image.v1+json' : 'application/vnd.oci.image.config.v1+json',
  );
  const mediaType = docker ? dockerManifest : ociManifest;
  const body = { schemaVersion: 2, mediaType, config: descriptor(config), layers: [descriptor(layer)] };
  return { ...localBlob(JSON.stringify(body), mediaType), blobs: [config, layer], manifests: [], config };
}

/** An OCI index or a Docker manifest list over linux images, for the architectures given. */
export function localIndex(
  label: string,
  architectures: readonly string[],
  mediaTypes: MediaTypes = 'oci',
): LocalManifest {
  const manifests = architectures.map((architecture) => localImage({ label, architecture, mediaTypes }));
  const mediaType = mediaTypes === 'docker' ? dockerManifestList : ociIndex;
  const entries = manifests.map((manifest, index) => ({
    ...descriptor(manifest),
    platform: { os: 'linux', architecture: architectures[index] },
  }));
  const body = { schemaVersion: 2, mediaType, manifests: entries };
  return { ...localBlob(JSON.stringify(body), mediaType), blobs: [], manifests };
}

/** Anything else that registries keep, as an OCI manifest (image-spec, "Guidelines for Artifact Usage"). */
export function localArtifact(description: ArtifactDescription): LocalManifest {
  const config = description.config ?? localBlob('{}', emptyType);
  const layers = description.layers ?? [localBlob('{}', emptyType)];
  const body = {
    schemaVersion: 2,
    mediaType: ociManifest,
    artifactType: description.artifactType,
    config: descriptor(config),
    layers: layers.map((layer, index) => ({
      ...descriptor(layer),
      annotations: { 'org.opencontainers.image.title': `file-${index}` },
    })),
    subject: description.subject && descriptor(description.subject),
    annotations: description.annotations,
  };
  return { ...localBlob(JSON.stringify(body), ociManifest), blobs: [config, ...layers], manifests: [] };
}

/** A Helm chart as `helm push` stores it. */
export function localChart(name: string): LocalManifest {
  const chart = { name, version: '1.0.0', description: 'says hello', apiVersion: 'v2' };
  const archive = tarArchive({ [`${name}/`]: '', [`${name}/Chart.yaml`]: JSON.stringify(chart) });
  return localArtifact({
    config: localBlob(JSON.stringify(chart), 'application/vnd.cncf.helm.config.v1+json'),
    layers: [localBlob(gzipSync(archive), 'application/vnd.cncf.helm.chart.content.v1.tar+gzip')],
  });
}

/** The list of referrers that stands under the fallback tag, where a registry has no referrers API. */
export function localReferrers(
  referrers: readonly { readonly manifest: LocalManifest; readonly artifactType: string }[],
): LocalManifest {
  const manifests = referrers.map(({ manifest, artifactType }) => ({ ...descriptor(manifest), artifactType }));
  const body = JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests });
  return { ...localBlob(body, ociIndex), blobs: [], manifests: referrers.map(({ manifest }) => manifest) };
}

/**
 * Pushes a manifest and all that it names to a registry.
 * @param registry its origin
 * @param headers on every request, such as `authorization`
 * @throws Error with the registry's answer, when it refuses something
 */
export async function pushImage(
  registry: string,
  repository: string,
  tag: string,
  manifest: LocalManifest,
  headers: Readonly<Record<string, string>> = {},
): Promise<void> {
  for (const child of manifest.manifests) await pushImage(registry, repository, child.digest, child, headers);
  for (const blob of manifest.blobs) await pushBlob(`${registry}/v2/${repository}`, blob, headers);
  await expectCreated(
    await fetch(`${registry}/v2/${repository}/manifests/${tag}`, {
      method: 'PUT',
      headers: { ...headers, 'content-type': manifest.mediaType },
      body: manifest.bytes as Uint8Array<ArrayBuffer>,
    }),
  );
}

async function pushBlob(repository: string, blob: LocalBlob, headers: Readonly<Record<string, string>>): Promise<void> {
  const started = await fetch(`${repository}/blobs/uploads/`, { method: 'POST', headers });
  await started.arrayBuffer();
  const location = new URL(started.headers.get('location') ?? '', repository);
  location.searchParams.set('digest', blob.digest);
  await expectCreated(
    await fetch(location, {
      method: 'PUT',
      headers: { ...headers, 'content-type': 'application/octet-stream' },
      body: blob.bytes as Uint8Array<ArrayBuffer>,
    }),
  );
}

async function expectCreated(response: Response): Promise<void> {
  const said = await response.text();
  if (response.status !== 201) throw new Error(`push to ${response.url}: ${response.status} ${said}`);
}

function descriptor({ mediaType, digest, size }: LocalBlob): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest, size };
}

/** A ustar archive of files and folders (names that end with a slash), the same bytes each time. */
export function tarArchive(files: Readonly<Record<string, string | Uint8Array>>): Buffer {
  const blocks = Object.entries(files).flatMap(([name, content]) => {
    const header = Buffer.alloc(512);
    const folder = name.endsWith('/');
    const size = Buffer.byteLength(content);
    header.write(name, 0);
    header.write(folder ? '0000755\0' : '0000644\0', 100);
    header.write('0000000\x000000000\0', 108);
    header.write(`${size.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0        `, 124);
    header.write(folder ? '5' : '0', 156);
    header.write('ustar\x0000', 257);
    const checksum = header.reduce((sum, byte) => sum + byte, 0);
    header.write(`${checksum.toString(8).padStart(6, '0')}\0 `, 148);
    return [header, Buffer.from(content as string), Buffer.alloc((512 - (size % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
