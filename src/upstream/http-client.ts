import type { IncomingHttpHeaders } from 'node:http';
import packageJson from '../../package.json' with { type: 'json' };
import { RegistryError } from '../oci/error.ts';
import {
  drain,
  emptyBody,
  IdleTimeoutError,
  LengthMismatchError,
  type TransferBody,
  transferBody,
  watchedBody,
} from '../transport/body.ts';
import type { BodyMemory } from '../transport/bulk-body.ts';
import { codeOf, withoutSecrets } from '../transport/error-code.ts';
import { exchange, type WireAnswer } from '../transport/exchange.ts';
import { ExchangeTimeoutError, HeadersDeadline } from '../transport/headers-deadline.ts';
import { type AddressGuard, ForbiddenAddressError } from './address-guard.ts';
import type { Lane, UpstreamAgents } from './agents.ts';
import { codingsOf } from './encoding.ts';
import { connectionClause, connectionReason, errorCodeOf, unavailable } from './failures.ts';
import type { UpstreamTimeouts } from './options.ts';
import { isFullParent } from './parent.ts';
import type { Passage, RequestGate } from './passage.ts';
import type { ExchangeRecorder } from './recorder.ts';

/** Most redirects followed for one request. */
const maxRedirects = 5;

const userAgent = `millpond/${packageJson.version}`;

const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** One request to an upstream, its token service, or what it redirects to. */
export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly url: URL;
  /** Lower-case names. `authorization` is dropped at the first redirect to another site. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly lane: Lane;
  /** Whether it goes to where an earlier answer has redirected: another registry, of which the gate learns nothing. */
  readonly isForeign?: boolean;
  /** `same-origin` for requests that carry credentials other than in `authorization`. */
  readonly redirects: 'any-origin' | 'same-origin';
  /** Decides whether the request is sent, and learns what its own origin answers; redirect targets do not count. */
  readonly gate: RequestGate;
  /** The memory for a large body; absent: its chunks are buffers of their own. */
  readonly memory?: BodyMemory | undefined;
  readonly signal: AbortSignal;
}

type WholeAnswer = Omit<HttpAnswer, 'foreign' | 'url' | 'code'>;

/** An answer whose headers have arrived. Its body has to be read to the end or destroyed. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The URL that answered, after redirects. */
  readonly url: URL;
  /** Whether it came from another origin than the one first asked. */
  readonly foreign: boolean;
  /** The first error code of the body of a 403, in upper case; that body has been read. */
  readonly code: string | undefined;
  /** The codings that `Content-Encoding` names, in lower case; empty where the body is what it is. */
  readonly codings: readonly string[];
  /** As announced, of the body as it is sent. */
  readonly contentLength: number | undefined;
  readonly body: TransferBody;
}

export interface HttpClientOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly agents: UpstreamAgents;
  readonly guard: AddressGuard;
  readonly timeouts: UpstreamTimeouts;
  /** A caller who runs out of time is a failure of the upstream only after this wait for it, in milliseconds. */
  readonly fairWaitMs: number;
  /** Watches every exchange; absent: none is watched. */
  readonly recorder?: ExchangeRecorder | undefined;
}

/** The one place that sends requests: redirects, time-outs, guarded addresses, raw bodies. */
export class HttpClient {
  readonly #options: HttpClientOptions;

  constructor(options: HttpClientOptions) {
    this.#options = options;
  }

  /**
   * Sends a request and follows its redirects until an answer is there.
   * @throws RegistryError UNAVAILABLE (502, or 504 for a time-out); Refusal where the gate is closed; the signal's
   *   reason where that was aborted
   */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    const { upstream } = this.#options;
    using passage = await this.#enter(request);
    using deadline = new HeadersDeadline(this.#options.timeouts);
    let { url } = request;
    let headers = request.headers;
    let foreign = request.isForeign === true;
    for (let hop = 0; ; hop += 1) {
      const watching = foreign ? undefined : passage;
      const answer = await this.#exchange({ ...request, url, headers }, { deadline, passage: watching });
      if (!redirectStatuses.has(answer.status)) {
        const code = answer.status === 403 ? await errorCodeOf(answer.body) : undefined;
        const body =
          answer.status === 403 ? emptyBody : this.#received(answer.body, { request, deadline, passage, watching });
        // A mirror that is full for one request says nothing about the registry, nor about others.
        watching?.answered(isFullParent(answer.headers) ? { ...answer, status: 200 } : { ...answer, code });
        return { ...answer, url, foreign, code, body };
      }
      await drain(answer.body);
      if (hop === maxRedirects) throw unavailable(upstream, `redirects more than ${maxRedirects} times`);
      const target = this.#redirectTarget(answer.headers.location, url);
      if (target.origin !== url.origin && !isUpgrade(url, target)) {
        if (request.redirects === 'same-origin') {
          throw unavailable(upstream, 'redirects a request with credentials to another origin');
        }
        passage.answered(answer);
        foreign = true;
        // Besides the leak, storage behind signed URLs refuses a second way of authentication.
        const { authorization: _dropped, ...kept } = headers;
        headers = kept;
      }
      url = target;
    }
  }

