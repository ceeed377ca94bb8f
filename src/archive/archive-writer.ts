import { type Digest, digestOf } from '../oci/digest.ts';
import { ociIndex } from '../oci/media-types.ts';
import { blobName } from './archive.ts';
import { ArchiveError } from './archive-error.ts';
import type { ArchiveSink, WrittenFile } from './archive-output.ts';
import { type Base, formatChecksumList } from './checksum-list.ts';
import { type BlobSize, descriptionName, writeDescription } from './description.ts';
import { type ContainerParts, dockerManifest } from './docker-manifest.ts';
import { attachmentAnnotation, imageNameAnnotation, refNameAnnotation } from './image-names.ts';
import {
  countObjects,
  maxEntries,
  maxImageManifestsBytes,
  maxImages,
  maxListBytes,
  maxManifestBytes,
  maxManifestsBytes,
  maxObjects,
} from './limits.ts';
import { blockBytes, encodeHeader, padded } from './tar-header.ts';

/** An image or an attachment, with everything it consists of. */
export interface ExportedImage {
  /** `registry/repository:tag` or `registry/repository@digest`. */
  readonly name: string;
  readonly isAttachment: boolean;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Requested platforms that the image does not have, if it has others. */
  readonly lacks: readonly string[];
  /** Entries of its index that are left out: platforms, and digests of entries without a platform. */
  readonly absent: readonly string[];
  /** The image for `docker load`: of an index, that for linux/amd64 or else the first; `undefined` if there is none. */
  readonly container: ContainerParts | undefined;
  /** The root manifest and the manifests that it names. */
  readonly manifests: readonly BlobSize[];
  /** Their configs and layers. */
  readonly blobs: readonly BlobSize[];
}

export interface ArchivePlan {
  readonly id: Digest;
  readonly base: Digest | undefined;
  /** Everything that is stored after the archive has been imported. */
  readonly complete: readonly Digest[];
  /** Files in order: content, or a blob that is read in its turn. */
  readonly files: readonly ({ readonly name: string; readonly bytes: Buffer } | PlannedBlob)[];
  /** Size of the whole tar archive, in bytes. */
  readonly size: number;
  readonly blobs: number;
  /** Blobs that are left to the base. */
  readonly leftOut: number;
}

interface PlannedBlob extends BlobSize {
  readonly name: string;
}

/**
 * Plans the bytes of an archive: the same images since the same base always give the same.
 * @param base content that the archive need not repeat
 * @throws ArchiveError if the archive would exceed what can be read again
 */
export function planArchive(images: readonly ExportedImage[], base: Base | undefined): ArchivePlan {
  const known = new Set(base?.complete);
  const named = new Map<Digest, BlobSize>();
  const manifests = new Map<Digest, BlobSize>();
  const blobs = new Map<Digest, BlobSize>();
  for (const image of images) {
    const all = [...image.manifests, ...image.blobs];
    for (const blob of all) named.set(blob.digest, blob);
    if (all.every(({ digest }) => known.has(digest))) continue;
    // Of an image with anything new, include all manifests, so that readers find the blobs they name.
    for (const manifest of image.manifests) manifests.set(manifest.digest, manifest);
    for (const blob of image.blobs) if (!known.has(blob.digest)) blobs.set(blob.digest, blob);
  }
  for (const digest of manifests.keys()) blobs.delete(digest);
  const byName = images.toSorted((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests: indexEntries(byName) }));
  const needs = [...named.values()].filter(({ digest }) => !manifests.has(digest) && !blobs.has(digest));
  // Other content of the base is dropped, because nothing shows that it is still wanted.
  const complete = [...named.keys()];
  const description = writeDescription({ index: digestOf(index), base: base?.id, needs, complete });
  requireReadable(images, { manifests, lists: { 'index.json': index, [descriptionName]: description.bytes } });
  const contents = [...sorted(manifests), ...sorted(blobs)];
  const forDocker = dockerManifest(
    byName.filter(({ isAttachment }) => !isAttachment),
    new Set(blobs.keys()),
  );
  const files: ArchivePlan['files'] = [
    { name: 'oci-layout', bytes: Buffer.from('{"imageLayoutVersion":"1.0.0"}') },
    { name: 'index.json', bytes: index },
    { name: descriptionName, bytes: description.bytes },
    ...(forDocker ? [{ name: 'manifest.json', bytes: forDocker }] : []),
    ...['blobs/', 'blobs/sha256/', ...(contents.some(isSha512) ? ['blobs/sha512/'] : [])].map((name) => ({
      name,
      bytes: Buffer.alloc(0),
    })),
    ...contents.map((blob) => ({ ...blob, name: blobName(blob.digest) })),
  ];
  if (files.length > maxEntries) throw tooLarge(`have ${files.length} files`);
  return {
    id: description.id,
    base: base?.id,
    complete,
    files,
    size: files.reduce((sum, file) => sum + fileBytes(file), 2 * blockBytes),
    blobs: contents.length,
    leftOut: needs.length,
  };
}

