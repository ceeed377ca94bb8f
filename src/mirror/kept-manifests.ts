import { type ManifestLinks, readManifest } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { octetStream, toldType } from '../oci/media-types.ts';
import { recallManifest } from '../store/catalog/remembered-manifest.ts';
import { DiskFault } from '../store/files/blob-store.ts';
import type { ManifestAnswer } from '../upstream/client.ts';
import type { Repository } from '../upstream/repository.ts';
import type { MirrorParts } from './parts.ts';

/** A manifest as it is kept here. */
export interface KeptManifest {
  readonly digest: Digest;
  readonly size: number;
  /** The exact `Content-Type` of the upstream. */
  readonly contentType: string;
  readonly bytes: Buffer;
}

/** A manifest that has just come. */
export interface ReceivedManifest {
  readonly manifest: KeptManifest;
  /** False where it cannot be read: it is passed on, since its digest is right, and the next client's is fetched again. */
  readonly isKept: boolean;
}

export type KeptManifestsOptions = Pick<MirrorParts, 'store' | 'catalog' | 'report'>;

/** The manifests that are here. */
export class KeptManifests {
  readonly #options: KeptManifestsOptions;

  constructor(options: KeptManifestsOptions) {
    this.#options = options;
  }

  /** The manifest, where it is in memory; notes that it was used. */
  inMemory(digest: Digest): KeptManifest | undefined {
    const { store, catalog } = this.#options;
    const bytes = store.small(digest);
    const contentType = catalog.blobs.get(digest)?.contentType;
    if (bytes === undefined || contentType === undefined || !catalog.manifests.has(digest)) return undefined;
    catalog.uses.touch(digest);
    return { digest, size: bytes.length, contentType, bytes };
  }

  /** The manifest, unless it is not here or the disk cannot give it. */
  async get(digest: Digest): Promise<KeptManifest | undefined> {
    const manifest = await this.peek(digest);
    if (manifest) this.#options.catalog.uses.touch(digest);
    return manifest;
  }

  /** As {@link get}, without noting that it was used. */
  async peek(digest: Digest): Promise<KeptManifest | undefined> {
    const { store, catalog, report } = this.#options;
    try {
      // A lost catalog may have known it: a requested manifest does not wait for its turn.
      if (!catalog.manifests.has(digest) && !(await recallManifest(digest, { catalog, store }))) return undefined;
      const contentType = catalog.blobs.get(digest)?.contentType;
      if (contentType === undefined) return undefined;
      const bytes = await store.read(digest);
      if (bytes === undefined) return undefined;
      return { digest, size: bytes.length, contentType, bytes };
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      report({ kind: 'disk-fault', error });
      return undefined;
    }
  }

  /** A manifest has come from an upstream. */
  received(repository: Repository, bytes: number): void {
    this.#options.report({ kind: 'manifest-received', upstream: repository.upstream.name, bytes });
  }

  /**
   * Verifies a manifest that the upstream gave and keeps it, as far as it can be read.
   * @param digest what was asked for, or what the upstream says that it is; `undefined` where neither is known: then it has
   *   to look like a manifest
   * @throws RegistryError UNAVAILABLE for anything that is not the manifest
   */
  async keep(
    repository: Repository,
    answer: ManifestAnswer,
    digest: Digest | undefined,
    { isShared = false }: { isShared?: boolean } = {},
  ): Promise<ReceivedManifest> {
    const { bytes } = answer;
    // A manifest of another replica has not come from the upstream.
    if (!isShared) this.received(repository, bytes.length);
    const actual = digestOf(bytes, digest && digestAlgorithm(digest));
    if (digest !== undefined && actual !== digest) {
      throw new RegistryError('wrong-bytes', `${repository.upstream.name} sent bytes that are not this manifest`, {
        detail: { expected: digest, actual },
      });
    }
    let links: ManifestLinks;
    try {
      links = readManifest(bytes, toldType(answer.contentType));
    } catch (error) {
      if (digest === undefined) {
        throw new RegistryError('bad-answer', `${repository.upstream.name} sent something that is not a manifest`, {
          cause: error,
        });
      }
      const contentType = answer.contentType === '' ? octetStream : answer.contentType;
      return { manifest: { digest, size: bytes.length, contentType, bytes }, isKept: false };
    }
    return { manifest: await this.#store(repository, answer, { digest: actual, links, isShared }), isKept: true };
  }

  /** Keeps a manifest that has been verified and read. @throws RegistryError UNAVAILABLE where nothing tells its type */
  async #store(
    repository: Repository,
    answer: ManifestAnswer,
    { digest, links, isShared }: { digest: Digest; links: ManifestLinks; isShared: boolean },
  ): Promise<KeptManifest> {
    const { catalog, store, report } = this.#options;
    const { bytes } = answer;
    const size = bytes.length;
    const contentType = toldType(answer.contentType) || links.mediaType || answer.contentType;
    if (contentType === '') {
      throw new RegistryError('bad-answer', `${repository.upstream.name} sent a manifest and not of which type it is`);
    }
    try {
      await store.put(digest, bytes);
    } catch (error) {
      // A full disk is no reason to keep a manifest from a client: it stays in memory for a while.
      if (!(error instanceof DiskFault)) throw error;
      report({ kind: 'disk-fault', error });
    }
    const source = isShared ? 'replica' : 'upstream';
    const manifest = { repository: repository.key, source, size, contentType, links } as const;
    await catalog.manifests.prepare(digest, manifest);
    catalog.manifests.record(digest, manifest);
    return { digest, size, contentType, bytes };
  }
}
