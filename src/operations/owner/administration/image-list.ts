import type { Digest } from '../../../oci/digest.ts';
import { isDigest } from '../../../oci/digest.ts';
import { subjectOfTag } from '../../../oci/subject-of-tag.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { ManifestRow } from '../../../store/catalog/image-records.ts';
import { Turns } from '../../../waiting/turns.ts';
import type { ListEvent, ListedAttachment, ListedImage, ListParameters } from '../../protocol/administration.ts';
import type { ImageSelection } from './image-names.ts';
import { PinList } from './pin-list.ts';
import { type StoredName, storedNames } from './stored-names.ts';

export type ListQuery = Omit<ListParameters, 'images'> & {
  /** None: all. */
  readonly selections: readonly ImageSelection[];
};

/** Sorting needs memory: without a limit, at most this many. */
const maxSorted = 1_000;

/** Lists stored images: in the order of names as they are found, else the first in the requested order. */
export class ImageList {
  readonly #catalog: Catalog;
  readonly #now: () => number;

  constructor({ catalog, now }: { readonly catalog: Catalog; readonly now: () => number }) {
    this.#catalog = catalog;
    this.#now = now;
  }

  /** The images that a query selects, and the total. @throws the signal's reason */
  async *list(query: ListQuery, signal: AbortSignal): AsyncGenerator<ListEvent> {
    const isStreamed = query.sort === 'name' && query.reverse !== true;
    const limit = query.limit ?? (isStreamed ? Number.POSITIVE_INFINITY : maxSorted);
    const first = new FirstOf(limit, orderOf(query));
    const turns = new Turns();
    const pins = new PinList(this.#catalog);
    let images = 0;
    let repositories = 0;
    let last: string | undefined;
    for await (const name of storedNames(this.#catalog, query.selections, signal)) {
      await turns.next(signal);
      const image = this.#image(name, query, pins);
      if (image === undefined) continue;
      images += 1;
      if (name.repository !== last) repositories += 1;
      last = name.repository;
      if (!isStreamed) first.add(image);
      else if (images <= limit) yield { kind: 'image', ...image };
    }
    for (const image of first.all()) yield { kind: 'image', ...image };
    // Only the name of these is known.
    const isAny = query.unusedForMs === undefined && query.largerThanBytes === undefined;
    if (query.pinned === true && isAny) {
      for (const pin of pins.rest(query.selections, query.upstream)) yield { kind: 'pin', ...pin };
    }
    yield { kind: 'total', images, listed: Math.min(images, limit), repositories, ...this.#catalog.blobs.usage() };
  }

  /** @returns `undefined` for images that the query excludes, decided with as few reads as possible */
  #image(name: StoredName, query: ListQuery, pins: PinList): ListedImage | undefined {
    const { repository, reference, digest, variants, checkedAtMs } = name;
    const { images } = this.#catalog;
    const slash = repository.indexOf('/');
    const upstream = repository.slice(0, slash);
    if (query.upstream !== undefined && query.upstream !== upstream) return undefined;
    const pinned = this.#pinned(name);
    if (query.pinned === true && pinned === null) return undefined;
    if (this.#goesWithAnother(name)) return undefined;
    if (pinned === 'name') pins.tell(repository, [reference, digest, ...variants]);
    const manifest = images.manifest(digest);
    const { unusedForMs, largerThanBytes, incomplete } = query;
    if (unusedForMs !== undefined && this.#now() - (manifest?.usedAtMs ?? checkedAtMs ?? 0) < unusedForMs)
      return undefined;
    const state = manifest === undefined ? 'absent' : images.isWhole(digest) ? 'whole' : 'partial';
    if (incomplete === true && state === 'whole') return undefined;
    const bytes = manifest === undefined ? { storedBytes: 0, sharedBytes: 0 } : this.#bytes(name);
    if (largerThanBytes !== undefined && bytes.storedBytes <= largerThanBytes) return undefined;
    const isTag = !isDigest(reference);
    return {
      name: isTag ? `${repository}:${reference}` : `${repository}@${reference}`,
      upstream,
      repository: repository.slice(slash + 1),
      tag: isTag ? reference : null,
      digest,
      mediaType: manifest?.mediaType ?? null,
      state,
      ...bytes,
      storedAt: iso(manifest?.storedAtMs),
      usedAt: iso(manifest?.usedAtMs),
      checkedAt: iso(checkedAtMs || undefined),
      source: manifest?.source ?? null,
      pinned,
      platforms: this.#platforms(digest),
      variants,
      attachments: this.#catalog.images
        .attachments(digest, repository)
        .map((attachment) => this.#attachment(attachment)),
    };
  }

  #pinned({ repository, reference, digest, variants }: StoredName): ListedImage['pinned'] {
    const names = [reference, digest, ...variants];
    if (names.some((name) => this.#catalog.pins.isPinnedByName(repository, name))) return 'name';
    return this.#catalog.pins.isPinned(repository, reference) ? 'configuration' : null;
  }

  /** Whether a tag only attaches something to a listed image, which shows it. */
  #goesWithAnother({ repository, reference }: StoredName): boolean {
    const subject = isDigest(reference) ? undefined : subjectOfTag(reference);
    if (subject === undefined || !this.#catalog.grants.mayRead(repository, subject)) return false;
    return this.#catalog.images.manifest(subject) !== undefined;
  }

  #bytes(name: StoredName): { storedBytes: number; sharedBytes: number } {
    const { images, removal } = this.#catalog;
    const sum = (parts: readonly { size: number | undefined }[]): number =>
      parts.reduce((bytes, { size }) => bytes + (size ?? 0), 0);
    const parts = images.storedParts(name.digest, name.repository);
    const storedBytes = sum(parts);
    return { storedBytes, sharedBytes: storedBytes - sum(removal.unshared(name.digest, name, parts)) };
  }

  #platforms(digest: Digest): ListedImage['platforms'] {
    const { images } = this.#catalog;
    const children = images.children(digest);
    if (children.length === 0) return null;
    return { named: children.length, whole: children.filter((child) => images.isWhole(child, 1)).length };
  }

  #attachment(digest: Digest): ListedAttachment {
    const manifest: ManifestRow | undefined = this.#catalog.images.manifest(digest);
    return { digest, artifactType: manifest?.artifactType ?? null, stored: manifest !== undefined };
  }
}

type Order = (one: ListedImage, other: ListedImage) => number;

function orderOf({ sort, reverse }: ListQuery): Order {
  const text = (value: string | null): string => value ?? '';
  const orders: Record<ListQuery['sort'], Order> = {
    name: () => 0,
    size: (one, other) => other.storedBytes - one.storedBytes,
    used: (one, other) => compare(text(other.usedAt), text(one.usedAt)),
    checked: (one, other) => compare(text(other.checkedAt), text(one.checkedAt)),
  };
  const order: Order = (one, other) => orders[sort](one, other) || compare(one.name, other.name);
  return reverse === true ? (one, other) => order(other, one) : order;
}

function compare(one: string, other: string): number {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}

/** The first N of any number of items in an order, holding at most twice as many. */
class FirstOf {
  readonly #limit: number;
  readonly #order: Order;
  #held: ListedImage[] = [];

  constructor(limit: number, order: Order) {
    this.#limit = limit;
    this.#order = order;
  }

  add(image: ListedImage): void {
    this.#held.push(image);
    if (this.#held.length >= this.#limit * 2) this.#held = this.all();
  }

  all(): ListedImage[] {
    return this.#held.toSorted(this.#order).slice(0, this.#limit);
  }
}

function iso(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString();
}
