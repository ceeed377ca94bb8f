import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BlobSize } from '../../../archive/description.ts';
import type { Fills } from '../../../mirror/fill/fills.ts';
import { isElsewhere } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';
import { hasReason, isTransient, RegistryError } from '../../../oci/error.ts';
import { octetStream } from '../../../oci/media-types.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import { upstreamOf } from '../../../store/catalog/grant-records.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import type { Repository } from '../../../upstream/repository.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import { Turns } from '../../../waiting/turns.ts';
import { createdAt } from '../../protocol/created-at.ts';
import {
  type AdoptedImage,
  type KnownName,
  type NewImage,
  otherBytes,
  type RefusedImage,
} from '../../protocol/import.ts';
import { namedImage } from './named-images.ts';
import { pushedSource } from './pushed-source.ts';
import { IncompleteError, type WholeManifest, wholeImage } from './whole-image.ts';

/** How many deliveries are noted in one go. */
const deliveriesPerTurn = 1000;

export interface ImportsOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly fills: Fills;
  readonly upstreams: UpstreamTable;
  readonly now: () => number;
}

/** Takes in blobs that a command sends, and makes images of them once they are whole. */
export class Imports {
  readonly #options: ImportsOptions;

  constructor(options: ImportsOptions) {
    this.#options = options;
  }

  /** Which of these blobs an archive has not brought yet, as far as is known. */
  undelivered(blobs: readonly BlobSize[], archive: Digest): Digest[] {
    const { deliveries } = this.#options.catalog;
    return blobs.flatMap(({ digest }) => (deliveries.has(archive, digest) ? [] : [digest]));
  }

