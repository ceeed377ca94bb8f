import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { Agents } from '../../transport/agents.ts';
import type { Authorities } from '../../transport/authorities.ts';
import { readBounded, transferBody } from '../../transport/body.ts';
import { withoutSecrets } from '../../transport/error-code.ts';
import { exchange } from '../../transport/exchange.ts';
import { ExchangeTimeoutError, HeadersDeadline } from '../../transport/headers-deadline.ts';
import { Proxies } from '../../transport/proxies.ts';
import { connectionClause } from '../failures.ts';

const maxAnswerBytes = 256 * 1024;
const defaultTimeoutMs = 8_000;

/** A request to a service that gives credentials, such as the metadata service of a cloud. */
export interface ServiceRequest {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly url: URL;
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A text, or a form to be sent as one. */
  readonly body?: string | URLSearchParams;
  /** For the connection, and for the whole answer, in milliseconds. Default 8,000. */
  readonly timeoutMs?: number;
}

export interface ServiceAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** It may hold secrets: never to be logged. */
  readonly text: string;
}

/** Why a service gave no credential, as a clause about it that begins with a verb; without secrets. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError';
}

/**
 * Sends requests to services that give credentials. Redirects are not followed. The addresses of a machine's own services
 * (link-local and loopback) are reached directly, others through the proxies of the environment.
 */
export class ServiceClient implements Disposable {
  readonly #proxied: Agents;
  readonly #direct: Agents;

  constructor({ proxies, authorities }: { readonly proxies: Proxies; readonly authorities: Authorities }) {
    const common = { maxConnections: 2, secureContext: () => authorities.context, rejectUnauthorized: true };
    this.#proxied = new Agents({ ...common, proxies });
    this.#direct = new Agents({ ...common, proxies: new Proxies({}) });
  }

  /** @throws ServiceError if there is no answer, or one that is too long */
  async ask({ method, url, headers, body, timeoutMs = defaultTimeoutMs }: ServiceRequest): Promise<ServiceAnswer> {
    using deadline = new HeadersDeadline({ connectMs: timeoutMs, headersMs: timeoutMs });
    const { agent } = (isMachineLocal(url) ? this.#direct : this.#proxied).for(url);
    const isForm = body instanceof URLSearchParams;
    const text = body?.toString();
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      const answer = await exchange({
        method,
        url,
        headers: {
          accept: 'application/json',
          ...(isForm && { 'content-type': 'application/x-www-form-urlencoded' }),
          ...(text !== undefined && { 'content-length': String(Buffer.byteLength(text)) }),
          ...headers,
        },
        body: text,
        agent,
        deadline,
        isRepeatable: method !== 'POST',
        signal,
      });
      const options = { idleMs: timeoutMs, expectedBytes: undefined, translate: (error: unknown) => error };
      const bytes = await readBounded(transferBody(answer, options), maxAnswerBytes);
      if (bytes === undefined) throw new ServiceError(`sent more than ${maxAnswerBytes / 1024} KiB`);
      return { status: answer.status, headers: answer.headers, text: bytes.toString('utf8') };
    } catch (error) {
      if (error instanceof ServiceError) throw error;
      const isLate = error instanceof ExchangeTimeoutError || signal.aborted;
      throw new ServiceError(
        isLate ? `did not answer at ${url.origin} in time` : connectionClause(withoutSecrets(error), url),
      );
    }
  }

  [Symbol.dispose](): void {
    this.#proxied[Symbol.dispose]();
    this.#direct[Symbol.dispose]();
  }
}

/** Whether a URL has a literal address that belongs to this machine or to what its cloud serves to it. */
export function isMachineLocal({ hostname }: URL): boolean {
  const bare = hostname.replace(/^\[|\]$/g, '');
  if (isIP(bare) === 0) return false;
  const address = ipaddr.process(bare);
  return address.range() === 'loopback' || address.range() === 'linkLocal' || eksAddresses.has(address.toString());
}

/** Where Amazon serves credentials over IPv6, in its range of unique local addresses. */
const eksAddresses: ReadonlySet<string> = new Set(['fd00:ec2::23', 'fd00:ec2::254']);

/**
 * The address of a service that gives credentials, as a file or a variable has it. Plain http is for the machine's own
 * services only, by literal address.
 * @param name of the variable or member, for the error
 * @throws ServiceError
 */
export function serviceUrl(text: string, name: string): URL {
  const url = URL.parse(text);
  if (url?.protocol === 'https:' || (url?.protocol === 'http:' && isMachineLocal(url))) return url;
  throw new ServiceError(`has in ${name} no https address, and none of this machine's own services`);
}