  /** A small body, of which the passage learns how it ends. */
  #received(
    body: TransferBody,
    parts: { request: HttpRequest; deadline: HeadersDeadline; passage: Passage; watching: Passage | undefined },
  ): TransferBody {
    const { request, deadline, passage, watching } = parts;
    if (request.lane !== 'metadata' || request.method === 'HEAD' || passage.receiving === undefined) return body;
    const ended = passage.receiving();
    const sinceMs = performance.now() - deadline.waitedMs;
    return watchedBody(body, (failure) => {
      const isFair = performance.now() - sinceMs >= this.#options.fairWaitMs;
      ended(isFair && watching !== undefined ? failure : undefined);
    });
  }

  #redirectTarget(location: string | undefined, from: URL): URL {
    const { upstream } = this.#options;
    // Node reads headers as Latin 1; what is not ASCII in an address is UTF-8.
    const target = location === undefined ? null : URL.parse(Buffer.from(location, 'latin1').toString(), from.href);
    if (target === null || (target.protocol !== 'https:' && target.protocol !== 'http:')) {
      throw unavailable(upstream, 'redirects to something that is no http address');
    }
    if (from.protocol === 'https:' && target.protocol === 'http:') {
      throw unavailable(upstream, 'redirects from https to plain http, which is refused');
    }
    target.username = '';
    target.password = '';
    target.hash = '';
    return target;
  }

  async #enter(request: HttpRequest): Promise<Passage> {
    try {
      return await request.gate.enter(request.signal);
    } catch (error) {
      throw this.#translate(error, request);
    }
  }

  async #exchange(
    request: HttpRequest,
    { deadline, passage }: { deadline: HeadersDeadline; passage: Passage | undefined },
  ): Promise<WholeAnswer> {
    const { agents, guard, fairWaitMs, recorder } = this.#options;
    const { method, url, body, lane, signal } = request;
    const isOwn = passage !== undefined || request.redirects === 'same-origin';
    const record = recorder?.begin({ method, url, headers: request.headers, isOwn });
    try {
      guard.checkLiteral(url);
      const headers = { 'user-agent': userAgent, 'accept-encoding': 'identity', ...request.headers };
      const { agent, isDirect } = agents.for(lane, { url, own: guard.isOwn(url) });
      const isRepeatable = method !== 'POST';
      const wired = {
        method,
        url,
        headers,
        body,
        agent,
        isRepeatable,
        signal,
        memory: request.memory,
        deadline,
        onRequest: record?.watch,
      };
      const onConnected = (address: string): void => {
        if (isDirect) guard.connected(url, address);
      };
      const answer = await exchange({ ...wired, lookup: guard.lookupFor(url), onConnected });
      record?.answered(answer);
      return this.#answer(answer, request);
    } catch (error) {
      record?.failed(error);
      const failure = this.#translate(error, request);
      // A caller that came with hardly any time left has learned nothing about the upstream.
      if (!signal.aborted || deadline.waitedMs >= fairWaitMs)
        passage?.failed(failure, { isConnected: deadline.isConnected });
      throw failure;
    }
  }

  #answer(answer: WireAnswer, request: HttpRequest): WholeAnswer {
    const { timeouts } = this.#options;
    const { status, headers } = answer;
    const contentLength = readLength(headers['content-length']);
    const body = transferBody(answer, {
      idleMs: timeouts.idleMs,
      expectedBytes: request.method === 'HEAD' || status === 204 || status === 304 ? undefined : contentLength,
      translate: (error) => this.#translate(error, request),
    });
    return { status, headers, codings: codingsOf(headers['content-encoding']), contentLength, body };
  }

  /** The one translation of what Node and the guard throw. Nothing of the request is kept: it holds credentials. */
  #translate(error: unknown, { signal, url }: Pick<HttpRequest, 'signal' | 'url'>): unknown {
    const { upstream } = this.#options;
    if (error instanceof RegistryError) return error;
    if (signal.aborted) {
      const reason: unknown = signal.reason;
      if (!(reason instanceof DOMException) || reason.name !== 'TimeoutError') return reason;
      return unavailable(upstream, 'did not answer in time', { reason: 'timeout', cause: reason });
    }
    const cause = withoutSecrets(error);
    const code = codeOf(cause);
    if (isTimeout(cause)) {
      return unavailable(upstream, 'did not answer in time', { reason: 'timeout', cause });
    }
    if (cause instanceof ForbiddenAddressError) {
      return unavailable(upstream, 'leads to an address in a private network, which is refused', {
        reason: 'forbidden-address',
        cause,
      });
    }
    if (cause instanceof LengthMismatchError || code === 'ERR_HTTP_CONTENT_LENGTH_MISMATCH') {
      return unavailable(upstream, 'ended a body at another length than it announced', { reason: 'cut', cause });
    }
    const reason = connectionReason(code);
    return unavailable(upstream, connectionClause(cause, url), { reason, cause });
  }
}

function isTimeout(error: unknown): boolean {
  return error instanceof ExchangeTimeoutError || error instanceof IdleTimeoutError;
}

function readLength(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}

/** Whether a redirect leads from plain HTTP to HTTPS of the same host, on the usual ports: the same site, better protected. */
function isUpgrade(from: URL, to: URL): boolean {
  const isSafer = from.protocol === 'http:' && to.protocol === 'https:';
  return isSafer && from.hostname === to.hostname && from.port === '' && to.port === '';
}