  /** Which of these blobs are not on this disk in their right size. @throws DiskFault */
  async lacking(blobs: readonly BlobSize[]): Promise<Digest[]> {
    const lacking: Digest[] = [];
    for (const blob of blobs) if (!(await this.#has(blob))) lacking.push(blob.digest);
    return lacking;
  }

  /** The content of this cache under the names of images; `refused` where one is of no upstream that is configured. */
  async *known(images: readonly NewImage[]): AsyncGenerator<KnownName | RefusedImage> {
    for (const image of images) {
      try {
        yield await this.#known(image);
      } catch (error) {
        if (!(error instanceof RegistryError) || isTransient(error)) throw error;
        yield { name: image.name, refused: error.message };
      }
    }
  }

  async #known({ name: text, digest }: NewImage): Promise<KnownName> {
    const { catalog, store, upstreams } = this.#options;
    const { repository, tag, name } = namedImage(upstreams, text);
    if (tag === undefined) {
      const isHere = catalog.manifests.has(digest) && catalog.grants.mayRead(repository.key, digest);
      return { name, now: isHere ? digest : null, change: isHere ? 'same' : 'new', createdAtMs: null };
    }
    const record = catalog.tags.get({ repository: repository.key, tag, variant: '' });
    if (record === undefined) return { name, now: null, change: 'new', createdAtMs: null };
    const now = record.digest;
    if (now === digest) return { name, now, change: 'same', createdAtMs: null };
    // An image that was here first is the older one to this cache, whenever it was made.
    const [brought, current] = [digest, now].map((one) => catalog.images.manifest(one)?.storedAtMs);
    if (brought !== undefined && current !== undefined && brought < current) {
      return { name, now, change: 'older', createdAtMs: null };
    }
    const created = await createdAt({ digest: now, mediaType: record.contentType }, (part) => store.read(part.digest));
    return { name, now, change: 'moved', createdAtMs: created ?? null };
  }

  /**
   * Takes in a blob: a fill like any other, with the bytes that are brought as one of its sources. Nothing can be read of
   * it before an image names it.
   * @param options `repository`: the one of an image that it is for
   * @returns whether the bytes were looked at: they are not where the blob is here
   * @throws RegistryError where the bytes are not the blob, or the disk does not take it; the signal's reason
   */
  async receive(
    { digest, size }: BlobSize,
    { repository, body, signal }: { repository: Repository; body: AsyncIterable<Uint8Array>; signal: AbortSignal },
  ): Promise<boolean> {
    if (await this.#has({ digest, size })) return false;
    const source = pushedSource({ digest, size, body, repository: repository.key });
    const joiner = { repository, sources: [source], expectedSize: size, isLocal: true };
    try {
      await this.#options.fills.bring(digest, joiner, { signal });
      return source.isRead;
    } catch (error) {
      if (!source.isRead || hasReason(error, 'disk-fault')) throw error;
      throw new RegistryError('damaged', otherBytes(digest), { cause: error });
    }
  }

  /**
   * Notes that an archive has the bytes of blobs that are here.
   * @param options `base`: an archive that has to have brought them; what it has not is left out
   */
  async deliver(
    digests: readonly Digest[],
    { archive, base }: { archive: Digest; base: Digest | undefined },
  ): Promise<void> {
    const { deliveries } = this.#options.catalog;
    for (let start = 0; start < digests.length; start += deliveriesPerTurn) {
      const some = digests.slice(start, start + deliveriesPerTurn);
      deliveries.record(archive, base === undefined ? some : some.filter((digest) => deliveries.has(base, digest)));
      await nextTurn();
    }
  }

  /**
   * Gives images their names: each only if all that it needs is here, and then all of it at once. What is here for the
   * sake of other repositories counts only if the archive has it, too: to know a digest gives no right to its bytes.
   * @param options `archive`: what they come with
   * @returns what has become of each; of one that is refused nothing has changed
   * @throws DiskFault; the signal's reason
   */
  async *adopt(
    images: readonly NewImage[],
    options: { archive: Digest; signal: AbortSignal },
  ): AsyncGenerator<AdoptedImage | RefusedImage> {
    // Where an archive comes from, a lost blob may not be had again.
    await this.#options.store.sync();
    for (const image of images) {
      try {
        yield await this.#adopt(image, options);
      } catch (error) {
        // A fault of one image says nothing of the next; a fault of the disk does.
        if (!(error instanceof RegistryError) || isTransient(error)) throw error;
        yield {
          name: image.name,
          refused: error.message,
          ...(error instanceof IncompleteError && { lacks: error.lacks }),
        };
      }
    }
  }

  /** @throws RegistryError in one sentence where something is missing or is not what it should be */
  async #adopt(
    { name: text, digest, mediaType }: NewImage,
    { archive, signal }: { archive: Digest; signal: AbortSignal },
  ): Promise<AdoptedImage> {
    const { store, catalog, upstreams, now } = this.#options;
    const { repository, tag, digest: named, name } = namedImage(upstreams, text);
    if (named !== undefined && named !== digest) {
      throw new RegistryError('bad-manifest', `what is called ${name} is ${digest}`);
    }
    const { manifest, manifests, leftOut } = await wholeImage({ digest, mediaType }, { name, store, signal });
    for (const part of manifests) await this.#requireRights(repository.key, part, { name, archive });
    for (const part of manifests) {
      await this.#recordBlobs(repository.key, part);
      await catalog.manifests.prepare(part.digest, { repository: repository.key, links: part.links });
    }
    // Its parts before it, and its tag last: all in one turn, so that nothing comes between.
    for (const { digest: own, size, contentType, links } of manifests) {
      catalog.manifests.record(own, { repository: repository.key, source: 'archive', size, contentType, links });
    }
    if (tag !== undefined) {
      const { contentType, size } = manifest;
      const record = { digest, contentType, size, checkedAtMs: now() };
      catalog.tags.record({ repository: repository.key, tag, variant: '' }, record);
    }
    return { name, digest, leftOut };
  }

  /** @throws RegistryError DENIED where a repository would come by what is another one's */
  async #requireRights(
    repository: string,
    { digest, links }: WholeManifest,
    { name, archive }: { name: string; archive: Digest },
  ): Promise<void> {
    const { catalog } = this.#options;
    const turns = new Turns();
    for (const part of [{ digest, size: -1, mediaType: '' }, ...links.blobs]) {
      await turns.next();
      if (catalog.grants.isReadable(repository, part.digest) || catalog.deliveries.has(archive, part.digest)) continue;
      if (isElsewhere(part) && !(await this.#has(part))) continue;
      throw new RegistryError(
        'not-allowed',
        `${name} needs ${part.digest}, which is here for other repositories: import an archive that has it`,
      );
    }
  }

  /** Records what a manifest names: the archive has brought it for this repository, or its upstream has shown it. */
  async #recordBlobs(repository: string, { links }: WholeManifest): Promise<void> {
    const { catalog } = this.#options;
    const upstream = upstreamOf(repository);
    const turns = new Turns();
    for (const blob of links.blobs) {
      await turns.next();
      // A process that was killed may have left the blob without its row.
      if (!catalog.blobs.get(blob.digest) && !isElsewhere(blob) && blob.size >= 0) {
        catalog.blobs.record(blob.digest, { size: blob.size, contentType: octetStream });
      }
      catalog.blobs.noteShown(blob.digest, upstream);
    }
  }

  async #has({ digest, size }: BlobSize): Promise<boolean> {
    await using blob = await this.#options.store.open(digest);
    return blob !== undefined && (size < 0 || blob.size === size);
  }
}
