import { type Archive, blobName } from '../../archive/archive.ts';
import { ArchiveError } from '../../archive/archive-error.ts';
import { type ArchivedContent, readContent } from '../../archive/archived-content.ts';
import type { BlobSize } from '../../archive/description.ts';
import type { Digest } from '../../oci/digest.ts';
import { nameImages } from './import-names.ts';
import type { AdoptedImage, NewImage } from './imports.ts';

/** Most blobs that are asked about at once. */
const batchSize = 20_000;

/** Blobs that are not evicted until it is disposed, should they be there or come. */
export interface HeldBlobs extends AsyncDisposable {
  /** Those that are not there. */
  readonly lacking: readonly Digest[];
}

/** A cache that blobs and images are brought to, wherever its owner is. */
export interface ImportTarget {
  /** The names as the cache has them. @throws Error where one is of no upstream that is configured */
  names(texts: readonly string[]): Promise<readonly string[]>;
  /** Keeps blobs from being evicted, and says which of them are not there in their right size. */
  hold(blobs: readonly BlobSize[]): Promise<HeldBlobs>;
  /** @throws Error where so much cannot be taken in */
  requireRoom(bytes: number): Promise<void>;
  /** Takes in a blob; the chunks are the target's from then on. @throws Error where the bytes are not the blob, or the disk does not take it */
  receive(blob: BlobSize, options: { name: string; body: AsyncIterable<Uint8Array> }): Promise<void>;
  /** Gives images their names, each only if it is whole. */
  adopt(images: readonly NewImage[]): AsyncIterable<AdoptedImage>;
}

/** What happens on the way, for whoever watches. */
export type ImportEvent =
  | {
      readonly kind: 'plan';
      readonly images: number;
      readonly blobs: number;
      readonly bytes: number;
      /** Blobs that are there already. */
      readonly present: number;
    }
  | { readonly kind: 'blob'; readonly digest: Digest; readonly size: number }
  | ({ readonly kind: 'image'; readonly isAttachment: boolean } & AdoptedImage)
  /** A signature or the like of which not everything is there. */
  | { readonly kind: 'left-out'; readonly name: string; readonly reason: string };

export interface ImportOptions {
  /** What to call its image, or the repository of its images, in place of what it says. */
  readonly name: string | undefined;
  /** Told of bytes on their way. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
}

interface Sent extends BlobSize {
  readonly name: string;
  /** The file it is in, or the bytes themselves. */
  readonly from: string | Buffer;
}

/**
 * Brings to a cache what an archive has and it has not, and gives its images their names.
 * @throws ArchiveError, and what the target throws
 */
export async function* importArchive(
  archive: Archive,
  target: ImportTarget,
  options: ImportOptions,
): AsyncGenerator<ImportEvent> {
  const content = await readContent(archive);
  const images = nameImages(content.images, options.name);
  const names = await target.names(images.map(({ name }) => name));
  // Until its images are complete, an archive's blobs are the coldest of all.
  await using held = new AsyncDisposableStack();
  await requireBase(content, (blobs) => hold(target, blobs, held));
  const contained = containedBlobs(archive, content, names[0]!);
  const lacking = new Set(await hold(target, contained, held));
  const wanted = contained.filter(({ digest }) => lacking.has(digest));
  const wantedBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  await target.requireRoom(wantedBytes);
  yield {
    kind: 'plan',
    images: images.filter(({ isAttachment }) => !isAttachment).length,
    blobs: wanted.length,
    bytes: wantedBytes,
    present: contained.length - wanted.length,
  };
  yield* send(archive, target, { wanted, ...options });
  const named = images.map((image, index) => ({ ...image, name: names[index]! }));
  // What goes with an image is there when the image is.
  for (const { isAttachment, ...image } of named.toSorted((one, other) => +other.isAttachment - +one.isAttachment)) {
    try {
      for await (const adopted of target.adopt([image])) yield { kind: 'image', isAttachment, ...adopted };
    } catch (error) {
      if (!isAttachment) throw error;
      yield { kind: 'left-out', name: image.name, reason: error instanceof Error ? error.message : String(error) };
    }
  }
}

/** @throws ArchiveError where an archive builds upon something that is not there */
async function requireBase(
  { description, images }: ArchivedContent,
  lackingOf: (blobs: readonly BlobSize[]) => Promise<readonly Digest[]>,
): Promise<void> {
  if (!description || description.needs.length === 0) return;
  const lacking = await lackingOf(description.needs);
  if (lacking.length === 0) return;
  const base = description.base ?? 'another one';
  throw new ArchiveError(
    `it has only what is new since archive ${base}: import that one first (${lacking.length} of the blobs of its ${images.length} images are not here)`,
  );
}

function containedBlobs(archive: Archive, { blobs, manifests }: ArchivedContent, name: string): Sent[] {
  return [
    ...[...manifests].map(([digest, bytes]) => ({
      digest,
      size: bytes.length,
      name,
      from: archive.files.has(blobName(digest)) ? blobName(digest) : bytes,
    })),
    ...blobs.map(({ digest, size, file }) => ({ digest, size, name, from: file })),
  ];
}

/** Holds blobs. @returns those that are not there */
async function hold(
  target: ImportTarget,
  blobs: readonly BlobSize[],
  held: AsyncDisposableStack,
): Promise<readonly Digest[]> {
  const lacking: Digest[] = [];
  for (let start = 0; start < blobs.length; start += batchSize) {
    const batch = blobs.slice(start, start + batchSize).map(({ digest, size }) => ({ digest, size }));
    lacking.push(...held.use(await target.hold(batch)).lacking);
  }
  return lacking;
}

async function* send(
  archive: Archive,
  target: ImportTarget,
  { wanted, onBytes, signal }: { wanted: readonly Sent[] } & ImportOptions,
): AsyncGenerator<ImportEvent> {
  const byFile = new Map<string, Sent>();
  for (const blob of wanted) {
    if (typeof blob.from === 'string') byFile.set(blob.from, blob);
    else yield await sendOne(target, blob, { body: [Buffer.from(blob.from)], onBytes, signal });
  }
  if (byFile.size === 0) return;
  for await (const { name, body } of archive.visit(new Set(byFile.keys()))) {
    yield await sendOne(target, byFile.get(name)!, { body, onBytes, signal });
  }
}

async function sendOne(
  target: ImportTarget,
  { digest, size, name }: Sent,
  {
    body,
    onBytes,
    signal,
  }: { body: AsyncIterable<Buffer> | Iterable<Buffer> } & Pick<ImportOptions, 'onBytes' | 'signal'>,
): Promise<ImportEvent> {
  async function* counted(): AsyncGenerator<Buffer> {
    for await (const chunk of body) {
      signal.throwIfAborted();
      onBytes(chunk.length);
      yield chunk;
    }
  }
  await target.receive({ digest, size }, { name, body: counted() });
  return { kind: 'blob', digest, size };
}
