import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { dockerManifest } from '../oci/media-types.ts';
import { type Archive, readDocuments } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { asObject, parseJson, parseObject } from './archived-json.ts';
import type { ArchivedImage, FoundImages, UnreadableImage } from './found-images.ts';
import { dockerName } from './image-names.ts';
import { maxImages } from './limits.ts';
import { measureLayers, type SavedLayer, settleClaims } from './saved-layers.ts';

/** Configs of images are small; those of registries may have 4 MiB. */
const maxConfigBytes = 4 * 1024 * 1024;
/** Most layers that one image may have. */
const maxLayers = 1000;
/** Most layers of all images, each counted for each image: the manifests that are made are held in memory. */
const maxLayersInAll = 100_000;

const configType = 'application/vnd.docker.container.image.v1+json';
const layerTypes = {
  none: 'application/vnd.docker.image.rootfs.diff.tar',
  gzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  zstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
} as const;

/**
 * Reads an archive in the form of `docker save` before Docker 25, as podman, crane, ko, jib, kaniko, Bazel and nix write
 * it too. It has no manifests: one is made for each image, with its layers as they are, compressed or not.
 * @param list its `manifest.json`
 * @param prefix of the folder within the archive
 * @throws ArchiveError if nothing in it can be read; an error in one image is reported with that image
 */
export async function readDockerSave(archive: Archive, prefix: string, list: readonly unknown[]): Promise<FoundImages> {
  if (list.length === 0) throw new ArchiveError('its manifest.json names no images');
  const layersInAll = list.reduce((sum: number, entry) => sum + layersOf(entry).length, 0);
  if (list.length > maxImages || layersInAll > maxLayersInAll) {
    throw new ArchiveError('its manifest.json names too many images or layers');
  }
  const unreadable: UnreadableImage[] = [];
  const saved = list.flatMap((entry, at) => {
    try {
      return [savedImage(archive, prefix, entry)];
    } catch (error) {
      unreadable.push({ name: entryName(entry, at), reason: reasonOf(error) });
      return [];
    }
  });
  const configs = await readDocuments(
    archive,
    saved.map(({ config }) => config),
    { maxBytes: maxConfigBytes },
  );
  const layers = await measureLayers(archive, new Set(saved.flatMap((image) => image.layers)));
  const images: ArchivedImage[] = [];
  const made = new Map<Digest, Buffer>();
  const files = new Map<Digest, string>();
  const claims = new Map<Digest, Set<string>>();
  for (const image of saved) {
    try {
      const { config, names } = image;
      const bytes = configs.get(config)!;
      const parts = layersBy(image, { config: bytes, layers });
      const manifest = manifestOf({ digest: digestOf(bytes), size: bytes.length }, parts);
      const digest = digestOf(manifest);
      files.set(digestOf(bytes), config);
      for (const part of parts) claims.set(part.digest, (claims.get(part.digest) ?? new Set()).add(part.file));
      made.set(digest, manifest);
      const found = { digest, mediaType: dockerManifest, size: manifest.length, isAttachment: false };
      if (names.length === 0) images.push({ ...found, name: { kind: 'none' } });
      for (const name of names) images.push({ ...found, name: { kind: 'full', name: dockerName(name) } });
    } catch (error) {
      unreadable.push({ name: image.names[0] ?? image.config, reason: reasonOf(error) });
    }
  }
  for (const [digest, file] of await settleClaims(archive, claims)) files.set(digest, file);
  return { images, unreadable, made, files };
}

interface SavedImage {
  /** Names of files in the archive. */
  readonly config: string;
  readonly layers: readonly string[];
  readonly names: readonly string[];
}

function layersOf(entry: unknown): readonly unknown[] {
  const { Layers: layers } = asObject(entry);
  return Array.isArray(layers) ? layers : [];
}

function namesOf(entry: unknown): string[] {
  const { RepoTags: tags } = asObject(entry);
  return Array.isArray(tags) ? tags.filter((tag): tag is string => typeof tag === 'string') : [];
}

function entryName(entry: unknown, at: number): string {
  return namesOf(entry)[0] ?? `entry ${at + 1} of its manifest.json`;
}

/** @throws what is not about one image */
function reasonOf(error: unknown): string {
  if (error instanceof ArchiveError) return error.message;
  throw error;
}

function savedImage(archive: Archive, prefix: string, entry: unknown): SavedImage {
  const { Config: config, Layers: layers } = asObject(entry);
  if (typeof config !== 'string') throw new ArchiveError('its manifest.json names no config');
  if (!Array.isArray(layers) || layers.length > maxLayers) {
    throw new ArchiveError('its manifest.json names no layers, or too many');
  }
  const fileOf = (name: unknown): string => {
    const file = `${prefix}${String(name).replace(/^\.\//, '')}`;
    const found = typeof name === 'string' ? archive.resolve(file) : undefined;
    if (found !== undefined) return found;
    const why = archive.unreadable.get(file);
    throw new ArchiveError(
      why === undefined
        ? `it lacks ${shownName(String(name))}, which its manifest.json names`
        : `${shownName(String(name))} in it ${why}`,
    );
  };
  return { config: fileOf(config), layers: layers.map(fileOf), names: namesOf(entry) };
}

interface LayerPart {
  readonly digest: Digest;
  readonly size: number;
  readonly file: string;
  readonly compression: SavedLayer['compression'];
}

/** The layers of an image as they are in the archive, each held against what its config says. @throws ArchiveError */
function layersBy(
  image: SavedImage,
  { config, layers }: { config: Buffer; layers: ReadonlyMap<string, SavedLayer> },
): LayerPart[] {
  const diffIds = diffIdsOf(config, image.config);
  if (diffIds.length !== image.layers.length) {
    throw new ArchiveError(
      `${shownName(image.config)} in it has ${diffIds.length} layers, and manifest.json ${image.layers.length}`,
    );
  }
  return image.layers.map((file, at) => {
    const diffId = diffIds[at]!;
    const { compression, size, packed } = layers.get(file)!;
    // A wrong layer that is not compressed is found when it is read as a layer.
    if (packed === undefined) return { digest: diffId, size, file, compression };
    if (packed.reason !== undefined) throw new ArchiveError(`${shownName(file)} in it ${packed.reason}`);
    if (!packed.unpacked.includes(diffId)) {
      throw new ArchiveError(`the bytes that ${shownName(file)} in it unpacks to are other ones than its config says`);
    }
    return { digest: packed.digest, size, file, compression };
  });
}

function diffIdsOf(config: Buffer, name: string): Digest[] {
  const { diff_ids: diffIds } = asObject(parseObject(config, shownName(name))['rootfs']);
  if (!Array.isArray(diffIds)) return [];
  return diffIds.map((digest: unknown) => {
    if (typeof digest === 'string' && isDigest(digest)) return digest;
    throw new ArchiveError(`${shownName(name)} in it names a layer without a digest`);
  });
}

function manifestOf(config: { digest: Digest; size: number }, layers: readonly LayerPart[]): Buffer {
  const body = {
    schemaVersion: 2,
    mediaType: dockerManifest,
    config: { mediaType: configType, size: config.size, digest: config.digest },
    layers: layers.map(({ digest, size, compression }) => ({ mediaType: layerTypes[compression], size, digest })),
  };
  return Buffer.from(JSON.stringify(body));
}

/** Reads a `manifest.json`: a list of images, or the manifest of one. @throws ArchiveError */
export function readManifestFile(bytes: Buffer, name: string): readonly unknown[] | undefined {
  const parsed = parseJson(bytes, name);
  return Array.isArray(parsed) ? parsed : undefined;
}