/**
 * Writes an archive and its list.
 * @param options `read`: a blob's content, verified at its end at the latest; `onWritten`: receives the bytes on disk
 * @throws ArchiveError, and what `read` throws; then nothing has the archive's name
 */
export async function writeArchive(
  plan: ArchivePlan,
  output: ArchiveSink,
  options: {
    readonly read: (blob: BlobSize) => AsyncIterable<Buffer>;
    readonly onWritten: (bytes: number) => void;
    readonly signal: AbortSignal;
  },
): Promise<readonly WrittenFile[]> {
  const { read, onWritten, signal } = options;
  const put = async (chunk: Buffer): Promise<void> => {
    signal.throwIfAborted();
    await output.write(chunk);
    onWritten(chunk.length);
  };
  for (const file of plan.files) {
    const size = 'bytes' in file ? file.bytes.length : file.size;
    await put(encodeHeader(file.name, size));
    if ('bytes' in file) await put(file.bytes);
    else for await (const chunk of read(file)) await put(chunk);
    await put(Buffer.alloc(padded(size) - size));
  }
  await put(Buffer.alloc(2 * blockBytes));
  const { id, base, complete } = plan;
  return await output.finish((files) => formatChecksumList({ id, since: base, complete, files }));
}

/** @throws ArchiveError if an archive would exceed the limits for reading */
function requireReadable(
  images: readonly ExportedImage[],
  { manifests, lists }: { manifests: ReadonlyMap<Digest, BlobSize>; lists: Readonly<Record<string, Buffer>> },
): void {
  if (images.length > maxImages) throw tooLarge(`have ${images.length} images`);
  for (const { name, manifests: own } of images) {
    const long = own.find(({ size }) => size > maxManifestBytes);
    if (long) throw new ArchiveError(`${name} has a manifest of ${long.size} bytes, more than fits an archive`);
    if (bytesOf(own) > maxImageManifestsBytes) {
      throw new ArchiveError(`${name} has manifests of ${bytesOf(own)} bytes, more than fit an archive`);
    }
  }
  const manifestsBytes = bytesOf(manifests.values());
  if (manifestsBytes > maxManifestsBytes) throw tooLarge(`have manifests of ${manifestsBytes} bytes`);
  for (const [name, list] of Object.entries(lists)) {
    if (list.length > maxListBytes || countObjects(list) > maxObjects) throw tooLarge(`name too much in its ${name}`);
  }
}

function tooLarge(would: string): ArchiveError {
  return new ArchiveError(`the archive would ${would}, more than can be read again: export fewer images at a time`);
}

function bytesOf(blobs: Iterable<BlobSize>): number {
  return Iterator.from(blobs).reduce((sum, { size }) => sum + size, 0);
}

function indexEntries(images: readonly ExportedImage[]): object[] {
  return images.map(({ name, isAttachment, digest, mediaType, size }) => ({
    mediaType,
    digest,
    size,
    annotations: isAttachment
      ? { [attachmentAnnotation]: name }
      : { [imageNameAnnotation]: name, [refNameAnnotation]: name },
  }));
}

function sorted(blobs: ReadonlyMap<Digest, BlobSize>): BlobSize[] {
  return [...blobs.values()]
    .map(({ digest, size }) => ({ digest, size }))
    .toSorted((one, other) => (one.digest < other.digest ? -1 : 1));
}

function isSha512({ digest }: BlobSize): boolean {
  return digest.startsWith('sha512:');
}

function fileBytes(file: ArchivePlan['files'][number]): number {
  const size = 'bytes' in file ? file.bytes.length : file.size;
  return encodeHeader(file.name, size).length + padded(size);
}
