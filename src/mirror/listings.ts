import { type Descriptor, manifestLimits, readDescriptor, readManifest } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import { JsonLimitError, parseJson } from '../oci/json.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import { bareMediaType, ociIndex } from '../oci/media-types.ts';
import { stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import { AskedLists, type ListingReply, type ListingsOptions, nameOf, onlyHere } from './asked-lists.ts';
import type { Waiting } from './content.ts';
import type { Outcome } from './outcome.ts';
import { TagLists } from './tag-lists.ts';

/** Referrers in one repository: the answer of the upstream, or those that are known here if it cannot answer; and its tags. */
export class Listings {
  readonly #options: ListingsOptions;
  readonly #lists: AskedLists;
  readonly #tags: TagLists;

  constructor(options: ListingsOptions) {
    this.#options = options;
    this.#lists = new AskedLists(options);
    this.#tags = new TagLists({ ...options, asked: this.#lists });
  }

  /**
   * A page of tags (distribution-spec, "Listing Tags").
   * @param query the client's query string without what selects the upstream
   * @throws RegistryError NAME_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE
   */
  async tags(repository: Repository, query: string, waiting: Waiting): Promise<ListingReply> {
    return await this.#tags.page(repository, query, waiting);
  }

  /**
   * The manifests that name `digest` as their subject (distribution-spec, "Listing Referrers"): an index, empty where
   * there are none.
   * @throws RegistryError DENIED, TOOMANYREQUESTS, UNAVAILABLE
   */
  async referrers(
    repository: Repository,
    digest: Digest,
    { query, signal }: Waiting & { query: string },
  ): Promise<ListingReply> {
    const { offline } = this.#options;
    const name = nameOf(`referrers ${digest}`, { repository, query });
    const artifactType = new URLSearchParams(query).get('artifactType') ?? undefined;
    try {
      if (offline) return await this.#offlineReferrers(repository, digest, { artifactType, signal });
      const answer = await this.#lists
        .ask(repository, `${name} api`, {
          signal,
          ask: (within) => repository.upstream.client.listReferrers(repository.name, digest, query, { signal: within }),
        })
        .catch((error: unknown) => this.#noneIfAbsent(repository, digest, { error, signal }));
      // Some registries have a page of their website where the referrers API would be.
      const listed = answer && isIndex(answer.bytes) ? answer : undefined;
      if (listed && !isAllAndEmpty(listed, query))
        return await this.#noted(repository, name, filteredHere(listed, artifactType));
      // Some registries have the API and do not list the referrers that clients keep under the tag.
      const tagged = await this.#fallbackTag(repository, digest, { artifactType, signal });
      return await this.#noted(repository, name, tagged ?? { ...(listed ?? emptyListing()), outcome: 'bypass' });
    } catch (error) {
      if (!isTransient(error)) throw error;
      const whole = nameOf(`referrers ${digest}`, { repository, query: '' });
      const failed = { error, signal };
      const remembered =
        (await this.#lists.recall(repository, name, failed)) ?? (await this.#lists.recall(repository, whole, failed));
      if (remembered) return { ...remembered, ...filteredHere(remembered, artifactType) };
      const stored = storedReply(this.#options.catalog.manifests.referrers(repository.key, digest), artifactType);
      // An empty list would say "not signed" where we only do not know.
      if (readIndex(stored.bytes).length === 0) throw error;
      return { ...stored, outcome: 'stale', stale: onlyHere(stalenessOf(repository.upstream.name, 0, error)) };
    }
  }

  async #noted(repository: Repository, name: string, reply: ListingReply): Promise<ListingReply> {
    if (reply.outcome !== 'stale') await this.#lists.remember(repository, name, listingOf(reply));
    return reply;
  }

  /**
   * What clients keep where a registry has no referrers API (distribution-spec, "Referrers Tag Schema"); `undefined`
   * where there is nothing of the kind.
   */
  async #fallbackTag(
    repository: Repository,
    digest: Digest,
    { artifactType, signal }: Waiting & { artifactType: string | undefined },
  ): Promise<ListingReply | undefined> {
    const tag = `${digestAlgorithm(digest)}-${digestHex(digest).slice(0, 64)}`;
    try {
      const manifest = await this.#options.manifests.byTag(repository, tag, { accept: ociIndex, signal });
      // Some registries take the tag for the digest that is in it, and give the manifest itself.
      if (manifest.digest === digest || bareMediaType(manifest.contentType) !== ociIndex) return undefined;
      if (artifactType === undefined) return indexReply(manifest.bytes, { outcome: manifest.outcome });
      return filteredReply(manifest.bytes, { artifactType, outcome: manifest.outcome });
    } catch (error) {
      return await this.#noneIfAbsent(repository, digest, { error, signal });
    }
  }

  /** @throws RegistryError the error, unless it says that there is nothing of the kind */
  async #noneIfAbsent(
    repository: Repository,
    digest: Digest,
    failed: Waiting & { error: unknown },
  ): Promise<undefined> {
    if (!(await this.#options.manifests.isAbsence(repository, digest, failed))) throw failed.error;
    return undefined;
  }

  /** Lists stored referrers: by the subjects that manifests name; of the fallback tag, also those without a subject. */
  async #offlineReferrers(
    repository: Repository,
    digest: Digest,
    { artifactType, signal }: Waiting & { artifactType: string | undefined },
  ): Promise<ListingReply> {
    const { catalog } = this.#options;
    const tagged = await this.#fallbackTag(repository, digest, { artifactType: undefined, signal });
    const listed = tagged ? readIndex(tagged.bytes) : [];
    const stored = listed.filter(
      (one) => catalog.blobs.has(one.digest) && catalog.grants.isReadable(repository.key, one.digest),
    );
    const all = [...stored, ...catalog.manifests.referrers(repository.key, digest)];
    return storedReply([...new Map(all.map((one) => [one.digest, one])).values()], artifactType);
  }
}

type ReferrerDescriptor = Descriptor & { readonly artifactType?: string | undefined };

function storedReply(manifests: readonly ReferrerDescriptor[], artifactType: string | undefined): ListingReply {
  const bytes = indexOf(manifests);
  if (artifactType === undefined) return indexReply(bytes, { outcome: 'hit' });
  return filteredReply(bytes, { artifactType, outcome: 'hit' });
}

function indexOf(manifests: readonly ReferrerDescriptor[]): Buffer {
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests }));
}

