import { hasReason, RegistryError, type RegistryErrorOptions } from '../oci/error.ts';
import { memberOf } from '../oci/json.ts';
import type { Reason } from '../oci/reason.ts';
import { readSmall, type TransferBody } from '../transport/body.ts';
import { codeOf, isHttp2Answer } from '../transport/error-code.ts';
import { objectIn } from './json-shape.ts';

/**
 * How long a 429 without `Retry-After` is taken to mean at first, in milliseconds: clients that retry wait for a second (crane,
 * containers/image).
 */
const defaultPauseMs = 1_000;
/** The longest pause that is honoured, in milliseconds. */
const maxPauseMs = 3_600_000;

/** The two that an upstream consists of. */
export type Service = 'registry' | 'token service';

/** The subject of a request to an upstream; decides the code of its 404 and the wording of its errors. */
export type Subject = 'blob' | 'manifest' | 'repository' | 'referrers';

const unknownCode = {
  blob: 'BLOB_UNKNOWN',
  manifest: 'MANIFEST_UNKNOWN',
  repository: 'NAME_UNKNOWN',
  referrers: 'MANIFEST_UNKNOWN',
} as const;

/** A failed answer of an upstream, reduced to what may be passed on. */
export interface FailedAnswer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** The first error code of its body (distribution-spec, "Error Codes"), where it was read. */
  readonly code: string | undefined;
  /** Whether it came from another origin than the upstream's, after a redirect. */
  readonly foreign: boolean;
  /** Method and address of the request that it answers, without query: signed addresses carry their key there. */
  readonly request: string;
  /** Whether credentials, or a token, were sent with the request. */
  readonly shown: boolean;
  /** Why a mirror in between could not pass the question on. */
  readonly parentError: string | undefined;
  /** Whether a mirror in between remembers the answer. */
  readonly isRemembered: boolean;
}

/** A "not found" that a mirror in between remembers: remembered here too, it would be older than its time. */
export class SecondHandAbsence extends RegistryError {}

/** An upstream gave no answer that can be used. */
export class UpstreamError extends RegistryError {
  /** The problem, as a clause about the upstream, without secrets. */
  readonly clause: string;

  constructor(reason: Reason, clause: string, { upstream, ...options }: RegistryErrorOptions & { upstream: string }) {
    super(reason, `upstream ${upstream} ${clause}`, { ...options, detail: { upstream, ...options.detail } });
    this.clause = clause;
  }
}

/** Statuses of servers that may answer the next request, after which clients such as crane ask again. */
const passingStatuses: readonly number[] = [408, 499, 500, 502, 503, 504, 522];

/** The upstream has answered, and may do better at once. */
export class PassingFailure extends UpstreamError {}

/** The error of an upstream, or its token service, that answered with a status that says neither yes nor no. */
export function badStatus(
  upstream: string,
  clause: string,
  { status, reason = 'bad-status', detail }: { status: number; reason?: Reason; detail?: Record<string, unknown> },
): UpstreamError {
  const Failure = passingStatuses.includes(status) ? PassingFailure : UpstreamError;
  return new Failure(reason, clause, { upstream, detail: { ...detail, upstreamStatus: status } });
}

/** The error that an upstream's answer other than success stands for. */
export function failureOf(
  answer: FailedAnswer,
  context: { readonly upstream: string; readonly subject: Subject; readonly repository: string; readonly now: number },
): RegistryError {
  const { status, foreign, request } = answer;
  const { upstream, subject, repository } = context;
  const detail = { upstream, repository, upstreamStatus: status };
  if (answer.parentError !== undefined) {
    const sentence = `upstream ${upstream} is a mirror that could not ask (${answer.parentError}): ${status} to ${request}`;
    return new RegistryError('other-mirror', sentence, { detail });
  }
  const pauseMs = pauseOf(answer, context.now);
  if (pauseMs !== undefined) return rateLimited(upstream, { status, pauseMs });
  if (status === 404) {
    const Absence = answer.isRemembered ? SecondHandAbsence : RegistryError;
    return new Absence('not-found', `upstream ${upstream} has no such ${subject} in ${repository}`, {
      code: unknownCode[subject],
      detail,
    });
  }
  // A refusal by the storage behind a redirect says nothing about our credentials, which it never saw.
  if ((status === 401 || status === 403) && !foreign) {
    return denied(upstream, { repository, status, shown: answer.shown, request });
  }
  const reason = status === 416 ? 'range-refused' : 'bad-status';
  return badStatus(upstream, `answered ${status} for ${repository} (${request})`, { status, reason, detail });
}

/** The upstream, or its token service, does not let us in. */
export function denied(
  upstream: string,
  options: {
    readonly repository: string;
    readonly status: number;
    /** Whether credentials were sent, or a token that was given for them. */
    readonly shown: boolean;
    readonly place?: Service;
    readonly request?: string;
  },
): RegistryError {
  const { repository, status, shown, place = 'registry', request } = options;
  const who = place === 'registry' ? `upstream ${upstream}` : `the token service of upstream ${upstream}`;
  const what = shown
    ? `refuses our credentials for ${repository}; check upstreams.${upstream}.auth`
    : `does not give ${repository} to anonymous clients; configure upstreams.${upstream}.auth`;
  const asked = request === undefined ? '' : ` (${status} to ${request})`;
  return new RegistryError('denied', `${who} ${what}${asked}`, {
    detail: { upstream, repository, upstreamStatus: status },
  });
}

