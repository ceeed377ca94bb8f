import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import { type Changes, upstreamFact } from '../oci/facts.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { TagRecord } from '../store/catalog/tag-records.ts';
import type { Repository } from '../upstream/repository.ts';

/** Repositories, and parts of each, that are remembered. */
const maxRepositories = 1000;
const maxParts = 20;

export interface GonePartsOptions {
  readonly catalog: Catalog;
  readonly now: () => number;
  readonly changes?: Changes | undefined;
}

/**
 * Parts of images that an upstream has said it no longer has. A tag whose image needs one was moved or deleted there,
 * however lately it was confirmed: it is resolved again at its next request, since no client can complete what it
 * stands for.
 */
export class GoneParts {
  readonly #options: GonePartsOptions;
  /** By repository: the parts, and when that was said, in milliseconds since 1970. */
  readonly #gone = new LRUCache<string, Map<Digest, number>>({ max: maxRepositories });

  constructor(options: GonePartsOptions) {
    this.#options = options;
  }

  /** The upstream of a repository has answered "not found" for a digest. */
  note(repository: Repository, digest: Digest): void {
    const { catalog, now, changes } = this.#options;
    // A digest that no manifest of the repository names belongs to no tag of it.
    if (!catalog.grants.mayRead(repository.key, digest)) return;
    const parts = this.#gone.get(repository.key) ?? new Map<Digest, number>();
    this.#gone.set(repository.key, parts);
    parts.delete(digest);
    parts.set(digest, now());
    const [oldest] = parts.keys();
    if (parts.size > maxParts && oldest !== undefined) parts.delete(oldest);
    changes?.changed(upstreamFact(repository.upstream.name));
  }

  /** Whether the image of a tag needs a part that was gone after the tag had been confirmed. */
  isDoubtful(repository: string, { digest, checkedAtMs }: Pick<TagRecord, 'digest' | 'checkedAtMs'>): boolean {
    const parts = this.#gone.get(repository);
    if (parts === undefined) return false;
    for (const [part, atMs] of parts) {
      if (atMs >= checkedAtMs && this.#options.catalog.images.needs(digest, part)) return true;
    }
    return false;
  }
}
