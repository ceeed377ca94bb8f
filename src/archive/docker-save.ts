import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { dockerManifest } from '../oci/media-types.ts';
import { type Archive, readDocuments } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { type ArchivedImage, asObject, parseJson, parseObject } from './archived-images.ts';
import { dockerName } from './image-names.ts';
import { maxImages } from './limits.ts';

/** Configs of images are small; those of registries may have 4 MiB. */
const maxConfigBytes = 4 * 1024 * 1024;
/** Most layers that one image may have. */
const maxLayers = 1000;
/** Most layers of all images, each counted for each image: the manifests that are made are held in memory. */
const maxLayersInAll = 100_000;

/** Images of an archive whose layers are files by other names than their digests. */
export interface DockerImages {
  readonly images: readonly ArchivedImage[];
  /** Manifests that are not in the archive, made from what it says. */
  readonly manifests: ReadonlyMap<Digest, Buffer>;
  /** Where blobs lie in the archive. */
  readonly files: ReadonlyMap<Digest, string>;
}

/**
 * Reads an archive of `docker save` before Docker 25, or of `podman save`. It has no manifests: one is made for each image,
 * with its layers as they are, not compressed.
 * @param list its `manifest.json`
 * @throws ArchiveError
 */
export async function readDockerSave(archive: Archive, list: Buffer): Promise<DockerImages> {
  const entries = parseJson(list, 'manifest.json');
  if (!Array.isArray(entries) || entries.length === 0) throw new ArchiveError('its manifest.json names no images');
  const layersInAll = entries.reduce((sum: number, entry: unknown) => sum + layersOf(entry).length, 0);
  if (entries.length > maxImages || layersInAll > maxLayersInAll) {
    throw new ArchiveError('its manifest.json names too many images or layers');
  }
  const saved = entries.map((entry: unknown) => savedImage(archive, entry));
  const configs = await readDocuments(
    archive,
    saved.map(({ config }) => config),
    { maxBytes: maxConfigBytes },
  );
  const images: ArchivedImage[] = [];
  const manifests = new Map<Digest, Buffer>();
  const files = new Map<Digest, string>();
  for (const { config, layers, names } of saved) {
    const bytes = configs.get(config)!;
    const diffIds = diffIdsOf(bytes, config);
    if (diffIds.length !== layers.length) {
      throw new ArchiveError(
        `${shownName(config)} in it has ${diffIds.length} layers, and manifest.json ${layers.length}`,
      );
    }
    const configDigest = digestOf(bytes);
    files.set(configDigest, config);
    diffIds.forEach((digest, index) => files.set(digest, layers[index]!));
    const manifest = manifestOf(
      { digest: configDigest, size: bytes.length },
      diffIds.map((digest, index) => ({ digest, size: archive.files.get(layers[index]!)! })),
    );
    const digest = digestOf(manifest);
    manifests.set(digest, manifest);
    const image = { digest, mediaType: dockerManifest, size: manifest.length, isAttachment: false };
    if (names.length === 0) images.push({ ...image, name: { kind: 'none' } });
    for (const name of names) images.push({ ...image, name: { kind: 'full', name: dockerName(name) } });
  }
  return { images, manifests, files };
}

interface SavedImage {
  /** Names of files in the archive. */
  readonly config: string;
  readonly layers: readonly string[];
  readonly names: readonly string[];
}

/** @throws ArchiveError where it names none */
function layersOf(entry: unknown): readonly unknown[] {
  const { Layers: layers } = asObject(entry);
  if (Array.isArray(layers) && layers.length <= maxLayers) return layers;
  throw new ArchiveError('its manifest.json names no layers, or too many');
}

function savedImage(archive: Archive, entry: unknown): SavedImage {
  const { Config: config, RepoTags: tags } = asObject(entry);
  if (typeof config !== 'string') {
    throw new ArchiveError('its manifest.json names no config');
  }
  const fileOf = (name: unknown): string => {
    const found = typeof name === 'string' ? archive.resolve(name.replace(/^\.\//, '')) : undefined;
    if (found === undefined)
      throw new ArchiveError(`it lacks ${shownName(String(name))}, which its manifest.json names`);
    return found;
  };
  const names = Array.isArray(tags) ? tags.filter((tag): tag is string => typeof tag === 'string') : [];
  return { config: fileOf(config), layers: layersOf(entry).map(fileOf), names };
}

function diffIdsOf(config: Buffer, name: string): Digest[] {
  const { diff_ids: diffIds } = asObject(parseObject(config, shownName(name))['rootfs']);
  if (!Array.isArray(diffIds)) return [];
  return diffIds.map((digest: unknown) => {
    if (typeof digest === 'string' && isDigest(digest)) return digest;
    throw new ArchiveError(`${shownName(name)} in it names a layer without a digest`);
  });
}

function manifestOf(
  config: { digest: Digest; size: number },
  layers: readonly { digest: Digest; size: number }[],
): Buffer {
  const body = {
    schemaVersion: 2,
    mediaType: dockerManifest,
    config: { mediaType: 'application/vnd.docker.container.image.v1+json', size: config.size, digest: config.digest },
    layers: layers.map(({ digest, size }) => ({
      mediaType: 'application/vnd.docker.image.rootfs.diff.tar',
      size,
      digest,
    })),
  };
  return Buffer.from(JSON.stringify(body));
}