/**
 * How long an answer asks us to stay away, in milliseconds: 429; 503 and 403 where they say for how long; 403 with the
 * code of a limit (RFC 6585, 4; RFC 9110, 10.2.3). `undefined` where it asks for nothing of the kind.
 */
export function pauseOf(
  {
    status,
    retryAfter,
    code,
  }: { readonly status: number; readonly retryAfter: string | undefined; readonly code?: string | undefined },
  now: number,
): number | undefined {
  if (status !== 429 && status !== 503 && status !== 403) return undefined;
  const seconds = retryAfterSeconds(retryAfter, now);
  const isLimit = status === 429 || (status === 403 && code === 'TOOMANYREQUESTS');
  if (seconds === undefined) return isLimit ? defaultPauseMs : undefined;
  return Math.min(Math.max(1000, seconds * 1000), maxPauseMs);
}

/** The upstream, or its token service, has asked for a pause. */
export function rateLimited(
  upstream: string,
  { status, pauseMs, service = 'registry' }: { readonly status: number; readonly pauseMs: number; service?: Service },
): RegistryError {
  return new RegistryError('limited', `${nameOf(upstream, service)} ${pauseReason(status)}; try again later`, {
    detail: { upstream, upstreamStatus: status },
    headers: { 'Retry-After': String(Math.ceil(pauseMs / 1000)) },
  });
}

/** The description of an upstream that asks for a pause, as a clause. */
export function pauseReason(status: number): string {
  return status === 503 ? 'asks for a pause' : 'limits our requests';
}

/** How an upstream, or its token service, is called in a sentence. */
export function nameOf(upstream: string, service: Service): string {
  return service === 'registry' ? `upstream ${upstream}` : `upstream ${upstream} has a token service that`;
}

/**
 * The upstream cannot give an answer that can be used.
 * @param clause what is wrong, as a clause about the upstream, without secrets
 * @param options `reason`: default `bad-answer`
 */
export function unavailable(
  upstream: string,
  clause: string,
  { reason = 'bad-answer', ...options }: RegistryErrorOptions & { readonly reason?: Reason } = {},
): UpstreamError {
  return new UpstreamError(reason, clause, { upstream, ...options });
}

/** The failure of a request without an answer, by the code of Node's error. */
export function connectionReason(code: string | undefined): Reason {
  // An answer that cannot be parsed is an answer.
  if (code?.startsWith('HPE_') === true) return 'bad-answer';
  if (code === 'EMFILE' || code === 'ENFILE') return 'out-of-files';
  return code === 'ERR_FORBIDDEN_ADDRESS' ? 'forbidden-address' : 'unreachable';
}

/** The failure of a request without a readable answer, as a clause about the upstream. */
export function connectionClause(error: unknown, url: URL): string {
  const code = codeOf(error) ?? 'connection failed';
  const place = `${url.protocol}//${url.host}`;
  if (code.startsWith('HPE_')) {
    return isHttp2Answer(error)
      ? `speaks HTTP/2 only at ${place}, which this mirror does not`
      : `answered at ${place} in a way that is not HTTP/1.1 (${code})`;
  }
  // Offered HTTP/1.1 alone, it found nothing that it speaks (RFC 7301, 3.2).
  if (code.endsWith('NO_APPLICATION_PROTOCOL')) return `speaks HTTP/2 only at ${place}, which this mirror does not`;
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return `failed the TLS handshake at ${place} (${code})`;
  if (isCertificateError(code)) return `shows a certificate at ${place} that is not trusted (${code})`;
  if (code.startsWith('ERR_PROXY_')) return `cannot be reached at ${place} through the proxy (${code})`;
  return `cannot be reached at ${place} (${code})`;
}

/** Codes of OpenSSL and Node for certificates (`X509_V_ERR_…` without its prefix). */
function isCertificateError(code: string): boolean {
  return /^(?:CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_CERT_|INVALID_CA|PATH_LENGTH_|HOSTNAME_MISMATCH)/.test(
    code,
  );
}

/** The code of an answer's first error (distribution-spec, "Error Codes"), in upper case; reads the body. */
export async function errorCodeOf(body: TransferBody): Promise<string | undefined> {
  const answer = objectIn((await readSmall(body)) ?? Buffer.alloc(0));
  const errors = answer && memberOf(answer, 'errors');
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  const code = typeof first === 'object' && first !== null ? memberOf(first, 'code') : undefined;
  return typeof code === 'string' ? code.toUpperCase().slice(0, 50) : undefined;
}

/** Seconds from a `Retry-After` in either of its forms (RFC 9110, 10.2.3). */
export function retryAfterSeconds(header: string | undefined, now: number): number | undefined {
  const text = header?.trim();
  if (text === undefined || text === '') return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  // Only the date forms of HTTP, all of which begin with the name of a day: Date.parse takes far more.
  const at = /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - now) / 1000));
}

/** Whether the other side closed a connection instead of answering. */
export function isReset(error: unknown): boolean {
  const code = error instanceof Error ? codeOf(error.cause) : undefined;
  return hasReason(error, 'unreachable') && (code === 'ECONNRESET' || code === 'EPIPE');
}
