import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import type { BlobStore } from '../../store/files/blob-store.ts';
import type { Downloads } from '../fill/downloads.ts';
import { type Target, upstreamSources } from '../fill/sources.ts';
import type { Manifests } from '../manifests.ts';

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
  readonly target: (key: string) => Target | undefined;
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
    const { catalog, offline, target } = this.#options;
    const targets = catalog.grants.readers(digest).flatMap((key) => target(key) ?? []);
    const [first] = targets;
    if (first === undefined) return 'unwanted';
    if (offline) return 'lost';
    try {
      if (catalog.manifests.has(digest)) await this.#manifest(digest, targets, signal);
      else await this.#blob(digest, { repository: first.key, targets, signal });
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RegistryError)) throw error;
    }
    return (await this.#options.store.stat(digest)) ? 'fetched' : 'lost';
  }

  async #manifest(digest: Digest, targets: readonly Target[], signal: AbortSignal): Promise<void> {
    for (const [index, target] of targets.entries()) {
      try {
        await this.#options.manifests.byDigest(target, digest, { signal });
        return;
      } catch (error) {
        if (!(error instanceof RegistryError) || index === targets.length - 1) throw error;
      }
    }
  }

  async #blob(
    digest: Digest,
    { repository, targets, signal }: { repository: string; targets: readonly Target[]; signal: AbortSignal },
  ): Promise<void> {
    const { catalog, downloads } = this.#options;
    const sources = targets.flatMap((target) => upstreamSources(target));
    const expectedSize = catalog.grants.expectedSize(repository, digest);
    await downloads.bring(digest, { repository, sources, expectedSize, isOwned: true }, { signal });
  }
}
