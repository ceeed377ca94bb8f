import type { Archive } from '../../archive/archive.ts';
import { ArchiveError } from '../../archive/archive-error.ts';
import { type ArchivedBlob, type ArchivedContent, readContent } from '../../archive/archived-content.ts';
import type { BlobSize } from '../../archive/description.ts';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import { type AdoptedImage, type NewImage, otherBytes, type RefusedImage } from '../owner/archives/imports.ts';
import { nameImages } from './import-names.ts';

/** Most blobs that are spoken of at once. */
const batchSize = 20_000;

/** Blobs that are not evicted until it is disposed, should they be there or come. */
export interface HeldBlobs extends AsyncDisposable {
  /** Those that are not there. */
  readonly lacking: readonly Digest[];
  /** Those that the archive is not known to have brought. */
  readonly undelivered: readonly Digest[];
}

/** A cache that blobs and images are brought to, wherever its owner is. */
export interface ImportTarget {
  /** The names as the cache has them. @throws Error where one is of no upstream that is configured */
  names(texts: readonly string[]): Promise<readonly string[]>;
  /** Keeps blobs of an archive from being evicted, and says which of them are not there in their right size. */
  hold(blobs: readonly BlobSize[], archive: Digest): Promise<HeldBlobs>;
  /** @throws Error where so much cannot be taken in */
  requireRoom(bytes: number): Promise<void>;
  /**
   * Takes in a blob; the chunks are the target's from then on.
   * @throws Error where the disk does not take it
   */
  receive(blob: BlobSize, options: { name: string; body: AsyncIterable<Uint8Array> }): Promise<ReceivedBlob>;
  /** Is told which blobs an archive has, or builds upon as far as `base` has brought them. */
  delivered(
    digests: readonly Digest[],
    options: { readonly archive: Digest; readonly base: Digest | undefined },
  ): Promise<void>;
  /** Gives images of an archive their names, each only if it is whole, and all of it the archive's or its repository's. */
  adopt(images: readonly NewImage[], archive: Digest): AsyncIterable<AdoptedImage | RefusedImage>;
}

