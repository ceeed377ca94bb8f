import type { IncomingHttpHeaders } from 'node:http';
import { LRUCache } from 'lru-cache';
import { type Digest, digestAlgorithm, digestOf, isDigest } from '../oci/digest.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import { ociIndex, octetStream } from '../oci/media-types.ts';
import { readContentRange } from '../oci/range.ts';
import { drain, readBounded } from '../transport/body.ts';
import { askHead, type HeadOrGet, headOrGet } from './ask-head.ts';
import type { Ask, Asker } from './asking.ts';
import type {
  BlobAnswer,
  BlobEndpoint,
  BlobHead,
  ManifestAnswer,
  ManifestHead,
  RequestOptions,
  UpstreamClient,
} from './client.ts';
import { plainBody, plainBytes } from './encoding.ts';
import { unavailable } from './failures.ts';
import type { HttpAnswer } from './http-client.ts';
import { isListing, isObject } from './json-shape.ts';
import { nextQuery, withoutSelection } from './link.ts';
import type { ArrivingMemory } from './options.ts';
import { ageOf, type ParentAge } from './parent.ts';
import type { Profile } from './profile.ts';
import { askForPart, isUsablePart, requireWhole, withoutRanges } from './ranges.ts';

/**
 * The status codes of registries without a referrers API for its path: it does not exist, or they do not understand the
 * request. A proxy in front of one may know neither the method nor the type that is asked for.
 */
const withoutReferrers = [400, 404, 405, 406, 501];
/** Largest page of tags or referrers that is taken into memory: docker-registry sends all tags in one. */
const maxListingBytes = 16 * 1024 * 1024;
/** So many HEADs in a row that are slower than a GET sent after them are the endpoint's way. */
const silencesBelieved = 2;
/** How many lengths that HEADs told are remembered, to be compared with the bodies that come. */
const maxToldLengths = 500;

export interface EndpointOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly url: string;
  readonly asker: Asker;
  readonly profile: Profile;
  readonly maxManifestBytes: number;
  /** How long a HEAD is waited for before a GET is sent beside it, in milliseconds. */
  readonly patienceMs: number;
  /** Counts manifests and lists while they arrive. */
  readonly memory: ArrivingMemory | undefined;
}

type ManifestOptions = RequestOptions & { readonly accept: readonly string[] };
type HeadOptions = Parameters<UpstreamClient['headManifest']>[2];
type BlobOptions = Parameters<BlobEndpoint['openBlob']>[2];

/** The pull API at one URL of an upstream. Each method throws as {@link UpstreamClient} says. */
export class Endpoint implements BlobEndpoint {
  readonly url: string;
  readonly #options: EndpointOptions;
  readonly #toldLengths = new LRUCache<string, number>({ max: maxToldLengths });
  /** HEADs in a row that were not answered before a GET was. */
  readonly #silent = { manifestHead: 0, blobHead: 0 };

  constructor(options: EndpointOptions) {
    this.url = options.url;
    this.#options = options;
  }

  /** A HEAD only ever saves a GET: whatever else it says, a GET decides. */
  async headManifest(repository: string, reference: string, options: HeadOptions): Promise<ManifestHead> {
    const { asker, profile, patienceMs } = this.#options;
    const { accept, hasSubstitute, signal } = options;
    if (profile.get('manifestHead') !== 'trusted') return await this.headByGet(repository, reference, options);
    const get = (within: AbortSignal) => this.headByGet(repository, reference, { accept, signal: within });
    const path = `manifests/${reference}`;
    const headers = { accept: accept.join(', ') };
    const found = await headOrGet({
      head: async (asking) => {
        const answer = await askHead(asker, { repository, subject: 'manifest', path, headers, ...asking });
        return isGood(answer) ? this.#headOf(answer) : undefined;
      },
      get,
      patienceMs,
      hasSubstitute,
      signal,
    });
    this.#learn('manifestHead', found);
    return 'head' in found ? found.head : found.got;
  }

  /** The head of a manifest that is asked for by GET instead. */
  async headByGet(repository: string, reference: string, options: ManifestOptions): Promise<ManifestHead> {
    const answer = await this.getManifest(repository, reference, options);
    const { bytes, contentType, digest = digestOf(bytes), age } = answer;
    return { digest, contentType, size: bytes.length, answer, ...(age && { age }) };
  }

