import type { Archive } from '../../archive/archive.ts';
import { ArchiveError } from '../../archive/archive-error.ts';
import { type ArchivedBlob, type ArchivedContent, readContent } from '../../archive/archived-content.ts';
import type { BlobSize } from '../../archive/description.ts';
import type { Digest } from '../../oci/digest.ts';
import { type AdoptedImage, type ImageChange, otherBytes, type RefusedImage } from '../protocol/import.ts';
import { noInput } from '../protocol/operation.ts';
import type { Operations } from '../protocol/operations.ts';
import { batchSize, firstOf, holdAll, NoRoom } from './asking.ts';
import { type ChosenImage, chooseImages } from './chosen-images.ts';
import { hashed, type ImportRun, send } from './sending.ts';

/** The events of an import. */
export type ImportEvent =
  /** Of a dry run, and nothing else than these, refused images and the plan. */
  | ({ readonly kind: 'foreseen'; readonly isAttachment: boolean } & NameChange)
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
  | ({ readonly kind: 'image'; readonly isAttachment: boolean; readonly leftOut: readonly LeftOutPart[] } & NameChange)
  /** An image that was not taken in. */
  | { readonly kind: 'refused'; readonly name: string; readonly reason: string }
  /** The same of a signature or the like. */
  | { readonly kind: 'left-out'; readonly name: string; readonly reason: string };

/** The change of an image under its name. */
export interface NameChange {
  readonly name: string;
  readonly digest: Digest;
  readonly change: ImageChange;
  /** The digest that the name stood for before; `null`: none. */
  readonly before: Digest | null;
}

/** Entries of an index that are in neither the archive nor the cache, or are damaged. */
export interface LeftOutPart {
  /** Its platform as `os/architecture`, or its digest. */
  readonly name: string;
  /** In one sentence, where it is in the archive and damaged. */
  readonly damage?: string;
}

