import type { IncomingHttpHeaders } from 'node:http';

/** A request as a scripted server saw it; the last three fields grow while it is answered. */
export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The digest that the request is about, where it names one. */
  readonly digest: string | undefined;
  /** Numbers the connections of this server, from 1. */
  readonly connection: number;
  status: number | undefined;
  /** Bytes of the body that were handed to the socket. */
  bytesSent: number;
  /** Whether the answer was sent to its end. */
  complete: boolean;
}

/** A digest, a path, a pattern for `path?query`, or any question about a request. */
export type RequestFilter = string | RegExp | ((request: RecordedRequest) => boolean);

export function matches(filter: RequestFilter | undefined, request: RecordedRequest): boolean {
  if (filter === undefined) return true;
  if (typeof filter === 'string') return request.digest === filter || request.path === filter;
  if (typeof filter === 'function') return filter(request);
  return filter.test(request.query.size === 0 ? request.path : `${request.path}?${request.query.toString()}`);
}
