import type { IncomingHttpHeaders } from 'node:http';
import { type Digest, isDigest } from '../oci/digest.ts';
import { octetStream } from '../oci/media-types.ts';
import { type ByteRange, readContentRange } from '../oci/range.ts';
import { drain, readBounded } from '../transport/body.ts';
import type { Authenticator } from './auth.ts';
import type {
  BlobAnswer,
  BlobEndpoint,
  BlobHead,
  ListingAnswer,
  ManifestAnswer,
  ManifestHead,
  RequestOptions,
} from './client.ts';
import { failureOf, type Subject, unavailable } from './failures.ts';
import type { Gate } from './gate.ts';
import type { HttpAnswer, HttpClient } from './http-client.ts';
import { nextQuery, withoutSelection } from './link.ts';

/**
 * What registries without a referrers API answer for its path: that there is no such thing, or that they do not understand
 * the question. A proxy in front of one may know neither the method nor the type that is asked for.
 */
const withoutReferrers = [400, 404, 405, 406, 501];
/** Largest page of tags or referrers that is taken into memory: docker-registry sends all tags in one. */
const maxListingBytes = 16 * 1024 * 1024;

export interface EndpointOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly url: string;
  readonly http: HttpClient;
  readonly gate: Gate;
  readonly authenticator: Authenticator;
  readonly maxManifestBytes: number;
  readonly now: () => number;
}

interface Ask {
  readonly method: 'GET' | 'HEAD';
  readonly repository: string;
  readonly subject: Subject;
  /** What follows the repository, with its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Statuses handed back beside 200, where they are no failure. */
  readonly accepted?: readonly number[];
}

type ManifestOptions = RequestOptions & { readonly accept: readonly string[] };
type BlobOptions = RequestOptions & { readonly offset?: number; readonly end?: number };

/** The pull API at one URL of an upstream. Each method throws as {@link UpstreamClient} says. */
export class Endpoint implements BlobEndpoint {
  readonly url: string;
  readonly #options: EndpointOptions;

  constructor(options: EndpointOptions) {
    this.url = options.url;
    this.#options = options;
  }

