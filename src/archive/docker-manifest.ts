import type { ManifestLinks } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { imageConfigTypes } from '../oci/media-types.ts';
import { blobName } from './archive.ts';

/** A container image: a config, and layers that form a file system. */
export interface ContainerParts {
  readonly config: Digest;
  readonly layers: readonly Digest[];
}

const layerType = /^application\/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\./;

/** @returns `undefined` for an index, and for other content in the form of an image */
export function containerParts({ blobs: [config, ...layers] }: ManifestLinks): ContainerParts | undefined {
  if (config === undefined || !imageConfigTypes.includes(config.mediaType)) return undefined;
  if (!layers.every(({ mediaType }) => layerType.test(mediaType))) return undefined;
  return { config: config.digest, layers: layers.map(({ digest }) => digest) };
}

/**
 * The `manifest.json` of `docker save`, in the form that points to the blobs of an image layout (Docker 25). With it,
 * `docker load` and podman find the images of an archive that has several images or attachments.
 * @param contained the blobs of the archive: incomplete images are left out
 * @returns `undefined` if it would be empty
 */
export function dockerManifest(
  images: readonly { readonly name: string; readonly container: ContainerParts | undefined }[],
  contained: ReadonlySet<Digest>,
): Buffer | undefined {
  const entries = new Map<string, { Config: string; RepoTags: string[]; Layers: string[] }>();
  for (const { name, container } of images) {
    if (!container || ![container.config, ...container.layers].every((digest) => contained.has(digest))) continue;
    const key = JSON.stringify(container);
    const entry = entries.get(key) ?? {
      Config: blobName(container.config),
      RepoTags: [],
      Layers: container.layers.map(blobName),
    };
    entries.set(key, entry);
    if (!name.includes('@')) entry.RepoTags.push(name);
  }
  return entries.size === 0 ? undefined : Buffer.from(JSON.stringify([...entries.values()]));
}