  async getManifest(repository: string, reference: string, options: ManifestOptions): Promise<ManifestAnswer> {
    const answer = await this.#options.asker.ask({
      method: 'GET',
      repository,
      subject: 'manifest',
      path: `manifests/${reference}`,
      headers: { accept: options.accept.join(', ') },
      signal: options.signal,
      accepted: [206],
    });
    requireWhole(answer, this.#options.upstream);
    const told = contentDigest(answer.headers);
    const raw = await this.#readAll(answer, { what: 'manifests', maxBytes: this.#options.maxManifestBytes });
    const wanted = isDigest(reference) ? reference : told;
    const bytes = plainBytes(raw, answer.codings, (candidate) =>
      wanted === undefined ? isObject(candidate) : digestOf(candidate, digestAlgorithm(wanted)) === wanted,
    );
    this.#compareLength(wanted, bytes.length);
    return { bytes, contentType: answer.headers['content-type'] ?? '', digest: told, ...withAge(answer) };
  }

  /** As {@link headManifest}: what a HEAD does not confirm, a GET of one byte may. */
  async headBlob(repository: string, digest: Digest, { signal }: RequestOptions): Promise<BlobHead> {
    const { asker, profile, patienceMs } = this.#options;
    const blob = { repository, subject: 'blob', path: `blobs/${digest}` } as const;
    const get = (within: AbortSignal) => this.#firstByte({ ...blob, method: 'GET', signal: within });
    if (profile.get('blobHead') !== 'trusted') return await get(signal);
    let isGiven = false;
    const found = await headOrGet({
      head: async (asking) => {
        const answer = await askHead(asker, { ...blob, ...asking });
        isGiven = isGood(answer);
        const size = answer.codings.length === 0 ? answer.contentLength : undefined;
        // Some proxies drop the length of what has no body: nothing is as long as that.
        const contentType = answer.headers['content-type'] ?? octetStream;
        return isGiven && size !== 0 ? { size, contentType } : undefined;
      },
      get,
      patienceMs,
      signal,
    });
    if (!isGiven || 'head' in found) this.#learn('blobHead', found);
    return 'head' in found ? found.head : found.got;
  }

  /** Whether a blob is there and how long it is, by its first byte. */
  async #firstByte(get: Ask): Promise<BlobHead> {
    const answer = await askForPart(this.#options.asker, get, {
      range: 'bytes=0-0',
      accepted: [416],
      refusals: withoutRanges,
    });
    const contentType = answer.headers['content-type'] ?? octetStream;
    if (answer.status === 206 || answer.status === 416) await drain(answer.body);
    else answer.body.destroy();
    // 416 of the first byte: there is none (RFC 9110, 15.5.17).
    if (answer.status === 416) return { size: 0, contentType };
    const size = answer.status === 206 ? readContentRange(answer.headers['content-range'])?.size : answer.contentLength;
    return { size, contentType };
  }

  async openBlob(repository: string, digest: Digest, options: BlobOptions): Promise<BlobAnswer> {
    const { offset = 0, end, size, memory, signal } = options;
    const ranged = offset > 0 || end !== undefined;
    const whole = { method: 'GET', repository, subject: 'blob', path: `blobs/${digest}`, signal, memory } as const;
    const range = `bytes=${offset}-${end === undefined ? '' : end - 1}`;
    // 416 of an open end may be true: what is here already may be longer than the blob.
    const refusals = end === undefined ? withoutRanges : [416, ...withoutRanges];
    const answer = ranged
      ? await askForPart(this.#options.asker, whole, { range, refusals })
      : await this.#options.asker.ask({ ...whole, accepted: [206] });
    const { headers } = answer;
    const contentType = headers['content-type'] ?? octetStream;
    if (answer.status !== 206 || !ranged) {
      requireWhole(answer, this.#options.upstream);
      const plain = await plainBody(answer, { digest, size });
      if (plain === undefined) {
        throw unavailable(this.#options.upstream, 'sends an encoded body although it was asked for the plain one', {
          detail: { contentEncoding: answer.codings.join(', ').slice(0, 50) },
        });
      }
      const { body, length } = plain;
      return { size: length, start: 0, end: length, contentType, body };
    }
    const { body } = answer;
    const window = readContentRange(headers['content-range']);
    if (window === undefined || !isUsablePart(window, { offset, end, contentLength: answer.contentLength })) {
      body.destroy();
      throw unavailable(this.#options.upstream, 'answered a range of the blob with another one', {
        reason: 'range-ignored',
      });
    }
    return { size: window.size, ...window.range, contentType, body };
  }

  async listTags(repository: string, query: string, { signal }: RequestOptions): Promise<ListingAnswer> {
    const path = withQuery('tags/list', query);
    const answer = await this.#options.asker.ask({ method: 'GET', repository, subject: 'repository', path, signal });
    const list = await this.#list(answer, 'tags');
    if (list !== undefined) return list;
    const place = `${answer.url.origin}${answer.url.pathname}`;
    throw unavailable(this.#options.upstream, `answered with something that is no list of tags (GET ${place})`);
  }

  /** Unlike the client's, throws MANIFEST_UNKNOWN where there is no referrers API. */
  async listReferrers(
    repository: string,
    digest: Digest,
    options: RequestOptions & { readonly query: string },
  ): Promise<ListingAnswer | undefined> {
    const path = withQuery(`referrers/${digest}`, options.query);
    const { signal } = options;
    const headers = { accept: ociIndex };
    const ask = { method: 'GET', repository, subject: 'referrers', path, headers, signal } as const;
    const answer = await this.#options.asker.ask({ ...ask, accepted: withoutReferrers });
    // A page of HTML is what a proxy or a portal has to say about a path that it does not know.
    if (isGood(answer)) return await this.#list(answer, 'manifests');
    await drain(answer.body);
    return undefined;
  }

  /** @returns `undefined` where the answer is no such list */
  async #list(answer: HttpAnswer, member: 'tags' | 'manifests'): Promise<ListingAnswer | undefined> {
    const { headers, codings } = answer;
    const filters = headers['oci-filters-applied'];
    const raw = await this.#readAll(answer, { what: 'lists', maxBytes: maxListingBytes });
    const bytes = plainBytes(raw, codings, (candidate) => isListing(candidate, member));
    if (!isListing(bytes, member)) return undefined;
    return {
      bytes,
      // The spec names the type of a list of referrers, and clients read it.
      contentType: member === 'manifests' ? ociIndex : (headers['content-type'] ?? 'application/json'),
      nextQuery: nextQuery(Array.isArray(headers.link) ? headers.link.join(', ') : headers.link),
      filtersApplied: Array.isArray(filters) ? filters.join(',') : filters,
    };
  }

  /** A HEAD that a GET contradicts is not sent again; one that was only late, after the second time; a limit passes. */
  #learn(trait: 'manifestHead' | 'blobHead', found: HeadOrGet<unknown, unknown>): void {
    const because = 'got' in found ? found.because : undefined;
    this.#silent[trait] = because === 'silent' ? this.#silent[trait] + 1 : 0;
    if (because === 'refuted' || this.#silent[trait] >= silencesBelieved) {
      this.#options.profile.learn(trait, 'unreliable');
    }
  }

  #headOf(answer: HttpAnswer): ManifestHead {
    const { headers, contentLength, codings } = answer;
    const digest = contentDigest(headers);
    const isTold = contentLength !== 0 && codings.length === 0 && this.#options.profile.get('headLength') === 'trusted';
    const size = isTold ? contentLength : undefined;
    if (digest !== undefined && size !== undefined) this.#toldLengths.set(digest, size);
    return { digest, contentType: headers['content-type'] ?? '', size, ...withAge(answer) };
  }

  #compareLength(digest: Digest | undefined, length: number): void {
    const told = digest === undefined ? undefined : this.#toldLengths.get(digest);
    if (told !== undefined && told !== length) this.#options.profile.learn('headLength', 'wrong');
  }

  async #readAll(
    answer: HttpAnswer,
    { what, maxBytes }: { what: keyof ArrivingMemory; maxBytes: number },
  ): Promise<Buffer> {
    const { body, contentLength = 0 } = answer;
    const memory = this.#options.memory?.[what];
    const bytes = contentLength > maxBytes ? undefined : await readBounded(body, maxBytes, { memory });
    if (bytes !== undefined) return bytes;
    body.destroy();
    throw unavailable(
      this.#options.upstream,
      `sends a ${what === 'lists' ? 'list' : 'manifest'} larger than the ${maxBytes} bytes allowed`,
      {
        reason: 'too-large',
      },
    );
  }
}

function withQuery(path: string, query: string): string {
  const kept = withoutSelection(query);
  return kept === '' ? path : `${path}?${kept}`;
}

function contentDigest(headers: IncomingHttpHeaders): Digest | undefined {
  const value = headers['docker-content-digest'];
  return typeof value === 'string' && isDigest(value.trim()) ? (value.trim() as Digest) : undefined;
}

function withAge({ headers, foreign }: HttpAnswer): { age?: ParentAge } {
  const age = foreign ? undefined : ageOf(headers);
  return age ? { age } : {};
}

function isGood({ status }: HttpAnswer): boolean {
  return status === 200 || status === 203;
}
