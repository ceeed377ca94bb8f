import type { IncomingHttpHeaders } from 'node:http';
import { LRUCache } from 'lru-cache';
import { type Digest, digestAlgorithm, digestOf, isDigest } from '../oci/digest.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import { octetStream } from '../oci/media-types.ts';
import { type ByteRange, readContentRange } from '../oci/range.ts';
import { type CountedMemory, drain, readBounded } from '../transport/body.ts';
import type { Asker } from './asking.ts';
import type { BlobAnswer, BlobEndpoint, BlobHead, ManifestAnswer, ManifestHead, RequestOptions } from './client.ts';
import { plainBody, plainBytes } from './encoding.ts';
import { unavailable } from './failures.ts';
import type { HttpAnswer } from './http-client.ts';
import { nextQuery, withoutSelection } from './link.ts';
import { ageOf, type ParentAge } from './parent.ts';
import type { Profile } from './profile.ts';

/**
 * What registries without a referrers API answer for its path: that there is no such thing, or that they do not
 * understand the question. A proxy in front of one may know neither the method nor the type that is asked for.
 */
const withoutReferrers = [400, 404, 405, 406, 501];
/** Largest page of tags or referrers that is taken into memory: docker-registry sends all tags in one. */
const maxListingBytes = 16 * 1024 * 1024;
/** How many lengths that HEADs told are remembered, to be compared with the bodies that come. */
const maxToldLengths = 500;

export interface EndpointOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly url: string;
  readonly asker: Asker;
  readonly profile: Profile;
  readonly maxManifestBytes: number;
  /** Counts manifests and lists while they arrive. */
  readonly memory: CountedMemory | undefined;
}

type ManifestOptions = RequestOptions & { readonly accept: readonly string[] };
type BlobOptions = RequestOptions & { readonly offset?: number; readonly end?: number; readonly size?: number };

/** The pull API at one URL of an upstream. Each method throws as {@link UpstreamClient} says. */
export class Endpoint implements BlobEndpoint {
  readonly url: string;
  readonly #options: EndpointOptions;
  readonly #toldLengths = new LRUCache<string, number>({ max: maxToldLengths });

  constructor(options: EndpointOptions) {
    this.url = options.url;
    this.#options = options;
  }

  /** A HEAD only ever saves a GET: whatever else it says, a GET decides. */
  async headManifest(repository: string, reference: string, options: ManifestOptions): Promise<ManifestHead> {
    const { asker, profile } = this.#options;
    let isContradicted = false;
    if (profile.get('manifestHead') === 'trusted') {
      const answer = await asker.ask({
        method: 'HEAD',
        repository,
        subject: 'manifest',
        path: `manifests/${reference}`,
        headers: { accept: options.accept.join(', ') },
        signal: options.signal,
        accepted: 'any',
      });
      await drain(answer.body);
      if (isGood(answer)) return this.#headOf(answer);
      isContradicted = true;
    }
    const manifest = await this.getManifest(repository, reference, options);
    if (isContradicted) profile.learn('manifestHead', 'unreliable');
    const { bytes, contentType, digest = digestOf(bytes) } = manifest;
    const { age } = manifest;
    return { digest, contentType, size: bytes.length, answer: manifest, ...(age && { age }) };
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
    this.#requireWhole(answer);
    const told = contentDigest(answer.headers);
    const raw = await this.#readAll(answer, { what: 'manifest', maxBytes: this.#options.maxManifestBytes });
    const wanted = isDigest(reference) ? reference : told;
    const bytes = plainBytes(raw, answer.codings, (candidate) =>
      wanted === undefined ? isObject(candidate) : digestOf(candidate, digestAlgorithm(wanted)) === wanted,
    );
    this.#compareLength(wanted, bytes.length);
    return { bytes, contentType: answer.headers['content-type'] ?? '', digest: told, ...withAge(answer) };
  }

  /** As {@link headManifest}: what a HEAD does not confirm, a GET of one byte may. */
  async headBlob(repository: string, digest: Digest, { signal }: RequestOptions): Promise<BlobHead> {
    const { asker, profile } = this.#options;
    const blob = { repository, subject: 'blob', path: `blobs/${digest}`, signal } as const;
    let isContradicted = false;
    if (profile.get('blobHead') === 'trusted') {
      const answer = await asker.ask({ ...blob, method: 'HEAD', accepted: 'any' });
      await drain(answer.body);
      const { headers } = answer;
      const size = answer.codings.length > 0 ? undefined : answer.contentLength;
      // Some proxies drop the length of what has no body: nothing is as long as that.
      if (isGood(answer) && size !== 0) return { size, contentType: headers['content-type'] ?? octetStream };
      isContradicted = !isGood(answer);
    }
    const answer = await asker.ask({ ...blob, method: 'GET', headers: { range: 'bytes=0-0' }, accepted: [206, 416] });
    if (isContradicted) profile.learn('blobHead', 'unreliable');
    const contentType = answer.headers['content-type'] ?? octetStream;
    if (answer.status === 206 || answer.status === 416) await drain(answer.body);
    else answer.body.destroy();
    // 416 of the first byte: there is none (RFC 9110, 15.5.17).
    if (answer.status === 416) return { size: 0, contentType };
    const size = answer.status === 206 ? readContentRange(answer.headers['content-range'])?.size : answer.contentLength;
    return { size, contentType };
  }

