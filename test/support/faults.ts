import { gzipSync } from 'node:zlib';
import { type Answer, textAnswer } from './answers.ts';
import { flippedSource, readAll } from './bytes.ts';

/** What can be wrong with an answer. Byte counts are counts of this answer's body. */
export type Fault =
  /** The socket is closed after so many bytes. */
  | { readonly kind: 'cut'; readonly afterBytes: number }
  /** The socket is closed where this position of the blob is reached, wherever the answer begins. */
  | { readonly kind: 'cut-at'; readonly position: number }
  /** Nothing follows so many bytes until the fault is released; then the rest does. */
  | { readonly kind: 'stall'; readonly afterBytes: number }
  /** Not even the status line is sent until the fault is released. */
  | { readonly kind: 'pause' }
  /** One bit of the byte at this position of the blob (default: the middle) is turned over. */
  | { readonly kind: 'flip'; readonly position?: number }
  /** The last byte is missing: under the `Content-Length` of the whole, or under its own as a clean end. */
  | { readonly kind: 'short'; readonly declared: 'whole' | 'actual' }
  /** `Content-Length` says so many bytes more (or fewer) than the body has; the connection closes after the body. */
  | { readonly kind: 'content-length'; readonly difference: number }
  | { readonly kind: 'gzip' }
  /** A page of a captive portal, with status 200. */
  | { readonly kind: 'html' }
  /** A request with `Range` gets 200 and the whole. */
  | { readonly kind: 'ignore-range' }
  /** Says this in `Content-Range`, or says none; the bytes stay those that were asked for. */
  | { readonly kind: 'content-range'; readonly value: string | undefined }
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** The answer, under another status. */
  | { readonly kind: 'other-status'; readonly status: number }
  /** To a signed address on another origin, good for one use unless `reusable`. */
  | { readonly kind: 'redirect'; readonly status?: 301 | 302 | 303 | 307 | 308; readonly reusable?: boolean }
  | { readonly kind: 'redirect-to'; readonly location: string }
  /** The request is read and nothing is ever answered. */
  | { readonly kind: 'silence' }
  | { readonly kind: 'reset' }
  /** The body comes chunked, without `Content-Length`. */
  | { readonly kind: 'chunked' }
  | { readonly kind: 'headers'; readonly headers: Readonly<Record<string, string | undefined>> };

/** A fault in place: when it was met, and how to end it. */
export class PlacedFault {
  readonly fault: Fault;
  /** How many requests have met it. */
  met = 0;
  /** Settles when the first request has met it; for a stall, when its bytes are out. */
  readonly reached: Promise<void>;
  readonly released: Promise<void>;
  readonly #remaining: { times: number };
  readonly #markReached: () => void;
  readonly #markReleased: () => void;

  constructor(fault: Fault, times: number) {
    this.fault = fault;
    this.#remaining = { times };
    const reached = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    this.reached = reached.promise;
    this.#markReached = reached.resolve;
    this.released = released.promise;
    this.#markReleased = released.resolve;
  }

  /** Lets stalled and paused answers go on, and meets no further request. */
  release(): void {
    this.#remaining.times = 0;
    this.#markReleased();
  }

  /** Takes one of the requests that the fault was meant for; false when there were enough. */
  take(): boolean {
    if (this.#remaining.times <= 0) return false;
    this.#remaining.times -= 1;
    this.met += 1;
    return true;
  }

  reach(): void {
    this.#markReached();
  }
}

const htmlPage = '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n';

/** Changes an answer as the fault says; `signedUrl` makes an address on the other origin. */
export function applyFault(answer: Answer, placed: PlacedFault, signedUrl: (reusable: boolean) => string): void {
  const { fault } = placed;
  if (fault.kind !== 'stall' && fault.kind !== 'pause') placed.reach();
  switch (fault.kind) {
    case 'cut':
      answer.cutAfterBytes = fault.afterBytes;
      return;
    case 'cut-at':
      answer.cutAfterBytes = Math.max(0, fault.position - answer.start);
      return;
    case 'stall':
      answer.stalls.push({ afterBytes: fault.afterBytes, fault: placed });
      return;
    case 'pause':
      answer.pauses.push(placed);
      return;
    case 'flip':
      answer.source = flippedSource(answer.source, fault.position ?? Math.floor(answer.source.size / 2));
      return;
    case 'short':
      answer.end -= 1;
      if (fault.declared === 'actual') answer.contentLength = answer.end - answer.start;
      return;
    case 'content-length':
      answer.contentLength = answer.end - answer.start + fault.difference;
      return;
    case 'gzip':
      replace(answer, textAnswer(200, gzipSync(readAll(answer.source)), { 'Content-Encoding': 'gzip' }));
      return;
    case 'html':
      replace(answer, textAnswer(200, htmlPage, { 'Content-Type': 'text/html; charset=utf-8' }));
      return;
    case 'ignore-range':
      if (answer.status !== 206 && answer.status !== 416) return;
      answer.headers['Content-Range'] = undefined;
      Object.assign(answer, { status: 200, start: 0, end: answer.source.size, contentLength: answer.source.size });
      return;
    case 'content-range':
      answer.headers['Content-Range'] = fault.value;
      return;
    case 'status':
      replace(answer, textAnswer(fault.status, fault.body ?? errorBody(fault.status), { ...fault.headers }));
      answer.headers['Docker-Content-Digest'] = undefined;
      return;
    case 'other-status':
      answer.status = fault.status;
      return;
    case 'redirect':
      redirect(answer, fault.status ?? 307, signedUrl(fault.reusable ?? false));
      return;
    case 'redirect-to':
      redirect(answer, 307, fault.location);
      return;
    case 'silence':
    case 'reset':
      answer.instead = fault.kind;
      return;
    case 'chunked':
      answer.contentLength = undefined;
      return;
    case 'headers':
      Object.assign(answer.headers, fault.headers);
      return;
    default:
      fault satisfies never;
  }
}

function replace(answer: Answer, { status, headers, source, start, end, contentLength }: Answer): void {
  Object.assign(answer, { status, source, start, end, contentLength });
  Object.assign(answer.headers, { 'Content-Range': undefined, ...headers });
}

function redirect(answer: Answer, status: number, location: string): void {
  replace(answer, textAnswer(status, '', { Location: location }));
}

function errorBody(status: number): string {
  const codes: Record<number, string> = {
    401: 'UNAUTHORIZED',
    403: 'DENIED',
    404: 'NOT_FOUND',
    429: 'TOOMANYREQUESTS',
  };
  return JSON.stringify({ errors: [{ code: codes[status] ?? 'UNKNOWN', message: `scripted ${status}` }] });
}
