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
import { type BodyMemory, BulkBody } from './bulk-body.ts';
import { codeOf } from './error-code.ts';
import type { HeadersDeadline } from './headers-deadline.ts';
import { lineOf } from './line.ts';

/** How often a request is sent again because the kept connection it went out on had just been closed. */
const maxStaleConnections = 2;

/** Largest headers of an answer, in bytes: redirects to signed addresses can take several KiB. */
const maxHeaderSize = 256 * 1024;

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
  /** Where a large body is kept, which is then read straight into it; absent: its chunks are buffers of their own. */
  readonly memory?: BodyMemory | undefined;
  /** Receives each request that is made, to watch its connection. */
  readonly onRequest?: ((sent: ClientRequest) => void) | undefined;
}

/** An answer whose headers have arrived. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Raw bytes, to be read to their end or destroyed; chunks are not shared. */
  readonly stream: Readable;
  /** Gives the bytes instead of the stream, and fails as it does. */
  readonly bulk?: BulkBody | undefined;
  /** Whether the body ended as HTTP says it has to; read after its end. */
  readonly isComplete: () => boolean;
}

/**
 * Sends a request and waits for headers.
 * @throws ExchangeTimeoutError; what Node, the look-up or the agent throws; the signal's reason or an AbortError
 */
export async function exchange(request: WireRequest): Promise<WireAnswer> {
  const { deadline, isRepeatable, signal } = request;
  let isLenient = false;
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    const sent = send(request, { isLenient });
    request.onRequest?.(sent);
    let bulk: BulkBody | undefined;
    const memory = isLenient ? undefined : request.memory;
    if (memory) {
      // In the turn in which the headers come: what follows them is read at once.
      sent.once('response', (response: IncomingMessage) => {
        bulk = BulkBody.of(response, { memory, line: lineOf(response.socket) });
      });
    }
    try {
      const response = await responseOf(sent, request);
      deadline.pause();
      const { remoteAddress } = response.socket;
      if (remoteAddress !== undefined) request.onConnected?.(remoteAddress);
      const { statusCode: status = 0, headers } = response;
      return { status, headers, stream: response, bulk, isComplete: () => response.complete };
    } catch (error) {
      sent.destroy();
      bulk?.destroy();
      deadline.pause();
      if (!isRepeatable || attempt === maxStaleConnections) throw error;
      if (!isLenient && isLoose(error)) isLenient = true;
      else if (!wasStale(sent, error)) throw error;
    }
  }
}

/** Codes of the parser for answers that Go's and curl's take: lines that end in LF alone, folded lines, two lengths. */
const looseCodes: ReadonlySet<string> = new Set([
  'HPE_CR_EXPECTED',
  'HPE_LF_EXPECTED',
  'HPE_INVALID_HEADER_TOKEN',
  'HPE_INVALID_TRANSFER_ENCODING',
  'HPE_INVALID_CONTENT_LENGTH',
  'HPE_UNEXPECTED_CONTENT_LENGTH',
]);

/**
 * Whether an answer may be read by rules that are less strict. Then it is asked for again on a connection of its own, of which
 * nothing that comes after it is read: it cannot pass for the answer to another request.
 */
function isLoose(error: unknown): boolean {
  return looseCodes.has(codeOf(error) ?? '');
}

function send(
  { method, url, headers, agent, lookup, signal }: WireRequest,
  { isLenient }: { readonly isLenient: boolean },
): ClientRequest {
  const isTls = url.protocol === 'https:';
  const settings = {
    method,
    headers: isLenient ? { ...headers, connection: 'close' } : headers,
    agent,
    maxHeaderSize,
    ...(isLenient && { insecureHTTPParser: true }),
    ...(lookup !== undefined && { lookup }),
  };
  const sent = isTls ? httpsRequest(url, settings) : httpRequest(url, settings);
  // Node's own option for this costs ten listeners.
  const abandon = (): void => void sent.destroy(new DOMException('The operation was aborted', 'AbortError'));
  signal.addEventListener('abort', abandon, { once: true });
  sent.once('close', () => signal.removeEventListener('abort', abandon));
  return sent;
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
