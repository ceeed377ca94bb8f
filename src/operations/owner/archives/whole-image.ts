import { maxImageManifestsBytes, maxManifestBytes } from '../../../archive/limits.ts';
import { type Descriptor, isElsewhere, type ManifestLinks, readManifest } from '../../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import { formatPlatform, indexEntries } from '../../../oci/platform.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import type { MissingPart } from '../../protocol/import.ts';

/** Maximum nesting of indexes. */
const maxDepth = 4;
/** Maximum manifests of one image. */
const maxManifests = 10_000;

/** A manifest that is stored with everything it needs. */
export interface WholeManifest {
  readonly digest: Digest;
  readonly size: number;
  readonly contentType: string;
  readonly links: ManifestLinks;
}

/** A stored image. */
export interface WholeImage {
  /** Its root manifest. */
  readonly manifest: WholeManifest;
  /** All of its manifests, each once, and each after those that it names. */
  readonly manifests: readonly WholeManifest[];
  /** Its missing parts. */
  readonly leftOut: readonly MissingPart[];
}

/** Something that an image needs is not stored. */
export class IncompleteError extends RegistryError {
  readonly lacks: Digest;

  constructor(message: string, lacks: Digest) {
    super('incomplete', message);
    this.lacks = lacks;
  }
}

export interface WholeImageOptions {
  /** The name to use in errors. */
  readonly name: string;
  readonly store: BlobStore;
  readonly signal: AbortSignal;
}

/**
 * Examines everything that an image needs, each part once. An index is complete if one of its images is.
 * @param root its digest, and its media type if the manifest itself does not say it
 * @throws RegistryError in one sentence if something is missing, invalid, or too large; DiskFault; the signal's reason
 */
export async function wholeImage(
  root: Pick<Descriptor, 'digest' | 'mediaType'>,
  options: WholeImageOptions,
): Promise<WholeImage> {
  const inspection = new Inspection(options);
  const manifest = await inspection.look(root, 0);
  return { manifest, manifests: [...inspection.whole.values()], leftOut: [...inspection.leftOut.values()] };
}

class Inspection {
  readonly whole = new Map<Digest, WholeManifest>();
  readonly leftOut = new Map<Digest, MissingPart>();
  readonly #lacking = new Map<Digest, IncompleteError>();
  readonly #options: WholeImageOptions;
  /** Total bytes of its manifests: what they name is held in memory until everything has been examined. */
  #bytes = 0;
  /** For manifests that are not in the store's memory anyway. */
  #buffer: Buffer | undefined;

  constructor(options: WholeImageOptions) {
    this.#options = options;
  }

  async look(link: Pick<Descriptor, 'digest' | 'mediaType'>, depth: number): Promise<WholeManifest> {
    const whole = this.whole.get(link.digest);
    if (whole) return whole;
    const lacking = this.#lacking.get(link.digest);
    if (lacking) throw lacking;
    try {
      const manifest = await this.#lookAnew(link, depth);
      this.whole.set(manifest.digest, manifest);
      return manifest;
    } catch (error) {
      // Missing parts can be left out; wrong ones cannot.
      if (error instanceof IncompleteError) this.#lacking.set(link.digest, error);
      throw error;
    }
  }

  async #lookAnew(
    { digest, mediaType }: Pick<Descriptor, 'digest' | 'mediaType'>,
    depth: number,
  ): Promise<WholeManifest> {
    const { name, signal } = this.#options;
    signal.throwIfAborted();
    const bytes = await this.#manifest(digest);
    if (bytes === undefined) throw new IncompleteError(`${name} lacks its manifest ${digest}`, digest);
    const size = bytes.length;
    this.#bytes += size;
    if (depth > maxDepth || this.whole.size >= maxManifests || this.#bytes > maxImageManifestsBytes) {
      throw new RegistryError('bad-manifest', `${name} is nested too deeply or names too many manifests`);
    }
    const links = readManifest(bytes, mediaType);
    const contentType = links.mediaType === '' ? mediaType : links.mediaType;
    // The next steps may read other manifests into the same memory.
    const entries = links.manifests.length === 0 ? [] : indexEntries(bytes, contentType);
    for (const blob of links.blobs) {
      signal.throwIfAborted();
      if (isElsewhere(blob) || (await this.#has(blob))) continue;
      throw new IncompleteError(`${name} is not whole: it lacks ${blob.digest}`, blob.digest);
    }
    let wholeEntries = 0;
    let firstFailure: IncompleteError | undefined;
    for (const entry of entries) {
      try {
        await this.look(entry, depth + 1);
        wholeEntries += 1;
      } catch (error) {
        const lacking = this.#lacking.get(entry.digest);
        if (lacking === undefined || error !== lacking) throw error;
        firstFailure ??= lacking;
        const part = entry.platform ? formatPlatform(entry.platform) : entry.digest;
        this.leftOut.set(entry.digest, { name: part, lacks: lacking.lacks });
      }
    }
    if (wholeEntries === 0 && firstFailure) throw firstFailure;
    return { digest, size, contentType, links };
  }

  /** The bytes of a manifest, valid until the next call. */
  async #manifest(digest: Digest): Promise<Buffer | undefined> {
    const { store } = this.#options;
    await using blob = await store.open(digest);
    if (!blob) return undefined;
    const { size } = blob;
    if (size > maxManifestBytes) {
      throw new RegistryError('bad-manifest', `the content of manifest ${digest} has ${size} bytes`);
    }
    if (blob.bytes) return blob.bytes;
    const bytes = (this.#buffer ??= Buffer.allocUnsafe(maxManifestBytes)).subarray(0, size);
    for (let position = 0; position < size; ) position += await blob.read(bytes.subarray(position), position);
    // The store sets altered blobs aside.
    return digestOf(bytes, digestAlgorithm(digest)) === digest ? bytes : await store.read(digest);
  }

  async #has({ digest, size }: Descriptor): Promise<boolean> {
    await using blob = await this.#options.store.open(digest);
    return blob !== undefined && (size < 0 || blob.size === size);
  }
}
