import type { Fills } from '../../../mirror/fill/fills.ts';
import { upstreamSources } from '../../../mirror/fill/sources.ts';
import type { Manifests } from '../../../mirror/manifests.ts';
import type { Digest } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import type { RepairResult } from '../../../store/care/scrub.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import type { Repository } from '../../../upstream/repository.ts';

export interface RepairOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly fills: Fills;
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
   * Fetches a blob or manifest from the upstreams of the repositories that may read it; one fill, shared with other requests for it.
   * @throws the signal's reason
   */
  async fetch(digest: Digest, signal: AbortSignal): Promise<RepairResult> {
    const { catalog, offline, repository } = this.#options;
    const repositories = catalog.grants.readers(digest).flatMap((key) => repository(key) ?? []);
    if (repositories.length === 0) return 'unwanted';
    if (offline) return 'lost';
    try {
      if (catalog.manifests.has(digest)) await this.#manifest(digest, repositories, signal);
      else await this.#blob(digest, repositories, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RegistryError)) throw error;
    }
    return (await this.#options.store.stat(digest)) ? 'fetched' : 'lost';
  }

  async #manifest(digest: Digest, repositories: readonly Repository[], signal: AbortSignal): Promise<void> {
    await first(repositories, (repository) => this.#options.manifests.byDigest(repository, digest, { signal }));
  }

  async #blob(digest: Digest, repositories: readonly Repository[], signal: AbortSignal): Promise<void> {
    const { catalog, fills } = this.#options;
    const byUpstream = Map.groupBy(repositories, ({ upstream }) => upstream.name);
    await first([...byUpstream.values()], async (own) => {
      const [repository] = own as [Repository];
      const sources = own.flatMap((each) => upstreamSources(each));
      const expectedSize = catalog.grants.expectedSize(repository.key, digest);
      await fills.bring(digest, { repository, sources, expectedSize, isOwned: true }, { signal });
    });
  }
}

/** Does work with one after another until it succeeds. @throws what it throws with the last */
async function first<Each>(all: readonly Each[], work: (each: Each) => Promise<unknown>): Promise<void> {
  for (const [index, each] of all.entries()) {
    try {
      await work(each);
      return;
    } catch (error) {
      if (!(error instanceof RegistryError) || index === all.length - 1) throw error;
    }
  }
}
