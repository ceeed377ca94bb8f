import type { ClientRequest, IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { codeOf, withoutSecrets } from '../transport/error-code.ts';
import { parseChallenges } from './challenge.ts';

/** The record of a TLS session. */
export interface RecordedTls {
  readonly protocol: string | null;
  /** Common name and issuer of the server's certificate, and when it expires. */
  readonly subject: string | null;
  readonly issuer: string | null;
  readonly validTo: string | null;
}

/**
 * One request and what came of it. Holds no credential, token or signature: queries are left out, and of addresses that
 * an answer redirects to elsewhere the path too.
 */
export interface RecordedExchange {
  readonly method: string;
  readonly url: string;
  /** The scheme of the `Authorization` header. */
  readonly authorization: 'none' | 'basic' | 'bearer' | 'other';
  /** Address and port of the other end; of the proxy where there is one. */
  readonly remote: string | null;
  /** Absent for plain http, and for a connection that was used before. */
  readonly tls: RecordedTls | null;
  /** Until the headers had come, or the failure. */
  readonly milliseconds: number;
  readonly status: number | null;
  /** Those that say how the registry behaves. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of a request that got no answer: the code of the failure, or its kind. */
  readonly error: string | null;
}

/** Headers of answers that are recorded as they are. */
const plainHeaders = [
  'accept-ranges',
  'age',
  'cache-status',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'docker-content-digest',
  'docker-distribution-api-version',
  'oci-filters-applied',
  'ratelimit-limit',
  'ratelimit-remaining',
  'retry-after',
  'server',
  'via',
  'warning',
] as const;

const longestValue = 300;

/** Records the exchanges of an upstream, for an operator who wants to see what it does. */
export class ExchangeRecorder {
  readonly #exchanges: RecordedExchange[] = [];

  /** All that have ended so far, in order. */
  get exchanges(): readonly RecordedExchange[] {
    return this.#exchanges;
  }

  /**
   * A request is about to be sent.
   * @param request its headers are looked at, and not kept; `isOwn`: whether it goes to the upstream or its token service
   */
  begin(request: {
    readonly method: string;
    readonly url: URL;
    readonly headers: Readonly<Record<string, string>>;
    readonly isOwn: boolean;
  }) {
    const beganMs = performance.now();
    let socket: Socket | undefined;
    let isNew = false;
    const end = (came: { status: number | null; headers: Record<string, string>; error: string | null }): void => {
      const { method, url, headers } = request;
      this.#exchanges.push({
        method,
        url: request.isOwn ? withoutQuery(url) : originOf(url),
        authorization: authorizationKind(headers['authorization']),
        remote: remoteOf(socket),
        tls: isNew && socket instanceof TLSSocket ? tlsOf(socket) : null,
        milliseconds: Math.round(performance.now() - beganMs),
        ...came,
      });
    };
    return {
      watch: (sent: ClientRequest): void => {
        sent.once('socket', (used) => {
          socket = used;
          isNew = !sent.reusedSocket;
        });
      },
      answered: ({ status, headers }: { readonly status: number; readonly headers: IncomingHttpHeaders }): void =>
        end({ status, headers: shownHeaders(headers, request.url), error: null }),
      failed: (error: unknown): void => end({ status: null, headers: {}, error: failureOf(error) }),
    };
  }
}

function shownHeaders(headers: IncomingHttpHeaders, base: URL): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const name of plainHeaders) {
    const value = headers[name];
    if (value !== undefined) shown[name] = String(value).slice(0, longestValue);
  }
  const { location } = headers;
  const target = location === undefined ? null : URL.parse(location, base.href);
  if (target !== null) shown['location'] = target.origin === base.origin ? withoutQuery(target) : originOf(target);
  const challenges = parseChallenges(headers['www-authenticate']).map(({ scheme, parameters }) => {
    const realm = parameters.get('realm');
    const address = realm === undefined ? null : URL.parse(realm);
    const parts = [
      ...(realm === undefined ? [] : [`realm=${address === null ? realm : withoutQuery(address)}`]),
      ...['service', 'scope'].flatMap((name) => {
        const value = parameters.get(name);
        return value === undefined ? [] : [`${name}=${value}`];
      }),
    ];
    return [scheme, ...parts].join(' ').slice(0, longestValue);
  });
  if (challenges.length > 0) shown['www-authenticate'] = challenges.join(', ');
  return shown;
}

/** An address of which the query and any credentials are left out: both may be secrets. */
function withoutQuery({ origin, pathname, search }: URL): string {
  return `${origin}${pathname}${search === '' ? '' : '?…'}`;
}

/** Where an address leads, without the rest: a path may be a signature, too. */
function originOf({ origin }: URL): string {
  return `${origin}/…`;
}

function authorizationKind(header: string | undefined): RecordedExchange['authorization'] {
  if (header === undefined) return 'none';
  const scheme = header.split(' ', 1)[0]?.toLowerCase();
  return scheme === 'basic' || scheme === 'bearer' ? scheme : 'other';
}

function remoteOf(socket: Socket | undefined): string | null {
  const { remoteAddress, remotePort } = socket ?? {};
  if (remoteAddress === undefined || remotePort === undefined) return null;
  return remoteAddress.includes(':') ? `[${remoteAddress}]:${remotePort}` : `${remoteAddress}:${remotePort}`;
}

function tlsOf(socket: TLSSocket): RecordedTls | null {
  // The type leaves out that there may be none yet.
  const certificate = socket.getPeerCertificate() as Partial<ReturnType<TLSSocket['getPeerCertificate']>> | null;
  const one = (value: string | string[] | undefined): string | null =>
    (Array.isArray(value) ? value[0] : value) ?? null;
  return {
    protocol: socket.getProtocol(),
    subject: one(certificate?.subject?.CN),
    issuer: one(certificate?.issuer?.CN) ?? one(certificate?.issuer?.O),
    validTo: certificate?.valid_to ?? null,
  };
}

function failureOf(error: unknown): string {
  const cause = withoutSecrets(error);
  return codeOf(cause) ?? (cause instanceof Error ? cause.name : 'failed');
}