function readIndex(bytes: Buffer): ReferrerDescriptor[] {
  // Only its shape is checked; the descriptors are passed on as they are.
  readManifest(bytes, ociIndex);
  const { manifests } = parseJson(bytes, manifestLimits) as { manifests?: ReferrerDescriptor[] | null };
  return (manifests ?? []).filter((manifest) => readDescriptor(manifest) !== undefined);
}

/** An index that lists nothing is not longer, annotations and all. */
const maxEmptyBytes = 1024 * 1024;

/** Whether an answer is the first page and the last, with nothing on it. */
function isAllAndEmpty({ bytes, nextQuery }: ListingAnswer, query: string): boolean {
  const isFirst = new URLSearchParams(query).keys().every((key) => key === 'artifactType' || key === 'n');
  // The shortest descriptor takes more than this; a long list is not read to find out whether it is empty.
  const mayBeEmpty = bytes.length <= maxEmptyBytes;
  return isFirst && nextQuery === undefined && mayBeEmpty && readIndex(bytes).length === 0;
}

function emptyListing(): ListingAnswer {
  return { bytes: indexOf([]), contentType: ociIndex, nextQuery: undefined, filtersApplied: undefined };
}

function isIndex(bytes: Buffer): boolean {
  try {
    readIndex(bytes);
    return true;
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    // Too long to be looked at, and far too long for a page of a website.
    return error.cause instanceof JsonLimitError;
  }
}

function indexReply(bytes: Buffer, { outcome }: { outcome: Outcome }): ListingReply {
  return { ...emptyListing(), bytes, outcome };
}

function filteredReply(bytes: Buffer, options: { artifactType: string; outcome: Outcome }): ListingReply {
  const manifests = readIndex(bytes).filter((manifest) => manifest.artifactType === options.artifactType);
  return { ...indexReply(indexOf(manifests), options), filtersApplied: 'artifactType' };
}

function listingOf({ bytes, contentType, nextQuery, filtersApplied }: ListingReply): ListingAnswer {
  return { bytes, contentType, nextQuery, filtersApplied };
}

/** Filters by `artifactType`, for upstreams that ignore it. */
function filteredHere(reply: ListingAnswer | ListingReply, artifactType: string | undefined): ListingReply {
  const given: ListingReply = { outcome: 'bypass', ...reply };
  if (artifactType === undefined || reply.filtersApplied !== undefined || reply.nextQuery !== undefined) return given;
  return { ...given, ...filteredReply(reply.bytes, { artifactType, outcome: given.outcome }) };
}
