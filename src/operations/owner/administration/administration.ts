import type { Fills } from '../../../mirror/fill/fills.ts';
import { type Digest, isDigest } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import type { Report } from '../../../oci/report.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { ImagePart } from '../../../store/catalog/image-parts.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import { canonicalName, type UpstreamTable } from '../../../upstream/table.ts';
import type { PinEvent, RemovalEvent, RemovalQuery } from '../../protocol/administration.ts';
import type { AdministrationEvent } from '../cache/owned-cache.ts';
import { ImageNames, type ImageSelection, selects, type Untagged, written } from './image-names.ts';
import { findNames, type StoredName } from './stored-names.ts';

export interface AdministrationOptions {
  readonly catalog: Catalog;
  readonly store: BlobStore;
  readonly fills: Fills;
  readonly upstreams: UpstreamTable;
  readonly report: Report<AdministrationEvent>;
}

/** The content that a dry run would have removed so far. */
interface Foretold {
  readonly tags: Set<string>;
  readonly manifests: Set<Digest>;
  /** The manifests, and everything else. */
  readonly parts: Set<Digest>;
}

/** The commands of operators on stored images. */
export class Administration {
  readonly #options: AdministrationOptions;
  readonly #names: ImageNames;

  constructor(options: AdministrationOptions) {
    this.#options = options;
    const { catalog, upstreams } = options;
    this.#names = new ImageNames({ upstreams, isStored: (registry) => hasRegistry(catalog, registry) });
  }

