import { randomBytes } from 'node:crypto';
import type { ListingReply } from '../mirror/asked-lists.ts';
import type { BlobHead, BlobReply } from '../mirror/blobs.ts';
import { heldBackBytes } from '../mirror/fill/fill.ts';
import type { ManifestHead, ManifestReply } from '../mirror/manifests.ts';
import type { Outcome } from '../mirror/outcome.ts';
import { type Digest, reprDigest } from '../oci/digest.ts';
import type { RegistryError } from '../oci/error.ts';
import { type ByteRange, contentRange, readRanges } from '../oci/range.ts';
import { type Reason, reasonFacts } from '../oci/reason.ts';
import type { RateLimit } from '../upstream/rate-limit.ts';
import type { Reply } from './send.ts';

/** The parts of a request that decide the form of its answer. */
export interface Conditions {
  readonly head: boolean;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly ifNoneMatch: string | undefined;
  /** `ns` as it was sent; the answer says that it was heeded. */
  readonly namespace: string | undefined;
}

/** `Cache-Status` (RFC 9211) for each way an answer can come about. */
const cacheStatus: Record<Outcome, string> = {
  hit: 'millpond; hit',
  revalidated: 'millpond; fwd=stale; detail=revalidated',
  revalidating: 'millpond; hit; detail=stale-while-revalidate',
  stale: 'millpond; hit; detail=stale',
  miss: 'millpond; fwd=miss; stored',
  peer: 'millpond; fwd=miss; detail=peer',
  collapsed: 'millpond; fwd=miss; collapsed',
  bypass: 'millpond; fwd=bypass',
  negative: 'millpond; hit; detail=negative',
};

const immutable = 'public, max-age=31536000, immutable';

/** Answers to `GET /v2/` (distribution-spec, end-1). */
export function pingReply(conditions: Conditions): Reply {
  const bytes = Buffer.from('{}');
  return {
    status: 200,
    headers: [...commonHeaders('millpond', conditions), 'Content-Type', 'application/json', 'Content-Length', '2'],
    content: conditions.head ? { kind: 'none' } : { kind: 'bytes', bytes },
  };
}

export function manifestReply(
  manifest: ManifestReply | ManifestHead,
  options: Conditions & {
    readonly byDigest: boolean;
    readonly rateLimit?: RateLimit | undefined;
    /** A warning for the client, in a sentence. */
    readonly warning?: string | undefined;
  },
): Reply {
  const { byDigest, rateLimit, warning, ...conditions } = options;
  const { digest, size, contentType, outcome, stale, ageSeconds } = manifest;
  // Of a tag that was only asked about nothing is stored but what it stands for.
  const isStored = 'bytes' in manifest;
  const status = outcome === 'miss' && !isStored ? 'millpond; fwd=miss' : cacheStatus[outcome];
  const headers = commonHeaders(status, conditions);
  headers.push('Docker-Content-Digest', digest, 'ETag', `"${digest}"`);
  if (byDigest) headers.push('Cache-Control', immutable);
  if (rateLimit) headers.push(...rateLimitHeaders(rateLimit));
  if (stale === undefined && ageSeconds !== undefined) headers.push('Age', String(ageSeconds));
  if (stale) headers.push('Age', String(stale.ageSeconds), 'Warning', `299 - "${stale.warning}"`);
  if (warning !== undefined) headers.push('Warning', warningText(warning));
  if (isKnown(conditions.ifNoneMatch, digest)) return { status: 304, headers, content: { kind: 'none' } };
  headers.push('Repr-Digest', reprDigest(digest));
  headers.push('Content-Type', contentType, 'Content-Length', String(size));
  const withBody = !conditions.head && 'bytes' in manifest;
  return { status: 200, headers, content: withBody ? { kind: 'bytes', bytes: manifest.bytes } : { kind: 'none' } };
}

