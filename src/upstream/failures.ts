import { RegistryError } from '../oci/error.ts';

/** What a request to an upstream is about; decides the code of its 404 and the wording of its errors. */
export type Subject = 'blob' | 'manifest' | 'repository' | 'referrers';

const unknownCode = {
  blob: 'BLOB_UNKNOWN',
  manifest: 'MANIFEST_UNKNOWN',
  repository: 'NAME_UNKNOWN',
  referrers: 'MANIFEST_UNKNOWN',
} as const;

/** A failed answer of an upstream, reduced to what may be told on. */
export interface FailedAnswer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** Whether it came from another origin than the upstream's, after a redirect. */
  readonly foreign: boolean;
}

/** The error that an upstream's answer other than success stands for. */
export function failureOf(
  answer: FailedAnswer,
  context: { readonly upstream: string; readonly subject: Subject; readonly repository: string; readonly now: number },
): RegistryError {
  const { status, foreign } = answer;
  const { upstream, subject, repository } = context;
  const detail = { upstream, repository, upstreamStatus: status };
  if (status === 404) {
    return new RegistryError(unknownCode[subject], `upstream ${upstream} has no such ${subject} in ${repository}`, {
      detail,
    });
  }
  // A refusal by the storage behind a redirect says nothing about our credentials, which it never saw.
  if ((status === 401 || status === 403) && !foreign) return credentialsRefused(upstream, { repository, status });
  if (status === 429) return rateLimited(upstream, { ...answer, now: context.now });
  return new RegistryError('UNAVAILABLE', `upstream ${upstream} answered ${status} for ${repository}`, { detail });
}

/** The upstream, or its token service, does not let us in. */
export function credentialsRefused(
  upstream: string,
  { repository, status }: { readonly repository: string; readonly status: number },
): RegistryError {
  return new RegistryError(
    'DENIED',
    `upstream ${upstream} refuses our credentials for ${repository}; configure upstreams.${upstream}.auth`,
    { detail: { upstream, repository, upstreamStatus: status } },
  );
}

/** The upstream, or its token service, asks for a pause; its `Retry-After` is kept, in seconds. */
export function rateLimited(
  upstream: string,
  { retryAfter, now }: { readonly retryAfter: string | undefined; readonly now: number },
): RegistryError {
  const seconds = retryAfterSeconds(retryAfter, now);
  return new RegistryError('TOOMANYREQUESTS', `upstream ${upstream} limits our requests; try again later`, {
    detail: { upstream, upstreamStatus: 429 },
    headers: seconds === undefined ? {} : { 'Retry-After': String(seconds) },
  });
}

/** The upstream cannot give an answer that can be used. `reason` is a clause about it, without secrets. */
export function unavailable(
  upstream: string,
  reason: string,
  options: { readonly status?: number; readonly cause?: unknown; readonly detail?: Record<string, unknown> } = {},
): RegistryError {
  return new RegistryError('UNAVAILABLE', `upstream ${upstream} ${reason}`, {
    ...options,
    detail: { upstream, ...options.detail },
  });
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