  async headManifest(repository: string, reference: string, options: ManifestOptions): Promise<ManifestHead> {
    const { status, headers, contentLength, body } = await this.#ask({
      method: 'HEAD',
      repository,
      subject: 'manifest',
      path: `manifests/${reference}`,
      headers: { accept: options.accept.join(', ') },
      signal: options.signal,
      accepted: [405, 501],
    });
    await drain(body);
    // An upstream without HEAD says nothing about the manifest: the caller asks by GET.
    if (status !== 200) return { digest: undefined, contentType: '', size: undefined };
    return { digest: contentDigest(headers), contentType: headers['content-type'] ?? '', size: contentLength };
  }

  async getManifest(repository: string, reference: string, options: ManifestOptions): Promise<ManifestAnswer> {
    const answer = await this.#ask({
      method: 'GET',
      repository,
      subject: 'manifest',
      path: `manifests/${reference}`,
      headers: { accept: options.accept.join(', ') },
      signal: options.signal,
    });
    return {
      bytes: await this.#readAll(answer, { what: 'manifest', maxBytes: this.#options.maxManifestBytes }),
      contentType: answer.headers['content-type'] ?? '',
      digest: contentDigest(answer.headers),
    };
  }

  async headBlob(repository: string, digest: Digest, { signal }: RequestOptions): Promise<BlobHead> {
    const ask = { method: 'HEAD', repository, subject: 'blob', path: `blobs/${digest}`, signal } as const;
    const { headers, contentLength, body } = await this.#ask(ask);
    await drain(body);
    return { size: contentLength, contentType: headers['content-type'] ?? octetStream };
  }

  async openBlob(repository: string, digest: Digest, options: BlobOptions): Promise<BlobAnswer> {
    const { offset = 0, end, signal } = options;
    const ranged = offset > 0 || end !== undefined;
    const answer = await this.#ask({
      method: 'GET',
      repository,
      subject: 'blob',
      path: `blobs/${digest}`,
      headers: ranged ? { range: `bytes=${offset}-${end === undefined ? '' : end - 1}` } : {},
      signal,
      accepted: ranged ? [206] : [],
    });
    const { headers, body } = answer;
    const contentType = headers['content-type'] ?? octetStream;
    if (answer.status === 200) {
      return { size: answer.contentLength, start: 0, end: answer.contentLength, contentType, body };
    }
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
    return this.#list(await this.#ask({ method: 'GET', repository, subject: 'repository', path, signal }));
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
    const answer = await this.#ask({ ...ask, accepted: withoutReferrers });
    if (answer.status === 200) return this.#list(answer);
    await drain(answer.body);
    return undefined;
  }

  async #list(answer: HttpAnswer): Promise<ListingAnswer> {
    const { headers } = answer;
    const filters = headers['oci-filters-applied'];
    return {
      bytes: await this.#readAll(answer, { what: 'listing', maxBytes: maxListingBytes }),
      contentType: headers['content-type'] ?? 'application/json',
      nextQuery: nextQuery(Array.isArray(headers.link) ? headers.link.join(', ') : headers.link),
      filtersApplied: Array.isArray(filters) ? filters.join(',') : filters,
    };
  }

  async #readAll(answer: HttpAnswer, { what, maxBytes }: { what: string; maxBytes: number }): Promise<Buffer> {
    const { body, contentLength = 0 } = answer;
    const bytes = contentLength > maxBytes ? undefined : await readBounded(body, maxBytes);
    if (bytes !== undefined) return bytes;
    body.destroy();
    throw unavailable(this.#options.upstream, `sends a ${what} larger than the ${maxBytes} bytes allowed`, {
      reason: 'too-large',
    });
  }

  /** Sends a request, with credentials where they are asked for, and throws for every status not accepted. */
  async #ask(ask: Ask): Promise<HttpAnswer> {
    const { upstream, gate, authenticator, now } = this.#options;
    const { repository, subject, signal } = ask;
    // No token is fetched for a request that will not be sent.
    gate.check();
    const known = await authenticator.authorization(repository, { signal });
    let answer = await this.#send(ask, known);
    if (answer.status === 401 && !answer.foreign) {
      const challenge = answer.headers['www-authenticate'];
      await drain(answer.body);
      const renewed = await authenticator.renew(repository, { challenge, refused: known, signal });
      answer = await this.#send(ask, renewed);
    }
    const { status } = answer;
    if (status === 200 || ask.accepted?.includes(status) === true) return answer;
    await drain(answer.body);
    const retryAfter = answer.headers['retry-after'];
    throw failureOf({ status, retryAfter, foreign: answer.foreign }, { upstream, subject, repository, now: now() });
  }

  async #send(ask: Ask, authorization: string | undefined): Promise<HttpAnswer> {
    const { http, gate } = this.#options;
    return await http.send({
      gate,
      method: ask.method,
      url: resourceUrl(this.url, `${ask.repository}/${ask.path}`),
      headers: { ...ask.headers, ...(authorization !== undefined && { authorization }) },
      lane: ask.subject === 'blob' && ask.method === 'GET' ? 'blob' : 'metadata',
      redirects: 'any-origin',
      signal: ask.signal,
    });
  }
}

/**
 * The address of something under `/v2/` of an endpoint. A path of the endpoint comes before `/v2/`, except where it
 * begins with `/v2/`: that is a mirror which tells its upstreams apart by the first part of the repository.
 */
function resourceUrl(endpoint: string, resource: string): URL {
  const url = new URL(endpoint);
  const base = url.pathname.replace(/\/+$/, '');
  const root = base === '/v2' || base.startsWith('/v2/') ? base : `${base}/v2`;
  return new URL(`${root}/${resource}`, url.origin);
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
