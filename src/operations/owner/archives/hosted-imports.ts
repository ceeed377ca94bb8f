import { maxManifestBytes } from '../../../archive/limits.ts';
import { readStored } from '../../../discovery/image-content.ts';
import { isElsewhere } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';
import { isTransient, RegistryError } from '../../../oci/error.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import type { Layout } from '../../../store/files/layout.ts';
import { createdAt } from '../../protocol/created-at.ts';
import type { AdoptedImage, KnownName, NewImage, RefusedImage } from '../../protocol/import.ts';
import type { HostedName } from './named-images.ts';
import { IncompleteError, type WholeImage, type WholeManifest, wholeImage } from './whole-image.ts';

export interface HostedImportsOptions {
  readonly store: BlobStore;
  readonly layout: Layout;
  readonly catalog: Catalog;
}

/**
 * Makes hosted images of what an archive has brought into the cache. Bytes are copied into hosted storage and synced, as
 * for a push; the cache may evict its copy afterwards.
 */
export class HostedImports {
  readonly #options: HostedImportsOptions;

  constructor(options: HostedImportsOptions) {
    this.#options = options;
  }

  /** The content of a hosted repository under the name of an image. @throws Error of the file system */
  async known({ registry, repository, tag, name }: HostedName, { digest }: NewImage): Promise<KnownName> {
    const { repositories, manifests, layout } = registry;
    if (tag === undefined) {
      const isHere = (await repositories.manifest(repository, digest)) !== undefined;
      return { name, now: isHere ? digest : null, change: isHere ? 'same' : 'new', createdAtMs: null };
    }
    const now = await manifests.get(repository, { tag });
    if (now === undefined) return { name, now: null, change: 'new', createdAtMs: null };
    if (now.digest === digest) return { name, now: digest, change: 'same', createdAtMs: null };
    const read = async ({ digest: part }: { readonly digest: Digest }): Promise<Buffer | undefined> => {
      const size = await registry.blobs.size(part, repository);
      if (size === undefined || size > maxManifestBytes) return undefined;
      return await readStored(layout.blobLink(repository, part), part);
    };
    const created = await createdAt({ digest: now.digest, mediaType: now.contentType }, read);
    return { name, now: now.digest, change: 'moved', createdAtMs: created ?? null };
  }

  /**
   * Puts an image into its hosted repository, if all that it needs is here and was brought by the archive or is the
   * repository's already.
   * @returns `refused` where something is missing, or a rule of the repository forbids it; its tag is unchanged then
   * @throws DiskFault; Error of the file system; the signal's reason
   */
  async adopt(
    hosted: HostedName,
    image: NewImage,
    options: { readonly archive: Digest; readonly signal: AbortSignal },
  ): Promise<AdoptedImage | RefusedImage> {
    try {
      const { leftOut } = await this.#adopt(hosted, image, options);
      return { name: hosted.name, digest: image.digest, leftOut };
    } catch (error) {
      if (!(error instanceof RegistryError) || isTransient(error)) throw error;
      const lacks = error instanceof IncompleteError ? { lacks: error.lacks } : {};
      return { name: image.name, refused: error.message, ...lacks };
    }
  }

  async #adopt(
    hosted: HostedName,
    { digest, mediaType }: NewImage,
    { archive, signal }: { readonly archive: Digest; readonly signal: AbortSignal },
  ): Promise<WholeImage> {
    const { store } = this.#options;
    const { registry, repository, tag, digest: named, name } = hosted;
    if (named !== undefined && named !== digest) {
      throw new RegistryError('bad-manifest', `the manifest of ${name} is ${digest}`);
    }
    // Small blobs are written to their files in the background.
    await store.sync();
    const whole = await wholeImage({ digest, mediaType }, { name, store, signal });
    const [missing] = whole.leftOut;
    if (missing !== undefined && !registry.rules.sparseIndexes) {
      throw new IncompleteError(`${name} lacks ${missing.name}: see hosted.sparseIndexes`, missing.lacks);
    }
    for (const part of whole.manifests) await this.#requireRights(hosted, part, archive);
    for (const part of whole.manifests) {
      await this.#copyBlobs(hosted, part, signal);
      const bytes = await store.read(part.digest);
      if (bytes === undefined) throw new IncompleteError(`${name} lacks its manifest ${part.digest}`, part.digest);
      const tags = part.digest === digest && tag !== undefined ? [tag] : [];
      await registry.manifests.put(repository, { bytes, contentType: part.contentType, digest: part.digest, tags });
    }
    return whole;
  }

  async #copyBlobs({ registry, repository }: HostedName, { links }: WholeManifest, signal: AbortSignal): Promise<void> {
    const { store, layout } = this.#options;
    for (const { digest } of links.blobs) {
      signal.throwIfAborted();
      if (await registry.blobs.renew(repository, digest)) continue;
      await using blob = await store.open(digest);
      if (blob !== undefined)
        await registry.copyBlob(repository, digest, { path: layout.blob(digest), size: blob.size });
    }
  }

  /** @throws RegistryError DENIED where a repository would get what is here for other repositories */
  async #requireRights(
    { registry, repository, name }: HostedName,
    { digest, links }: WholeManifest,
    archive: Digest,
  ): Promise<void> {
    const { catalog, store } = this.#options;
    for (const part of [{ digest, size: -1, mediaType: '' }, ...links.blobs]) {
      if (catalog.deliveries.has(archive, part.digest)) continue;
      if ((await registry.blobs.get(repository, part.digest)) !== undefined) continue;
      if (isElsewhere(part)) {
        await using blob = await store.open(part.digest);
        if (blob === undefined) continue;
      }
      throw new RegistryError(
        'not-allowed',
        `${name} needs ${part.digest}, which is here for other repositories: import an archive that has it`,
      );
    }
  }
}