export interface ImportOptions {
  /** The name of its image, or of the repository of its images, in place of its own. */
  readonly name: string | undefined;
  /** The archive that it is according to the list beside it, where there is one. */
  readonly listed: Digest | undefined;
  /** Only says what would be done. */
  readonly dryRun: boolean;
  /** Receives the number of bytes as they are sent. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Imports what an archive has and a cache lacks, and assigns names to its images. An error in one image is
 * reported with that image, and the others are imported.
 * @throws ArchiveError, NoRoom, and what the operations throw
 */
export async function* importArchive(
  archive: Archive,
  operations: Operations,
  options: ImportOptions,
): AsyncGenerator<ImportEvent> {
  const { dryRun, signal } = options;
  const content = await readContent(archive);
  requireListed(content, options.listed);
  const run = { operations, archive: content.id, signal };

  // Which images there are, and what they are called here.
  const { images, refused } = await chooseImages({ archive, content, override: options.name }, run);
  for (const { isAttachment, name, reason } of refused) {
    yield { kind: isAttachment ? 'left-out' : 'refused', name, reason };
  }
  if (dryRun) for (const { mediaType: _, ...image } of images) yield { kind: 'foreseen', ...image };

  // Which blobs the cache lacks. Until its images are complete, an archive's blobs are the coldest of all.
  await using held = new AsyncDisposableStack();
  const needs = await hold(run, content.description?.needs ?? [], held);
  requireBase(content, needs.lacking.size);
  const contained = partsOf(content, images);
  const { lacking, undelivered, isReserved } = await hold(run, contained, held);
  const wanted = contained.filter(({ digest }) => lacking.has(digest));
  const wantedBytes = wanted.reduce((sum, { size }) => sum + size, 0);
  const room = await firstOf(operations.importRoom({ bytes: wantedBytes }, { signal, input: noInput() }));
  if (!room.isEnough || !isReserved) throw new NoRoom(wantedBytes, room);
  yield {
    kind: 'plan',
    images: images.filter(({ isAttachment }) => !isAttachment).length,
    blobs: wanted.length,
    bytes: wantedBytes,
    present: contained.length - wanted.length,
  };
  if (dryRun || images.length === 0) return;

  // The bytes. Manifests were verified when they were read.
  const found: FoundBytes = { proven: new Set(content.manifests.map(({ digest }) => digest)), wrong: new Map() };
  yield* deliver(archive, run, { blobs: wanted, image: images[0]!.name, onBytes: options.onBytes, found });
  await hashUndelivered(archive, { blobs: contained, undelivered, found, signal });
  const { proven, wrong } = found;
  for (const [digest, reason] of content.wrong) if (content.damaged.has(digest)) wrong.set(digest, reason);
  for (const [digest, reason] of wrong) yield { kind: 'damaged', digest, reason };
  await noteDelivered(run, { digests: [...undelivered].filter((digest) => proven.has(digest)) });
  const base = content.description?.base;
  if (base) await noteDelivered(run, { digests: [...needs.undelivered], base });

  yield* nameAll(images, run, new Map([...content.wrong, ...wrong]));
}

/** The findings about the bytes of an archive. */
interface FoundBytes {
  /** Blobs whose bytes have been hashed and are right. */
  readonly proven: Set<Digest>;
  /** The fault of the others, in one sentence. */
  readonly wrong: Map<Digest, string>;
}

/** Sends blobs, and again those that arrived wrong: the remains of an earlier run, which are gone then, may have caused it. */
async function* deliver(
  archive: Archive,
  run: ImportRun,
  {
    blobs,
    image,
    onBytes,
    found: { proven, wrong },
  }: Pick<ImportOptions, 'onBytes'> & {
    readonly blobs: readonly ArchivedBlob[];
    readonly image: string;
    readonly found: FoundBytes;
  },
): AsyncGenerator<ImportEvent> {
  for (const attempt of ['first', 'second']) {
    const isFirst = attempt === 'first';
    const now = isFirst ? blobs : blobs.filter(({ digest }) => wrong.has(digest));
    for await (const sent of send(archive, run, { blobs: now, image, onBytes: isFirst ? onBytes : ignore })) {
      const { digest, size } = sent.blob;
      if (sent.wrong === undefined) wrong.delete(digest);
      else wrong.set(digest, sent.wrong);
      if (sent.isTaken) proven.add(digest);
      if (sent.wrong === undefined) yield { kind: 'blob', digest, size };
    }
  }
}

/** Hashes what the cache has already, but not from this archive, and what was not hashed on its way. */
async function hashUndelivered(
  archive: Archive,
  {
    blobs,
    undelivered,
    found: { proven, wrong },
    signal,
  }: {
    readonly blobs: readonly ArchivedBlob[];
    readonly undelivered: ReadonlySet<Digest>;
    readonly found: FoundBytes;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const unknown = blobs.filter(({ digest }) => undelivered.has(digest) && !proven.has(digest) && !wrong.has(digest));
  for await (const { digest, isRight } of hashed(archive, unknown, signal)) {
    if (isRight) proven.add(digest);
    else wrong.set(digest, otherBytes(digest));
  }
}

/** Gives images their names. The attachments of an image come after it. */
async function* nameAll(
  images: readonly ChosenImage[],
  { operations, archive, signal }: ImportRun,
  wrong: ReadonlyMap<Digest, string>,
): AsyncGenerator<ImportEvent> {
  const inOrder = images.toSorted((one, other) => +other.isAttachment - +one.isAttachment);
  for (const { isAttachment, mediaType, ...named } of inOrder) {
    const { name, digest } = named;
    const adopting = { images: [{ name, digest, mediaType }], archive };
    for await (const outcome of operations.importImages(adopting, { signal, input: noInput() })) {
      if ('refused' in outcome) {
        yield { kind: isAttachment ? 'left-out' : 'refused', name, reason: explained(outcome, wrong) };
      } else yield { kind: 'image', isAttachment, ...named, leftOut: leftOutParts(outcome, wrong) };
    }
  }
}

/** The content of the chosen images in an archive. */
function partsOf({ manifests, blobs, links }: ArchivedContent, images: readonly ChosenImage[]): ArchivedBlob[] {
  const reached = new Set(images.map(({ digest }) => digest));
  for (const digest of reached) {
    const { manifests: named = [], blobs: held = [] } = links.get(digest) ?? {};
    for (const part of named) reached.add(part);
    for (const part of held) reached.add(part);
  }
  return [...manifests, ...blobs].filter(({ digest }) => reached.has(digest));
}

function ignore(): void {}

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

/** @throws ArchiveError where the list beside an archive is of another one */
function requireListed({ id }: ArchivedContent, listed: Digest | undefined): void {
  if (listed === undefined || listed === id) return;
  throw new ArchiveError(`it is archive ${id}, and the list beside it is of archive ${listed}`);
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
  { operations, archive, signal }: ImportRun,
  blobs: readonly BlobSize[],
  held: AsyncDisposableStack,
): Promise<{ lacking: Set<Digest>; undelivered: Set<Digest>; isReserved: boolean }> {
  const [lacking, undelivered] = [new Set<Digest>(), new Set<Digest>()];
  let isReserved = true;
  const ask = (batch: readonly BlobSize[]) =>
    operations.importHold({ blobs: batch, archive }, { signal, input: noInput() });
  for await (const found of holdAll(ask, blobs, held)) {
    for (const digest of found.lacking) lacking.add(digest);
    for (const digest of found.undelivered) undelivered.add(digest);
    isReserved &&= found.isReserved;
  }
  return { lacking, undelivered, isReserved };
}

/** Notes which blobs an archive has, or may count as its own where its base has brought them. */
async function noteDelivered(
  { operations, archive, signal }: ImportRun,
  { digests, base }: { digests: readonly Digest[]; base?: Digest | undefined },
): Promise<void> {
  for (let start = 0; start < digests.length; start += batchSize) {
    const some = { digests: digests.slice(start, start + batchSize), archive, base };
    await firstOf(operations.importDelivered(some, { signal, input: noInput() }));
  }
}
