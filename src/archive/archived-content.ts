import { type Descriptor, readManifest } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { type Archive, blobName, documents, readDocuments } from './archive.ts';
import { ArchiveError } from './archive-error.ts';
import { type ArchivedImage, readIndexFile } from './archived-images.ts';
import { type ArchiveDescription, type BlobSize, descriptionName, readDescription } from './description.ts';
import { readDockerSave } from './docker-save.ts';
import { maxListBytes, maxManifestBytes, maxManifestsBytes } from './limits.ts';

/** Deepest nesting of manifests that is followed. */
const maxDepth = 8;

/** A blob that an archive has and its images name. */
export interface ArchivedBlob extends BlobSize {
  /** The file it is in, or the bytes themselves. */
  readonly from: string | Buffer;
}

/** What is in an archive, as far as its images name it; anything else in it is left alone. */
export interface ArchivedContent {
  /** Names the archive: what it says about itself, or the digest of its list of images. */
  readonly id: Digest;
  readonly images: readonly ArchivedImage[];
  /** What an archive of ours says about itself. */
  readonly description: ArchiveDescription | undefined;
  /** Configs and layers that it has. */
  readonly blobs: readonly ArchivedBlob[];
  /** Manifests that it has, verified. */
  readonly manifests: readonly ArchivedBlob[];
}

/**
 * Reads what an archive has: an OCI image layout (of ours, skopeo, umoci, `ctr images export`, `docker save` since
 * Docker 25), or the older form of `docker save`.
 * @throws ArchiveError
 */
export async function readContent(archive: Archive): Promise<ArchivedContent> {
  // What has both, as our own and Docker's have, is read as an image layout.
  const names = archive.files.has('index.json') ? ['index.json', descriptionName] : ['manifest.json'];
  const lists = await readDocuments(archive, names, { maxBytes: maxListBytes });
  const index = lists.get('index.json');
  const saved = lists.get('manifest.json');
  if (index) {
    const written = lists.get(descriptionName);
    const description = written && readDescription(written, digestOf(index));
    if (description) requireContents(archive, description);
    return {
      ...(await readClosure(archive, { images: readIndexFile(index), made: new Map(), files: new Map() })),
      id: description?.id ?? digestOf(index),
      description,
    };
  }
  if (!saved) throw new ArchiveError('it is no archive of images: it has neither an index.json nor a manifest.json');
  const { images, manifests, files } = await readDockerSave(archive, saved);
  const closure = await readClosure(archive, { images, made: manifests, files });
  return { ...closure, id: digestOf(saved), description: undefined };
}

/** @throws ArchiveError where an archive that builds upon no other one lacks something that it says is there with it */
function requireContents(archive: Archive, { base, complete }: ArchiveDescription): void {
  const lacking = base === undefined ? complete.filter((digest) => !archive.files.has(blobName(digest))) : [];
  if (lacking.length === 0) return;
  throw new ArchiveError(
    `it is not whole: it lacks ${lacking.length} of its ${complete.length} blobs, such as ${lacking[0]}`,
  );
}

interface Start {
  readonly images: readonly ArchivedImage[];
  /** Manifests that are at hand. */
  readonly made: ReadonlyMap<Digest, Buffer>;
  /** Files that are not called by their digests. */
  readonly files: ReadonlyMap<Digest, string>;
}

/** Follows the manifests of an archive, level by level, so that one that is compressed is gone through few times. */
async function readClosure(
  archive: Archive,
  { images, made, files }: Start,
): Promise<Omit<ArchivedContent, 'id' | 'description'>> {
  const manifests = new Map<Digest, ArchivedBlob>();
  const blobs = new Map<Digest, ArchivedBlob>();
  const fileOf = ({ digest, size }: BlobSize): string | undefined => {
    const file = files.get(digest) ?? blobName(digest);
    const found = archive.files.get(file);
    if (found !== undefined && size >= 0 && found !== size) {
      throw new ArchiveError(`a manifest in it gives ${digest} ${size} bytes, and it has ${found}`);
    }
    return found === undefined ? undefined : file;
  };
  let manifestsBytes = 0;
  let level = new Map<Digest, Link>();
  let next = new Map<Digest, Link>();
  // What it does not have is of another platform, or in a base.
  const follow = (link: Link): void => {
    if (manifests.has(link.digest) || level.has(link.digest)) return;
    if (made.has(link.digest) || fileOf(link) !== undefined) next.set(link.digest, link);
  };
  const take = ({ digest, mediaType }: Link, from: string | Buffer, bytes: Buffer): void => {
    const links = readVerified(bytes, { digest, mediaType });
    manifests.set(digest, { digest, size: bytes.length, from });
    manifestsBytes += bytes.length;
    for (const link of links.manifests) follow(link);
    for (const blob of links.blobs) {
      const file = fileOf(blob);
      if (file !== undefined)
        blobs.set(blob.digest, { digest: blob.digest, size: archive.files.get(file)!, from: file });
    }
  };
  for (const image of images) follow(image);
  for (let depth = 0; next.size > 0; depth += 1) {
    if (depth > maxDepth) throw new ArchiveError('its indexes are nested too deeply');
    level = next;
    next = new Map();
    const inFiles = new Map<string, Link>();
    for (const link of level.values()) {
      const bytes = made.get(link.digest);
      if (bytes) take(link, bytes, bytes);
      else inFiles.set(fileOf(link)!, link);
    }
    const limits = { maxBytes: maxManifestBytes, maxTotalBytes: maxManifestsBytes - manifestsBytes };
    for await (const [file, bytes] of documents(archive, inFiles.keys(), limits)) {
      take(inFiles.get(file)!, file, bytes);
    }
  }
  return { images, manifests: [...manifests.values()], blobs: [...blobs.values()] };
}

type Link = Pick<Descriptor, 'digest' | 'size' | 'mediaType'>;

function readVerified(bytes: Buffer, { digest, mediaType }: { digest: Digest; mediaType: string }) {
  const actual = digestOf(bytes, digestAlgorithm(digest));
  if (actual !== digest) {
    throw new ArchiveError(`its manifest ${digestHex(digest).slice(0, 12)}… has other bytes than its digest says`);
  }
  try {
    return readManifest(bytes, mediaType);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    throw new ArchiveError(`what it has as manifest ${digestHex(digest).slice(0, 12)}… is none`, { cause: error });
  }
}