/** What has become of a blob. */
export interface ReceivedBlob {
  /** Whether every byte was looked at: they are not, where it has come another way meanwhile. */
  readonly isTaken: boolean;
  /** In one sentence, where the bytes are not the blob. */
  readonly wrong?: string;
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
  /** A blob of the archive whose bytes are other ones than its digest says; nothing of it is kept. */
  | { readonly kind: 'damaged'; readonly digest: Digest; readonly reason: string }
  | {
      readonly kind: 'image';
      readonly isAttachment: boolean;
      readonly name: string;
      readonly digest: Digest;
      readonly leftOut: readonly LeftOutPart[];
    }
  /** An image that there is something wrong with. */
  | { readonly kind: 'refused'; readonly name: string; readonly reason: string }
  /** The same of a signature or the like. */
  | { readonly kind: 'left-out'; readonly name: string; readonly reason: string };

/** What of an index is in neither the archive nor the cache, or is damaged. */
export interface LeftOutPart {
  /** Its platform as `os/architecture`, or its digest. */
  readonly name: string;
  /** In one sentence, where it is in the archive and damaged. */
  readonly damage?: string;
}

export interface ImportOptions {
  /** What to call its image, or the repository of its images, in place of what it says. */
  readonly name: string | undefined;
  /** The archive that it is according to the list beside it, where there is one. */
  readonly listed: Digest | undefined;
  /** Told of bytes on their way. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
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
  if (options.listed !== undefined && options.listed !== content.id) {
    throw new ArchiveError(`it is archive ${content.id}, and the list beside it is of archive ${options.listed}`);
  }
  const images = nameImages(content.images, options.name);
  const names = await target.names(images.map(({ name }) => name));
  // Until its images are complete, an archive's blobs are the coldest of all.
  await using held = new AsyncDisposableStack();
  const holding = { archive: content.id, held };
  const needs = await hold(target, content.description?.needs ?? [], holding);
  requireBase(content, needs.lacking.size);
  const contained = [...content.manifests, ...content.blobs];
  const { lacking, undelivered } = await hold(target, contained, holding);
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
  const sending = { ...options, name: names[0]! };
  const first = yield* send(archive, target, { ...sending, wanted });
  // What an earlier run had left of a blob may have been wrong, and is gone now.
  const again = wanted.filter(({ digest }) => first.wrong.has(digest));
  const { taken, wrong } = yield* send(archive, target, { ...sending, wanted: again, onBytes: () => undefined });
  // Manifests were verified when they were read.
  const proven = new Set([...content.manifests.map(({ digest }) => digest), ...first.taken, ...taken]);
  const passedOver = contained.filter(
    ({ digest }) => undelivered.has(digest) && !proven.has(digest) && !wrong.has(digest),
  );
  for await (const { digest, isRight } of hashed(archive, passedOver, options)) {
    if (isRight) proven.add(digest);
    else wrong.set(digest, otherBytes(digest));
  }
  for (const [digest, reason] of wrong) yield { kind: 'damaged', digest, reason };
  await tell(target, { digests: [...undelivered].filter((digest) => proven.has(digest)), archive: content.id });
  const base = content.description?.base;
  if (base) await tell(target, { digests: [...needs.undelivered], archive: content.id, base });
  const named = images.map((image, index) => ({ ...image, name: names[index]! }));
  // What goes with an image is there when the image is.
  for (const { isAttachment, ...image } of named.toSorted((one, other) => +other.isAttachment - +one.isAttachment)) {
    for await (const outcome of target.adopt([image], content.id)) {
      if (!('refused' in outcome)) {
        const { name, digest } = outcome;
        yield { kind: 'image', isAttachment, name, digest, leftOut: leftOutParts(outcome, wrong) };
      } else {
        yield { kind: isAttachment ? 'left-out' : 'refused', name: image.name, reason: explained(outcome, wrong) };
      }
    }
  }
}

/** Why an image is refused, with what is known of the blob that it lacks. */
function explained({ refused, lacks }: RefusedImage, wrong: ReadonlyMap<Digest, string>): string {
  const damage = lacks && wrong.get(lacks);
  return damage === undefined ? refused : `${refused}: ${damage}`;
}

/** Each name once: several attestations are of no platform. */
function leftOutParts({ leftOut }: AdoptedImage, wrong: ReadonlyMap<Digest, string>): LeftOutPart[] {
  const parts = new Map<string, LeftOutPart>();
  for (const { name, lacks } of leftOut) {
    const damage = wrong.get(lacks);
    if (damage !== undefined) parts.set(name, { name, damage });
    else if (!parts.has(name)) parts.set(name, { name });
  }
  return [...parts.values()];
}

/** @throws ArchiveError where an archive builds upon something that is not there */
function requireBase({ description, images }: ArchivedContent, lacking: number): void {
  if (lacking === 0) return;
  const base = description?.base ?? 'another one';
  throw new ArchiveError(
    `it has only what is new since archive ${base}: import that one first (${lacking} of the blobs of its ${images.length} images are not here)`,
  );
}

/** Holds blobs until `held` is disposed. */
async function hold(
  target: ImportTarget,
  blobs: readonly BlobSize[],
  { archive, held }: { archive: Digest; held: AsyncDisposableStack },
): Promise<{ lacking: Set<Digest>; undelivered: Set<Digest> }> {
  const [lacking, undelivered] = [new Set<Digest>(), new Set<Digest>()];
  for (let start = 0; start < blobs.length; start += batchSize) {
    const batch = blobs.slice(start, start + batchSize).map(({ digest, size }) => ({ digest, size }));
    const found = held.use(await target.hold(batch, archive));
    for (const digest of found.lacking) lacking.add(digest);
    for (const digest of found.undelivered) undelivered.add(digest);
  }
  return { lacking, undelivered };
}

/** Tells the target which blobs an archive has, or may count as its own where its base has brought them. */
async function tell(
  target: ImportTarget,
  { digests, archive, base }: { digests: readonly Digest[]; archive: Digest; base?: Digest | undefined },
): Promise<void> {
  for (let start = 0; start < digests.length; start += batchSize) {
    await target.delivered(digests.slice(start, start + batchSize), { archive, base });
  }
}

/** Looks at the bytes of blobs that need not be sent: that an archive has a file by the right name proves nothing. */
async function* hashed(
  archive: Archive,
  blobs: readonly ArchivedBlob[],
  { signal }: Pick<ImportOptions, 'signal'>,
): AsyncGenerator<{ readonly digest: Digest; readonly isRight: boolean }> {
  const byFile = new Map(blobs.flatMap(({ digest, from }) => (typeof from === 'string' ? [[from, digest]] : [])));
  if (byFile.size === 0) return;
  for await (const { name, body } of archive.visit(new Set(byFile.keys()))) {
    const digest = byFile.get(name)!;
    const hash = hasherFor(digest);
    for await (const chunk of body) {
      signal.throwIfAborted();
      hash.update(chunk);
    }
    yield { digest, isRight: finishDigest(digestAlgorithm(digest), hash) === digest };
  }
}

/** @returns those of which the target has looked at every byte, and those whose bytes are other ones, with a sentence */
async function* send(
  archive: Archive,
  target: ImportTarget,
  {
    wanted,
    name: image,
    onBytes,
    signal,
  }: { wanted: readonly ArchivedBlob[]; name: string } & Pick<ImportOptions, 'onBytes' | 'signal'>,
): AsyncGenerator<ImportEvent, { taken: ReadonlySet<Digest>; wrong: Map<Digest, string> }> {
  const taken = new Set<Digest>();
  const wrong = new Map<Digest, string>();
  const byFile = new Map<string, ArchivedBlob>();
  async function* sendOne(
    { digest, size }: ArchivedBlob,
    body: AsyncIterable<Buffer> | Iterable<Buffer>,
  ): AsyncGenerator<ImportEvent> {
    async function* counted(): AsyncGenerator<Buffer> {
      for await (const chunk of body) {
        signal.throwIfAborted();
        onBytes(chunk.length);
        yield chunk;
      }
    }
    const received = await target.receive({ digest, size }, { name: image, body: counted() });
    if (received.wrong !== undefined) {
      wrong.set(digest, received.wrong);
      return;
    }
    if (received.isTaken) taken.add(digest);
    yield { kind: 'blob', digest, size };
  }
  for (const blob of wanted) {
    if (typeof blob.from === 'string') byFile.set(blob.from, blob);
    else yield* sendOne(blob, [Buffer.from(blob.from)]);
  }
  if (byFile.size === 0) return { taken, wrong };
  for await (const { name, body } of archive.visit(new Set(byFile.keys()))) {
    yield* sendOne(byFile.get(name)!, body);
  }
  return { taken, wrong };
}