  /** Parses names and patterns, all of them before anything is done. @throws RegistryError */
  select(images: readonly string[], untagged: Untagged): ImageSelection[] {
    return images.map((text) => this.#names.read(text, untagged));
  }

  /** The name of an upstream that is configured, or of which something is stored. @throws RegistryError NAME_UNKNOWN */
  upstreamName(text: string): string {
    const { catalog, upstreams } = this.#options;
    const name = upstreams.find(text)?.name ?? canonicalName(text);
    if (upstreams.find(name) !== undefined || hasRegistry(catalog, name)) return name;
    throw new RegistryError(
      'unknown-upstream',
      `"${text}" is not a configured upstream, and nothing from it is stored`,
    );
  }

  /**
   * Removes images: their tags, the rights of their repositories, and those of their manifests, blobs, referrers and
   * signatures that no other image needs. Reads in progress finish.
   * @throws RegistryError for an invalid name, before anything is done; DiskFault; Error if the catalog fails
   */
  async *remove({ images, force, dryRun }: RemovalQuery, signal: AbortSignal): AsyncGenerator<RemovalEvent> {
    const foretold: Foretold = { tags: new Set(), manifests: new Set(), parts: new Set() };
    for (const selection of this.select(images, 'latest')) {
      let found = 0;
      for await (const name of findNames(this.#options.catalog, selection, signal)) {
        // By now it would be gone.
        if (foretold.tags.has(written(name)) || foretold.manifests.has(name.digest)) continue;
        found += 1;
        const isPattern = selection.kind === 'pattern';
        const reason = this.#reasonToKeep(name, force);
        if (reason !== undefined) yield { kind: 'kept', name: written(name), reason, isRefused: !isPattern };
        else if (dryRun) yield this.#foretell(name, foretold);
        else yield await this.#remove(name);
      }
      if (found === 0) yield { kind: 'kept', name: selection.text, reason: 'nothing of it is here', isRefused: true };
    }
  }

  /** Pins images: by name, stored or not; by pattern, those that are stored now. @throws RegistryError */
  async *pin(images: readonly string[], signal: AbortSignal): AsyncGenerator<PinEvent> {
    const { catalog, report } = this.#options;
    for (const selection of this.select(images, 'latest')) {
      let found = 0;
      for await (const { repository, reference, stored } of this.#named(selection, signal)) {
        found += 1;
        const name = written({ repository, reference });
        if (catalog.pins.isPinnedByName(repository, reference)) {
          yield { kind: 'unchanged', name, stored, reason: 'is pinned already' };
          continue;
        }
        catalog.pins.add(repository, reference);
        report({ kind: 'pinned', repository, reference });
        yield { kind: 'pinned', name, stored, reason: stored ? null : 'nothing of it is here yet' };
      }
      if (found === 0) yield { kind: 'unchanged', name: selection.text, stored: false, reason: 'matches nothing here' };
    }
  }

  /** Removes pins; images pinned by the configuration stay pinned, and the event says so. @throws RegistryError */
  async *unpin(images: readonly string[], signal: AbortSignal): AsyncGenerator<PinEvent> {
    const { catalog, report } = this.#options;
    for (const selection of this.select(images, 'latest')) {
      const pins = catalog.pins.list().filter((pin) => selects(selection, pin.repository, pin.reference));
      for (const { repository, reference } of pins) {
        signal.throwIfAborted();
        catalog.pins.remove(repository, reference);
        report({ kind: 'unpinned', repository, reference });
        const stored = catalog.removal.roots({ repository, reference }).length > 0;
        const reason = catalog.pins.isPinned(repository, reference)
          ? 'cache.pins in the configuration still pins it'
          : null;
        yield { kind: 'unpinned', name: written({ repository, reference }), stored, reason };
      }
      if (pins.length > 0) continue;
      const byPattern = selection.kind === 'image' && catalog.pins.isPinned(selection.repository, selection.reference);
      const name = selection.kind === 'image' ? written(selection) : selection.text;
      const reason = byPattern ? 'is pinned by cache.pins in the configuration' : 'is not pinned';
      yield { kind: 'unchanged', name, stored: false, reason };
    }
  }

  async *#named(
    selection: ImageSelection,
    signal: AbortSignal,
  ): AsyncGenerator<{ repository: string; reference: string; stored: boolean }> {
    let isFound = false;
    for await (const { repository, reference, digest } of findNames(this.#options.catalog, selection, signal)) {
      isFound = true;
      yield { repository, reference, stored: this.#options.catalog.blobs.has(digest) };
    }
    if (isFound || selection.kind === 'pattern') return;
    yield { repository: selection.repository, reference: selection.reference, stored: false };
  }

  #reasonToKeep({ repository, reference, digest }: StoredName, force: boolean): string | undefined {
    const { catalog } = this.#options;
    if (!force && catalog.pins.isPinned(repository, reference)) {
      const how = catalog.pins.isPinnedByName(repository, reference) ? '' : ' by cache.pins in the configuration';
      return `is pinned${how}`;
    }
    if (!isDigest(reference)) return undefined;
    const [holder] = catalog.removal.holders(digest, repository);
    return holder === undefined ? undefined : `belongs to ${holder}`;
  }

  #foretell(name: StoredName, foretold: Foretold): RemovalEvent {
    const { catalog } = this.#options;
    const own = new Map<Digest, ImagePart>();
    const all = new Map<Digest, ImagePart>();
    foretold.tags.add(written(name));
    // An attachment may have a name of its own, and would be gone by now.
    const isLeft = ({ digest }: ImagePart): boolean => !foretold.parts.has(digest);
    for (const root of [name.digest, ...name.variants]) {
      for (const part of catalog.removal.own(root, name, foretold)) if (isLeft(part)) own.set(part.digest, part);
      for (const part of catalog.images.storedParts(root, name.repository)) {
        if (isLeft(part)) all.set(part.digest, part);
      }
    }
    for (const { digest, isManifest } of own.values()) {
      foretold.parts.add(digest);
      if (isManifest) foretold.manifests.add(digest);
    }
    return this.#told(name, [...own.values()], sum(all.values()));
  }

  async #remove(name: StoredName): Promise<RemovalEvent> {
    const { catalog, store, fills, report } = this.#options;
    const all = new Map<Digest, ImagePart>();
    for (const root of [name.digest, ...name.variants]) {
      for (const part of catalog.images.storedParts(root, name.repository)) all.set(part.digest, part);
    }
    const own = catalog.removal.forget(name);
    // In the same turn: new content for one of them then finds it gone, or arrives before it is.
    const removals = own
      .filter(({ digest }) => !fills.has(digest))
      .map(async (part) => {
        await store.remove(part.digest);
        catalog.blobs.forget(part.digest);
        return part;
      });
    const results = await Promise.allSettled(removals);
    const removed = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const { repository, reference } = name;
    report({ kind: 'removed', repository, reference, blobs: removed.length, bytes: sum(removed) });
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return this.#told(name, removed, sum(all.values()));
  }

  #told(name: StoredName, removed: readonly ImagePart[], storedBytes: number): RemovalEvent {
    const bytes = sum(removed);
    const blobs = removed.length;
    const { repository, reference, digest } = name;
    const pinnedByDigest = reference !== digest && this.#options.catalog.pins.isPinnedByName(repository, digest);
    return {
      kind: 'removed',
      name: written(name),
      digest,
      blobs,
      bytes,
      keptBytes: storedBytes - bytes,
      pinnedByDigest,
    };
  }
}

function hasRegistry(catalog: Catalog, registry: string): boolean {
  const [first] = catalog.images.repositories({ after: `${registry}/`, limit: 1 });
  return first?.name.startsWith(`${registry}/`) === true;
}

function sum(parts: Iterable<ImagePart>): number {
  let bytes = 0;
  for (const { size } of parts) bytes += size ?? 0;
  return bytes;
}
