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

/** An image, or what belongs to one, with everything that it is made of. */
export interface ExportedImage {
  /** `registry/repository:tag` or `registry/repository@digest`. */
  readonly name: string;
  readonly isAttachment: boolean;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Platforms that were wanted and that it is not made for, where it is for others. */
  readonly lacks: readonly string[];
  /** What its index names and could not be taken along: platforms, digests of what is of no platform. */
  readonly absent: readonly string[];
  /** What `docker load` takes of it: of an index the image for linux/amd64, or the first; `undefined` where nothing is. */
  readonly container: ContainerParts | undefined;
  /** Itself and the manifests that it names. */
  readonly manifests: readonly BlobSize[];
  /** Their configs and layers. */
  readonly blobs: readonly BlobSize[];
}

export interface ArchivePlan {
  readonly id: Digest;
  readonly base: Digest | undefined;
  /** What is here once the archive is imported. */
  readonly complete: readonly Digest[];
  /** Files in their order: content, or a blob that is read when its turn comes. */
  readonly files: readonly ({ readonly name: string; readonly bytes: Buffer } | PlannedBlob)[];
  /** Bytes of the whole tar archive. */
  readonly size: number;
  readonly blobs: number;
  /** Blobs that were left to the base. */
  readonly leftOut: number;
}

interface PlannedBlob extends BlobSize {
  readonly name: string;
}

/**
 * Decides what is in an archive, byte by byte: the same images since the same base give the same.
 * @param base what need not be in it again
 * @throws ArchiveError where it would be more than can be read again
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
    // Of an image with anything new, all manifests: whoever reads the archive finds what they name by them.
    for (const manifest of image.manifests) manifests.set(manifest.digest, manifest);
    for (const blob of image.blobs) if (!known.has(blob.digest)) blobs.set(blob.digest, blob);
  }
  for (const digest of manifests.keys()) blobs.delete(digest);
  const byName = images.toSorted((one, other) => (one.name < other.name ? -1 : one.name > other.name ? 1 : 0));
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests: indexEntries(byName) }));
  const needs = [...named.values()].filter(({ digest }) => !manifests.has(digest) && !blobs.has(digest));
  // What else the base had is forgotten: nothing says that anybody still wants it.
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
 * @param options `read`: a blob's content, verified at the latest when its end has come; `onWritten`: told of bytes on disk
 * @throws ArchiveError, and what `read` throws: then nothing has been written under the archive's name
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

/** @throws ArchiveError where an archive would be beyond what is read */
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
