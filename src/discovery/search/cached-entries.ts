import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import type { ListedManifest } from '../../store/catalog/listed-records.ts';
import type { Layout } from '../../store/files/layout.ts';
import { Turns } from '../../waiting/turns.ts';
import type { GivenEntry, IndexChange } from './entry.ts';

/** The entries of cached repositories for the index: only content that each of them may read itself. */
export class CachedEntries {
  readonly #catalog: Catalog;
  readonly #layout: Pick<Layout, 'blob'>;
  readonly #turns = new Turns();

  constructor({ catalog, layout }: { readonly catalog: Catalog; readonly layout: Pick<Layout, 'blob'> }) {
    this.#catalog = catalog;
    this.#layout = layout;
  }

  /** All stored manifests, some at a time. */
  *all(limit: number): Generator<Digest[]> {
    for (let after = ''; ; ) {
      const digests = this.#catalog.listed.manifests({ after, limit });
      const last = digests.at(-1);
      if (last === undefined) return;
      yield digests;
      after = last;
    }
  }

  /** @throws the signal's reason */
  async changeOf(digest: Digest, signal: AbortSignal): Promise<IndexChange> {
    const entries: GivenEntry[] = [];
    for (const listed of this.#catalog.listed.of(digest)) {
      await this.#turns.next(signal);
      entries.push(...this.#entriesOf(digest, listed));
    }
    return { kind: 'cached', digest, entries };
  }

  #entriesOf(digest: Digest, listed: ListedManifest): GivenEntry[] {
    const { repository, tags, isListed, mediaType, sizeBytes, storedAtMs, smallBlobs } = listed;
    const entry = {
      repository,
      digest,
      isHosted: false,
      path: this.#layout.blob(digest),
      mediaType,
      sizeBytes,
      cachedAtMs: storedAtMs,
      changedAtMs: undefined,
      readable: Object.fromEntries(smallBlobs.map((blob) => [blob, this.#layout.blob(blob)])),
      folder: undefined,
    };
    if (tags.length > 0) return tags.map((tag) => ({ ...entry, tag }));
    // The manifests of an index are found by the index.
    return isListed ? [] : [{ ...entry, tag: '' }];
  }
}