  async openBlob(repository: string, digest: Digest, options: BlobOptions): Promise<BlobAnswer> {
    const { offset = 0, end, size, signal } = options;
    const ranged = offset > 0 || end !== undefined;
    const answer = await this.#options.asker.ask({
      method: 'GET',
      repository,
      subject: 'blob',
      path: `blobs/${digest}`,
      headers: ranged ? { range: `bytes=${offset}-${end === undefined ? '' : end - 1}` } : {},
      signal,
      accepted: [206],
    });
    const { headers } = answer;
    const contentType = headers['content-type'] ?? octetStream;
    if (answer.status !== 206 || !ranged) {
      this.#requireWhole(answer);
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
    if (window === undefined || !isWindow(window, { offset, end, contentLength: answer.contentLength })) {
      body.destroy();
      throw unavailable(this.#options.upstream, 'answered a range of the blob with another one', {
        reason: 'range-ignored',
      });
    }
    return { size: window.size, start: offset, end: window.range.end, contentType, body };
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
    const accept = 'application/vnd.oci.image.index.v1+json';
    const ask = { method: 'GET', repository, subject: 'referrers', path, headers: { accept }, signal } as const;
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
    const raw = await this.#readAll(answer, { what: 'list', maxBytes: maxListingBytes });
    const bytes = plainBytes(raw, codings, (candidate) => isListing(candidate, member));
    if (!isListing(bytes, member)) return undefined;
    return {
      bytes,
      contentType: headers['content-type'] ?? 'application/json',
      nextQuery: nextQuery(Array.isArray(headers.link) ? headers.link.join(', ') : headers.link),
      filtersApplied: Array.isArray(filters) ? filters.join(',') : filters,
    };
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

  /** A 206 to a request for all of something counts where it has all of it. @throws RegistryError bad-answer */
  #requireWhole(answer: HttpAnswer): void {
    if (answer.status !== 206) return;
    const window = readContentRange(answer.headers['content-range']);
    if (window !== undefined && window.range.start === 0 && window.range.end === window.size) return;
    answer.body.destroy();
    throw unavailable(this.#options.upstream, 'answered with a part although it was asked for all');
  }

  async #readAll(answer: HttpAnswer, { what, maxBytes }: { what: string; maxBytes: number }): Promise<Buffer> {
    const { body, contentLength = 0 } = answer;
    const bytes =
      contentLength > maxBytes ? undefined : await readBounded(body, maxBytes, { memory: this.#options.memory });
    if (bytes !== undefined) return bytes;
    body.destroy();
    throw unavailable(this.#options.upstream, `sends a ${what} larger than the ${maxBytes} bytes allowed`, {
      reason: 'too-large',
    });
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

/** Whether a 206 is the window that was asked for: a shorter one would look like the blob's end. */
function isWindow(
  window: { readonly range: ByteRange; readonly size: number | undefined },
  wanted: { offset: number; end: number | undefined; contentLength: number | undefined },
): boolean {
  const { range, size } = window;
  const lengthFits = wanted.contentLength === undefined || wanted.contentLength === range.end - range.start;
  const wantedEnd = size === undefined ? wanted.end : Math.min(wanted.end ?? size, size);
  return range.start === wanted.offset && lengthFits && (wantedEnd === undefined || range.end === wantedEnd);
}

function withAge({ headers, foreign }: HttpAnswer): { age?: ParentAge } {
  const age = foreign ? undefined : ageOf(headers);
  return age ? { age } : {};
}

function isGood({ status }: HttpAnswer): boolean {
  return status === 200 || status === 203;
}

function isObject(bytes: Buffer): boolean {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** Bodies up to this are parsed to see whether they are lists; of longer ones the ends have to do. */
const maxParsedBytes = 1024 * 1024;

function isListing(bytes: Buffer, member: 'tags' | 'manifests'): boolean {
  if (bytes.length <= maxParsedBytes) return isObject(bytes) && bytes.includes(`"${member}"`);
  const start = bytes.subarray(0, 4096).toString('utf8').trimStart();
  const end = bytes.subarray(-4096).toString('utf8').trimEnd();
  return start.startsWith('{') && end.endsWith('}') && bytes.includes(`"${member}"`);
}
