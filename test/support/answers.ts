import { type ByteSource, memorySource } from './bytes.ts';
import type { PlacedFault } from './faults.ts';
import type { RecordedRequest } from './recorded-request.ts';

/** An answer before it is sent: what faults change. */
export interface Answer {
  status: number;
  headers: Record<string, string | undefined>;
  source: ByteSource;
  start: number;
  /** Offset after the last byte that is sent. */
  end: number;
  /** Undefined: chunked. */
  contentLength: number | undefined;
  cutAfterBytes?: number;
  stalls: { readonly afterBytes: number; readonly fault: PlacedFault }[];
  pauses: PlacedFault[];
  /** Nothing of the answer is sent at all. */
  instead?: 'silence' | 'reset';
}

/** An answer that is a text, whole. */
export function textAnswer(
  status: number,
  body: string | Uint8Array,
  headers: Record<string, string | undefined> = {},
): Answer {
  const source = memorySource(typeof body === 'string' ? Buffer.from(body) : body);
  return { status, headers, source, start: 0, end: source.size, contentLength: source.size, stalls: [], pauses: [] };
}

/** An answer with status 200 and JSON. */
export function jsonAnswer(body: object, headers: Record<string, string | undefined> = {}): Answer {
  return textAnswer(200, JSON.stringify(body), { 'Content-Type': 'application/json', ...headers });
}

/** An error as registries write it. */
export function errorAnswer(status: number, code: string, headers: Record<string, string> = {}): Answer {
  const body = JSON.stringify({ errors: [{ code, message: code.toLowerCase().replaceAll('_', ' ') }] });
  return textAnswer(status, body, { 'Content-Type': 'application/json', ...headers });
}

/** The whole of a blob, or the part of it that `Range` asks for. */
export function rangeAnswer(source: ByteSource, range: string | undefined): Answer {
  const whole = { start: 0, end: source.size, contentLength: source.size, stalls: [], pauses: [] };
  const headers: Record<string, string | undefined> = { 'Content-Type': 'application/octet-stream' };
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(range ?? '') ?? [];
  if (first === '' && last === '') return { status: 200, headers, source, ...whole };
  const start = first === '' ? Math.max(0, source.size - Number(last)) : Number(first);
  const end = first === '' || last === '' ? source.size : Math.min(source.size, Number(last) + 1);
  if (start >= end) {
    headers['Content-Range'] = `bytes */${source.size}`;
    return { status: 416, headers, source, ...whole, end: 0, contentLength: 0 };
  }
  headers['Content-Range'] = `bytes ${start}-${end - 1}/${source.size}`;
  return { status: 206, headers, source, ...whole, start, end, contentLength: end - start };
}

/** How {@link tagsAnswer} makes pages. */
export interface TagPaging {
  readonly repository: string;
  readonly request: RecordedRequest;
  /** Most tags on a page, also where `n` says more or nothing. */
  readonly pageSize: number | undefined;
  readonly linkStyle: 'relative' | 'absolute' | 'opaque';
  readonly origin: string;
}

/** One page of tags, with `Link` to the next (distribution-spec, "Listing Tags"). */
export function tagsAnswer(all: readonly string[] | undefined, paging: TagPaging): Answer {
  if (all === undefined) return errorAnswer(404, 'NAME_UNKNOWN');
  const { repository, linkStyle } = paging;
  const { query } = paging.request;
  const token = query.get('next_page');
  const after = token === null ? query.get('last') : Buffer.from(token, 'base64url').toString();
  const wanted = Number(query.get('n') ?? Number.POSITIVE_INFINITY);
  const pageSize = Math.min(wanted, paging.pageSize ?? Number.POSITIVE_INFINITY);
  const remaining = all.filter((tag) => after === null || tag > after);
  const tags = remaining.slice(0, pageSize);
  const last = tags.at(-1);
  if (last === undefined || tags.length === remaining.length) return jsonAnswer({ name: repository, tags });
  const path = `${linkStyle === 'absolute' ? paging.origin : ''}/v2/${repository}/tags/list?n=${pageSize}`;
  const next =
    linkStyle === 'opaque'
      ? `next_page=${Buffer.from(last).toString('base64url')}`
      : `last=${encodeURIComponent(last)}`;
  return jsonAnswer({ name: repository, tags }, { Link: `<${path}&${next}>; rel="next"` });
}
