import { type Digest, isDigest } from '../../../oci/digest.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { ListedPin } from '../../protocol/administration.ts';
import { type ImageSelection, selects, written } from './image-names.ts';

/** The pins that a list of pinned images has not mentioned. */
export class PinList {
  readonly #catalog: Catalog;
  readonly #told = new Set<string>();

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /** Marks the pins of an image's tag and digests as mentioned. */
  tell(repository: string, references: readonly string[]): void {
    for (const reference of references) this.#told.add(written({ repository, reference }));
  }

  /** The remaining pins, in order. @param selections empty: all @param upstream only pins of this upstream */
  *rest(selections: readonly ImageSelection[], upstream: string | undefined): Generator<ListedPin> {
    for (const { repository, reference, pinnedAtMs } of this.#catalog.pins.list()) {
      const name = written({ repository, reference });
      const slash = repository.indexOf('/');
      if (this.#told.has(name) || (upstream !== undefined && upstream !== repository.slice(0, slash))) continue;
      const isMeant = selections.some((selection) => selects(selection, repository, reference));
      if (selections.length > 0 && !isMeant) continue;
      const digest = isDigest(reference) ? reference : undefined;
      yield {
        name,
        upstream: repository.slice(0, slash),
        repository: repository.slice(slash + 1),
        tag: digest === undefined ? reference : null,
        digest: digest ?? null,
        stored: this.#catalog.removal.roots({ repository, reference }).some((root) => this.#isHere(repository, root)),
        pinnedAt: new Date(pinnedAtMs).toISOString(),
      };
    }
  }

  #isHere(repository: string, digest: Digest): boolean {
    return this.#catalog.blobs.has(digest) && this.#catalog.grants.mayRead(repository, digest);
  }
}
