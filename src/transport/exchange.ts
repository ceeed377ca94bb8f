import {
  type ClientRequest,
  type Agent as HttpAgent,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http';
import { type Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import type { Readable } from 'node:stream';
import { codeOf } from './error-code.ts';
import type { HeadersDeadline } from './headers-deadline.ts';

/** How often a request is sent again because the kept connection it went out on had just been closed. */
const maxStaleConnections = 2;

/** Largest headers of an answer, in bytes: redirects to signed addresses can take several KiB. */
const maxHeaderSize = 32 * 1024;

/** One request to one address; nothing is followed. */
export interface WireRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly url: URL;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | undefined;
  readonly agent: HttpAgent | HttpsAgent;
  /** Resolves the host of a new connection. */
  readonly lookup?: LookupFunction;
  /** Called with the address that the connection goes to, before the answer is used. */
  readonly onConnected?: (address: string) => void;
  /** Counts while headers are waited for. */
  readonly deadline: HeadersDeadline;
  /** Whether the request may be sent again where the kept connection it went out on had just been closed. */
  readonly isRepeatable: boolean;
  readonly signal: AbortSignal;
  /** Receives each request that is made, to watch its connection. */
  readonly onRequest?: ((sent: ClientRequest) => void) | undefined;
}

/** An answer whose headers have arrived. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Raw bytes, to be read to their end or destroyed; chunks are not shared. */
  readonly stream: Readable;
  /** Whether the body ended as HTTP says it has to; read after its end. */
  readonly isComplete: () => boolean;
}

/**
 * Sends a request and waits for headers.
 * @throws ExchangeTimeoutError; what Node, the look-up or the agent throws; the signal's reason or an AbortError
 */
export async function exchange(request: WireRequest): Promise<WireAnswer> {
  const { deadline, isRepeatable, signal } = request;
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    const sent = send(request);
    request.onRequest?.(sent);
    try {
      const response = await responseOf(sent, request);
      deadline.pause();
      const { remoteAddress } = response.socket;
      if (remoteAddress !== undefined) request.onConnected?.(remoteAddress);
      const { statusCode: status = 0, headers } = response;
      return { status, headers, stream: response, isComplete: () => response.complete };
    } catch (error) {
      sent.destroy();
      deadline.pause();
      if (!isRepeatable || attempt === maxStaleConnections || !wasStale(sent, error)) throw error;
    }
  }
}

function send({ method, url, headers, agent, lookup, signal }: WireRequest): ClientRequest {
  const isTls = url.protocol === 'https:';
  const settings = {
    method,
    headers,
    agent,
    signal,
    maxHeaderSize,
    ...(lookup !== undefined && { lookup }),
  };
  return isTls ? httpsRequest(url, settings) : httpRequest(url, settings);
}

function responseOf(sent: ClientRequest, { deadline, body }: WireRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  sent.once('response', resolve);
  // Stays for the lifetime of the request: the next reader of the body sees an error that occurs while nothing reads.
  sent.on('error', reject);
  sent.once('close', () => reject(new Error('the connection was closed')));
  deadline.watch(sent);
  sent.end(body);
  return promise;
}

/** Whether a request failed because the server had just closed the kept connection it was sent on. */
function wasStale(sent: ClientRequest, error: unknown): boolean {
  const code = codeOf(error);
  return sent.reusedSocket && (code === 'ECONNRESET' || code === 'EPIPE');
}