/** @throws RegistryError RANGE_INVALID; the caller disposes the body then */
export function blobReply(
  blob: BlobReply | BlobHead,
  { warning, ...conditions }: Conditions & { readonly warning?: string | undefined },
): Reply {
  const { digest, size, contentType, outcome } = blob;
  const headers = commonHeaders(cacheStatus[outcome], conditions);
  headers.push('Docker-Content-Digest', digest, 'ETag', `"${digest}"`, 'Cache-Control', immutable);
  if (warning !== undefined) headers.push('Warning', warningText(warning));
  if (isKnown(conditions.ifNoneMatch, digest)) return { status: 304, headers, content: { kind: 'none' } };
  headers.push('Repr-Digest', reprDigest(digest));
  if (size === undefined) {
    headers.push('Content-Type', contentType);
    // Where the size is not known, what comes first may be all of it, and then nothing of it has been verified.
    const content =
      'body' in blob ? ({ kind: 'body', body: blob.body, start: 0, end: undefined, early: false } as const) : none;
    return { status: 200, headers, content: conditions.head ? none : content };
  }
  headers.push('Accept-Ranges', 'bytes');
  // An If-Range of another entity asks for the whole (RFC 9110, 13.1.5).
  const isRangeMeant = conditions.ifRange === undefined || matches(conditions.ifRange, digest);
  const ranges = conditions.head || !isRangeMeant ? [] : readRanges(conditions.range, size);
  if (ranges.length > 1 && 'body' in blob) return partsReply({ ...blob, size }, ranges, headers);
  const [range] = ranges;
  const { start, end } = range ?? { start: 0, end: size };
  headers.push('Content-Type', contentType);
  if (range) headers.push('Content-Range', contentRange(range, size));
  headers.push('Content-Length', String(end - start));
  if (conditions.head || !('body' in blob)) return { status: 200, headers, content: none };
  const { bytes } = blob.body;
  return {
    status: range ? 206 : 200,
    headers,
    content: bytes
      ? { kind: 'bytes', bytes: range ? bytes.subarray(start, end) : bytes }
      : // A blob that is held back whole has no status before its digest is known to be right.
        { kind: 'body', body: blob.body, start, end, early: outcome !== 'hit' && size > heldBackBytes },
  };
}

/** Several ranges of a blob in one answer (RFC 9110, 14.6). */
function partsReply(
  { body, contentType, size }: BlobReply & { size: number },
  ranges: readonly ByteRange[],
  headers: string[],
): Reply {
  const boundary = randomBytes(18).toString('hex');
  const parts = ranges.map(({ start, end }, index) => ({
    head: `${index === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: ${contentType}\r\nContent-Range: ${contentRange({ start, end }, size)}\r\n\r\n`,
    start,
    end,
  }));
  const tail = `\r\n--${boundary}--\r\n`;
  const bytes = parts.reduce((sum, { head, start, end }) => sum + head.length + end - start, tail.length);
  headers.push('Content-Type', `multipart/byteranges; boundary=${boundary}`, 'Content-Length', String(bytes));
  return { status: 206, headers, content: { kind: 'parts', body, parts, tail } };
}

/** A warning of this mirror (RFC 7234, 5.5). */
function warningText(sentence: string): string {
  return `299 - "${sentence.replaceAll('"', "'")}"`;
}

/** @param path the path and the choosing parameters with which this client comes to the same listing again */
export function listingReply(
  listing: ListingReply,
  { path, selecting, ...conditions }: Conditions & { path: string; selecting: string },
): Reply {
  const headers = commonHeaders(cacheStatus[listing.outcome], conditions);
  headers.push('Content-Type', listing.contentType, 'Content-Length', String(listing.bytes.length));
  const { stale } = listing;
  if (stale) headers.push('Age', String(stale.ageSeconds), 'Warning', `299 - "${stale.warning}"`);
  if (listing.filtersApplied !== undefined) headers.push('OCI-Filters-Applied', listing.filtersApplied);
  if (listing.nextQuery !== undefined) {
    const query = [listing.nextQuery, selecting].filter((part) => part !== '').join('&');
    headers.push('Link', `<${path}?${query}>; rel="next"`);
  }
  return { status: 200, headers, content: conditions.head ? none : { kind: 'bytes', bytes: listing.bytes } };
}

