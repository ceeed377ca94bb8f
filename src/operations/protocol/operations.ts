import type { BlobSize } from '../../archive/description.ts';
import type { Digest } from '../../oci/digest.ts';
import type { ListEvent, ListParameters, PinEvent, RemovalEvent, RemovalQuery } from './administration.ts';
import type { ExportEvent, ExportParameters } from './export.ts';
import type { FetchEvent, FetchParameters } from './fetch.ts';
import type { DecisionEvent, DecisionParameters, HeldEvent } from './holds.ts';
import type { AdoptedImage, HeldBlobs, ImportRoom, KnownName, NewImage, ReceivedBlob, RefusedImage } from './import.ts';
import type { KeyEvent, KeyParameters } from './keys.ts';
import type { OperationContext } from './operation.ts';
import type { SearchEvent, SearchParameters } from './search.ts';
import type { CheckupEvent, CheckupParameters } from './verify.ts';

/**
 * The requests of commands to the process that owns a cache directory: a running mirror over its control socket, or the
 * command itself where no mirror runs. Parameters in, events out, all of it JSON; an operation has succeeded when its
 * events end. Each throws Error in one sentence, and the reason of the context's signal.
 */
export interface Operations {
  /** Fetches images whole, with their referrers. */
  fetch(parameters: FetchParameters, context: OperationContext): AsyncIterable<FetchEvent>;

  /** Says what the images to export consist of; the command reads their blobs from the disk itself. */
  exportImages(parameters: ExportParameters, context: OperationContext): AsyncIterable<ExportEvent>;

  /** Says, in one event, which blobs are missing here. None of the others is evicted until the command leaves. */
  exportHold(
    parameters: { readonly blobs: readonly BlobSize[] },
    context: OperationContext,
  ): AsyncIterable<Pick<HeldBlobs, 'lacking'>>;

  /** Says, in one event, what the cache has under the names of images, in their order. */
  importNames(
    parameters: { readonly images: readonly NewImage[] },
    context: OperationContext,
  ): AsyncIterable<readonly (KnownName | RefusedImage)[]>;

  /** Says, in one event, which blobs of an archive are missing here. None of them is evicted until the command leaves. */
  importHold(
    parameters: { readonly blobs: readonly BlobSize[]; readonly archive: Digest },
    context: OperationContext,
  ): AsyncIterable<HeldBlobs>;

  /** Reports, in one event, whether the cache has space for a number of bytes. */
  importRoom(parameters: { readonly bytes: number }, context: OperationContext): AsyncIterable<ImportRoom>;

  /** Stores the blob that is the context's input. @param parameters `name`: an image that needs it */
  importBlob(parameters: BlobSize & { readonly name: string }, context: OperationContext): AsyncIterable<ReceivedBlob>;

  /**
   * Notes which blobs an archive contains, which gives its images the right to them. With `base`: blobs that are left to
   * that archive, as far as it is known to have brought them.
   */
  importDelivered(
    parameters: { readonly digests: readonly Digest[]; readonly archive: Digest; readonly base: Digest | undefined },
    context: OperationContext,
  ): AsyncIterable<{ readonly archive: Digest }>;

  /** Names images of an archive, each only if it is whole and all of it is the archive's or its repository's. */
  importImages(
    parameters: { readonly images: readonly NewImage[]; readonly archive: Digest },
    context: OperationContext,
  ): AsyncIterable<AdoptedImage | RefusedImage>;

  /** Lists stored images. */
  list(parameters: ListParameters, context: OperationContext): AsyncIterable<ListEvent>;

  /** Removes images and what nothing else needs of them. */
  remove(parameters: RemovalQuery, context: OperationContext): AsyncIterable<RemovalEvent>;

  /** Keeps images from being evicted. */
  pin(parameters: { readonly images: readonly string[] }, context: OperationContext): AsyncIterable<PinEvent>;

  /** Ends what `pin` began. */
  unpin(parameters: { readonly images: readonly string[] }, context: OperationContext): AsyncIterable<PinEvent>;

  /** Makes a key of a robot, and shows it in one event: later nothing does. */
  keyCreate(parameters: KeyParameters, context: OperationContext): AsyncIterable<KeyEvent & { readonly key: string }>;

  /** Lists the keys of robots. */
  keyList(parameters: object, context: OperationContext): AsyncIterable<KeyEvent>;

  /** Removes keys by id, or all keys of a name. */
  keyRemove(parameters: { readonly keys: readonly string[] }, context: OperationContext): AsyncIterable<KeyEvent>;

  /** Finds what is stored, regardless of who may read it. */
  search(parameters: SearchParameters, context: OperationContext): AsyncIterable<SearchEvent>;
  /** Approves or rejects images that are held for a scanner. */
  decide(parameters: DecisionParameters, context: OperationContext): AsyncIterable<DecisionEvent>;

  /** Lists what is held, and what was rejected. */
  listHeld(parameters: object, context: OperationContext): AsyncIterable<HeldEvent>;

  /** Hashes stored content again. */
  verify(parameters: CheckupParameters, context: OperationContext): AsyncIterable<CheckupEvent>;
}
