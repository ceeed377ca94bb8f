import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import type { BlobStore } from '../../store/files/blob-store.ts';
import type { Downloads } from '../fill/downloads.ts';
import { upstreamSources } from '../fill/sources.ts';
import type { Manifests } from '../manifests.ts';
import type { Repository } from '../repository.ts';

/** What has become of a blob that was lost. */
export type RepairResult =
  | 'fetched'
  /** No repository that is configured has it. */
  | 'unwanted'
  /** Nobody may be asked, or nobody could give it: it is fetched when somebody asks for it. */
  | 'lost';

export interface RepairOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly downloads: Downloads;
  readonly manifests: Manifests;
  readonly offline: boolean;
  /** A repository by the cache's name of it, where it may be pulled from. */
  readonly repository: (key: string) => Repository | undefined;
}

/** Fetches again what was here and is not any more. */
export class Repair {
  readonly #options: RepairOptions;

  constructor(options: RepairOptions) {
    this.#options = options;
  }

  /**
   * Fetches a blob or manifest from the upstreams of the repositories that may read it; one fill, whoever else wants it.
   * @throws the signal's reason
   */
  async fetch(digest: Digest, signal: AbortSignal): Promise<RepairResult> {
    const { catalog, offline, repository } = this.#options;
    const repositories = catalog.grants.readers(digest).flatMap((key) => repository(key) ?? []);
    const [first] = repositories;
    if (first === undefined) return 'unwanted';
    if (offline) return 'lost';
    try {
      if (catalog.manifests.has(digest)) await this.#manifest(digest, repositories, signal);
      else await this.#blob(digest, { repository: first.key, repositories, signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RegistryError)) throw error;
    }
    return (await this.#options.store.stat(digest)) ? 'fetched' : 'lost';
  }

  async #manifest(digest: Digest, repositories: readonly Repository[], signal: AbortSignal): Promise<void> {
    for (const [index, repository] of repositories.entries()) {
      try {
        await this.#options.manifests.byDigest(repository, digest, { signal });
        return;
      } catch (error) {
        if (!(error instanceof RegistryError) || index === repositories.length - 1) throw error;
      }
    }
  }

  async #blob(
    digest: Digest,
    {
      repository,
      repositories,
      signal,
    }: { repository: string; repositories: readonly Repository[]; signal: AbortSignal },
  ): Promise<void> {
    const { catalog, downloads } = this.#options;
    const sources = repositories.flatMap((each) => upstreamSources(each));
    const expectedSize = catalog.grants.expectedSize(repository, digest);
    await downloads.bring(digest, { repository, sources, expectedSize, isOwned: true }, { signal });
  }
}