/** Errors that are this mirror's own, and not the registry's, by the names of RFC 9209, 2.3. */
const proxyErrors: Partial<Record<Reason, string>> = {
  loop: 'proxy_loop_detected',
  offline: 'destination_unavailable',
  'unknown-upstream': 'destination_not_found',
  'not-allowed': 'http_request_denied',
  'no-place': 'connection_limit_reached',
  timeout: 'http_response_timeout',
};

/**
 * Whose an error is (RFC 9209): a mirror that is asked through this one must not take what this one lacks for what the
 * registry lacks. `undefined` for what the client itself did wrong.
 */
function proxyStatusOf(error: RegistryError): string | undefined {
  const own = proxyErrors[error.reason];
  if (own !== undefined) return `millpond; error=${own}`;
  const { kind } = reasonFacts[error.reason];
  if (error.blame === 'upstream' && (kind !== 'transient' || error.reason === 'limited')) {
    return `millpond; received-status=${error.status}`;
  }
  if (error.blame === 'client' && error.reason !== 'incomplete') return undefined;
  return `millpond; error=${error.blame === 'upstream' ? 'destination_unavailable' : 'proxy_internal_error'}`;
}

/** The spec's error body; a HEAD gets its length, too. */
export function errorReply(error: RegistryError, conditions: Conditions, outcome: Outcome | undefined): Reply {
  const bytes = Buffer.from(JSON.stringify(error.toBody()));
  const headers = commonHeaders(outcome ? cacheStatus[outcome] : 'millpond; detail=error', conditions);
  const proxyStatus = proxyStatusOf(error);
  if (proxyStatus !== undefined) headers.push('Proxy-Status', proxyStatus);
  for (const [name, value] of Object.entries(error.headers)) headers.push(name, value);
  headers.push('Content-Type', 'application/json', 'Content-Length', String(bytes.length));
  return { status: error.status, headers, content: conditions.head ? none : { kind: 'bytes', bytes } };
}

/** An answer without a body. */
export function emptyReply(status: number, headers: readonly string[] = []): Reply {
  const length = status === 204 ? [] : ['Content-Length', '0'];
  return { status, headers: ['Docker-Distribution-Api-Version', 'registry/2.0', ...headers, ...length], content: none };
}

/** A JSON document. @param body ready bytes, or what is to be written as JSON */
export function jsonReply(
  body: Buffer | object,
  {
    headers = [],
    contentType = 'application/json',
    ...conditions
  }: Conditions & { headers?: readonly string[]; contentType?: string },
): Reply {
  const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
  const common = [...commonHeaders('millpond; hit', conditions), ...headers];
  return {
    status: 200,
    headers: [...common, 'Content-Type', contentType, 'Content-Length', String(bytes.length)],
    content: conditions.head ? none : { kind: 'bytes', bytes },
  };
}

/** The remaining pulls of the upstream, as Docker Hub writes them. */
function rateLimitHeaders({ remaining, limit, windowSeconds }: RateLimit): string[] {
  const window = windowSeconds === undefined ? '' : `;w=${windowSeconds}`;
  const headers = ['RateLimit-Remaining', `${remaining}${window}`];
  if (limit !== undefined) headers.push('RateLimit-Limit', `${limit}${window}`);
  return headers;
}

const none = { kind: 'none' } as const;

function commonHeaders(status: string, { namespace }: Conditions): string[] {
  const headers = ['Docker-Distribution-Api-Version', 'registry/2.0', 'Cache-Status', status];
  if (namespace !== undefined) headers.push('OCI-Namespace', namespace);
  return headers;
}

// `*` stands for whatever is there (RFC 9110, 13.1.2).
function isKnown(ifNoneMatch: string | undefined, digest: Digest): boolean {
  return ifNoneMatch?.trim() === '*' || matches(ifNoneMatch, digest);
}

function matches(header: string | undefined, digest: Digest): boolean {
  if (header === undefined) return false;
  return header.split(',').some((tag) => tag.trim().replace(/^W\//, '') === `"${digest}"`);
}
