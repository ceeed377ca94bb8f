import type { BlobSize } from '../../archive/description.ts';
import { isElsewhere } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { octetStream } from '../../oci/media-types.ts';
import type { BlobStore } from '../../store/blob-store.ts';
import type { Catalog } from '../../store/catalog.ts';
import type { UpstreamTable } from '../../upstream/table.ts';
import type { Downloads } from '../fill/downloads.ts';
import { namedImage } from './named-image.ts';
import { pushedSource } from './pushed-source.ts';
import { type WholeManifest, wholeImage } from './whole-image.ts';

export interface ImportsOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly downloads: Downloads;
  readonly upstreams: UpstreamTable;
  readonly now: () => number;
}

/** An image that is to be had under a name from now on. */
export interface NewImage {
  /** Full name, with a tag or a digest. */
  readonly name: string;
  readonly digest: Digest;
  /** What its manifest is, where that does not say it itself. */
  readonly mediaType: string;
}

/** What has become of an image. */
export interface AdoptedImage {
  /** As the cache names it. */
  readonly name: string;
  readonly digest: Digest;
  /** What of it is not here: platforms of an index, each `os/architecture` or a digest. */
  readonly leftOut: readonly string[];
}

/** Takes in blobs that somebody brings, and makes images of them once they are whole. */
export class Imports {
  readonly #options: ImportsOptions;

  constructor(options: ImportsOptions) {
    this.#options = options;
  }

  /** Which of these blobs are not on this disk in their right size. @throws DiskFault */
  async lacking(blobs: readonly BlobSize[]): Promise<Digest[]> {
    const lacking: Digest[] = [];
    for (const blob of blobs) if (!(await this.#has(blob))) lacking.push(blob.digest);
    return lacking;
  }

  /** The full name that this cache has for an image. @throws RegistryError where it is of no upstream that is configured */
  nameOf(text: string): string {
    return namedImage(this.#options.upstreams, text).name;
  }

  /**
   * Takes in a blob: a fill like any other, with the bytes that are brought as one of its sources. Nothing can be read of
   * it before an image names it.
   * @param options `name`: an image that it is for
   * @throws RegistryError where the bytes are not the blob, or the disk does not take it; the signal's reason
   */
  async receive(
    { digest, size }: BlobSize,
    { name, body, signal }: { name: string; body: AsyncIterable<Uint8Array>; signal: AbortSignal },
  ): Promise<void> {
    if (await this.#has({ digest, size })) return;
    const { target } = namedImage(this.#options.upstreams, name);
    const source = pushedSource({ digest, size, body, repository: target.key });
    const joiner = { repository: target.key, sources: [source], expectedSize: size, isLocal: true };
    try {
      await this.#options.downloads.bring(digest, joiner, { signal });
    } catch (error) {
      if (!source.isRead || (error instanceof RegistryError && error.status === 507)) throw error;
      throw new RegistryError('DIGEST_INVALID', `the bytes of ${digest} are other ones than its digest says`, {
        cause: error,
      });
    }
  }

  /**
   * Gives images their names: each only if all that it needs is here, and then all of it at once.
   * @throws RegistryError in one sentence where something is missing or is not what it should be; nothing has changed
   *   then; the signal's reason
   */
  async *adopt(images: readonly NewImage[], { signal }: { signal: AbortSignal }): AsyncGenerator<AdoptedImage> {
    const { store, catalog, upstreams, now } = this.#options;
    for (const { name: text, digest, mediaType } of images) {
      const { target, tag, digest: named, name } = namedImage(upstreams, text);
      if (named !== undefined && named !== digest) {
        throw new RegistryError('MANIFEST_INVALID', `what is called ${name} is ${digest}`);
      }
      const { manifest, manifests, leftOut } = await wholeImage({ digest, mediaType }, { name, store, signal });
      // Its parts before it, and its tag last: all in one turn, so that nobody comes between.
      for (const part of manifests) this.#record(target.key, part);
      if (tag !== undefined) {
        const { contentType, size } = manifest;
        const record = { digest, contentType, size, checkedAtMs: now() };
        catalog.recordTag({ repository: target.key, tag, variant: '' }, record);
      }
      yield { name, digest, leftOut };
    }
  }

  #record(repository: string, { digest, size, contentType, links }: WholeManifest): void {
    const { catalog } = this.#options;
    for (const blob of links.blobs) {
      // A process that was killed may have left the blob without its row.
      if (catalog.blob(blob.digest) || isElsewhere(blob) || blob.size < 0) continue;
      catalog.recordBlob(blob.digest, { size: blob.size, contentType: octetStream });
    }
    catalog.recordManifest(digest, { repository, source: 'archive', size, contentType, links });
  }

  async #has({ digest, size }: BlobSize): Promise<boolean> {
    await using blob = await this.#options.store.open(digest);
    return blob !== undefined && (size < 0 || blob.size === size);
  }
}
