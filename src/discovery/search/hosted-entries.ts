import type { HostedChange } from '../../hosted/changes.ts';
import type { HostedRegistry } from '../../hosted/hosted-registry.ts';
import type { Digest } from '../../oci/digest.ts';
import type { GivenEntry, IndexChange } from './entry.ts';

/** A tag or, with tag '', a manifest of a hosted repository. */
interface Place {
  readonly repository: string;
  readonly tag: string;
  readonly digest: Digest | undefined;
}

/** The entries of hosted repositories for the index. */
export class HostedEntries {
  readonly #hosted: HostedRegistry;
  readonly #changed = new Map<string, Place>();

  constructor(hosted: HostedRegistry) {
    this.#hosted = hosted;
  }

  /** Notes a change, to be read when there is time. */
  note(change: HostedChange): void {
    const { repository } = change;
    switch (change.kind) {
      case 'pushed':
        this.#add({ repository, tag: '', digest: change.digest });
        for (const tag of change.tags) this.#add({ repository, tag, digest: undefined });
        return;
      case 'tagged':
      case 'untagged':
        return this.#add({ repository, tag: change.tag, digest: undefined });
      case 'deleted':
        return this.#add({ repository, tag: '', digest: change.digest });
      case 'blob-deleted':
        return;
      default:
        change satisfies never;
    }
  }

  /** The entries of some of the changes that were noted. @throws Error of the file system */
  async take(limit: number): Promise<IndexChange[]> {
    const changes: IndexChange[] = [];
    for (const [key, place] of [...this.#changed].slice(0, limit)) {
      // Changes from here on are noted again.
      this.#changed.delete(key);
      changes.push(await this.#changeOf(place));
    }
    return changes;
  }

  /** Everything in all repositories, some at a time. @throws Error of the file system */
  async *all(limit: number): AsyncGenerator<IndexChange[]> {
    let changes: IndexChange[] = [];
    for await (const place of this.#places()) {
      changes.push(await this.#changeOf(place));
      if (changes.length < limit) continue;
      yield changes;
      changes = [];
    }
    if (changes.length > 0) yield changes;
  }

  async *#places(): AsyncGenerator<Place> {
    const { repositories } = this.#hosted;
    for await (const repository of repositories.all()) {
      for (const digest of await repositories.manifests(repository)) yield { repository, tag: '', digest };
      for (const tag of await repositories.tags(repository)) yield { repository, tag, digest: undefined };
    }
  }

  #add(place: Place): void {
    this.#changed.set(`${place.repository} ${place.tag} ${place.digest ?? ''}`, place);
  }

  async #changeOf(place: Place): Promise<IndexChange> {
    const { repositories, layout } = this.#hosted;
    const { repository, tag } = place;
    const record = tag === '' ? undefined : await repositories.tag(repository, tag);
    const digest = tag === '' ? place.digest : record?.digest;
    const manifest = digest && (await repositories.manifest(repository, digest));
    if (digest === undefined || manifest === undefined) return { kind: 'gone', repository, tag, digest: place.digest };
    const entry: GivenEntry = {
      repository,
      tag,
      digest,
      isHosted: true,
      path: layout.blobLink(repository, digest),
      mediaType: manifest.contentType,
      sizeBytes: undefined,
      cachedAtMs: manifest.pushedAtMs,
      changedAtMs: record?.movedAtMs ?? manifest.pushedAtMs,
      readable: {},
      folder: layout.blobs(repository),
    };
    return { kind: 'put', entry };
  }
}
