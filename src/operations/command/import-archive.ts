import type { Archive } from '../../archive/archive.ts';
import { ArchiveError } from '../../archive/archive-error.ts';
import { type ArchivedBlob, type ArchivedContent, readContent } from '../../archive/archived-content.ts';
import type { BlobSize } from '../../archive/description.ts';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import { type AdoptedImage, otherBytes, type RefusedImage } from '../protocol/import.ts';
import { noInput } from '../protocol/operation.ts';
import type { Operations } from '../protocol/operations.ts';
import { firstOf, NoRoom, nextOf } from './asking.ts';
import { nameImages } from './import-names.ts';

/** Most blobs that are spoken of at once. */
const batchSize = 20_000;

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
 * @throws ArchiveError, NoRoom, and what the operations throw
 */
export async function* importArchive(
  archive: Archive,
  operations: Operations,
  options: ImportOptions,
): AsyncGenerator<ImportEvent> {
  const content = await readContent(archive);
  if (options.listed !== undefined && options.listed !== content.id) {
    throw new ArchiveError(`it is archive ${content.id}, and the list beside it is of archive ${options.listed}`);
  }
  const images = nameImages(content.images, options.name);
  const { signal } = options;
  const context = { signal, input: noInput() };
  const target = { operations, archive: content.id, signal };
  const names = await firstOf(operations.importNames({ names: images.map(({ name }) => name) }, context));
  // Until its images are complete, an archive's blobs are the coldest of all.
  await using held = new AsyncDisposableStack();

  const needs = await hold(target, content.description?.needs ?? [], held);
  requireBase(content, needs.lacking.size);
  const contained = [...content.manifests, ...content.blobs];
  const { lacking, undelivered } = await hold(target, contained, held);
  const wanted = contained.filter(({ digest }) => lacking.has(digest));
  const wantedBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  const room = await firstOf(operations.importRoom({ bytes: wantedBytes }, context));
  if (!room.isEnough) throw new NoRoom(wantedBytes, room);
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
  await tell(target, { digests: [...undelivered].filter((digest) => proven.has(digest)) });
  const base = content.description?.base;
  if (base) await tell(target, { digests: [...needs.undelivered], base });
  const named = images.map((image, index) => ({ ...image, name: names[index]! }));
  // What goes with an image is there when the image is.
  for (const { isAttachment, ...image } of named.toSorted((one, other) => +other.isAttachment - +one.isAttachment)) {
    for await (const outcome of operations.importImages({ images: [image], archive: content.id }, context)) {
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

/** The cache that an archive is imported into. */
interface Target {
  readonly operations: Operations;
  readonly archive: Digest;
  readonly signal: AbortSignal;
}

/** Holds blobs until `held` is disposed. */
async function hold(
  { operations, archive, signal }: Target,
  blobs: readonly BlobSize[],
  held: AsyncDisposableStack,
): Promise<{ lacking: Set<Digest>; undelivered: Set<Digest> }> {
  const [lacking, undelivered] = [new Set<Digest>(), new Set<Digest>()];
  for (let start = 0; start < blobs.length; start += batchSize) {
    const batch = blobs.slice(start, start + batchSize).map(({ digest, size }) => ({ digest, size }));
    const events = operations.importHold({ blobs: batch, archive }, { signal, input: noInput() });
    // The owner holds them for as long as its events are read.
    const answers = events[Symbol.asyncIterator]();
    held.defer(async () => void (await answers.return?.()));
    const found = await nextOf(answers);
    for (const digest of found.lacking) lacking.add(digest);
    for (const digest of found.undelivered) undelivered.add(digest);
  }
  return { lacking, undelivered };
}

/** Notes which blobs an archive has, or may count as its own where its base has brought them. */
async function tell(
  { operations, archive, signal }: Target,
  { digests, base }: { digests: readonly Digest[]; base?: Digest | undefined },
): Promise<void> {
  for (let start = 0; start < digests.length; start += batchSize) {
    const some = { digests: digests.slice(start, start + batchSize), archive, base };
    await firstOf(operations.importDelivered(some, { signal, input: noInput() }));
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
  { operations, signal }: Target,
  { wanted, name: image, onBytes }: { wanted: readonly ArchivedBlob[]; name: string } & Pick<ImportOptions, 'onBytes'>,
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
    const sent = operations.importBlob({ digest, size, name: image }, { signal, input: counted() });
    const received = await firstOf(sent);
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
