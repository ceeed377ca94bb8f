/** Error codes of the distribution-spec ("Error Codes"), and the three the spec leaves to registries. */
export type ErrorCode =
  | 'BLOB_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'RANGE_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'UNSUPPORTED';

const defaultStatus: Record<ErrorCode, number> = {
  BLOB_UNKNOWN: 404,
  DENIED: 403,
  DIGEST_INVALID: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  RANGE_INVALID: 416,
  TOOMANYREQUESTS: 429,
  UNAUTHORIZED: 401,
  UNAVAILABLE: 502,
  UNKNOWN: 500,
  UNSUPPORTED: 405,
};

export interface RegistryErrorOptions {
  /** HTTP status, where it differs from the code's usual one. */
  readonly status?: number;
  /** Shown to the client as `errors[0].detail`: never a credential, token, or challenge. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** Extra response headers, such as `Retry-After` or `Content-Range`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** For the log only. */
  readonly cause?: unknown;
}

/** A failure with the code, status and one sentence that a registry client is to see. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly code: ErrorCode;
  readonly status: number;
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: ErrorCode, message: string, options: RegistryErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.status = options.status ?? defaultStatus[code];
    this.detail = options.detail;
    this.headers = options.headers ?? {};
  }

  /** The body of the distribution-spec, "Error Codes". */
  toBody(): { errors: [{ code: ErrorCode; message: string; detail?: Readonly<Record<string, unknown>> }] } {
    return { errors: [{ code: this.code, message: this.message, ...(this.detail && { detail: this.detail }) }] };
  }
}

/**
 * Whether an error says that the answer could not be had now, as against a definite answer (not here, not allowed).
 * Only such errors may be covered with stale content.
 */
export function isTransient(error: unknown): boolean {
  return error instanceof RegistryError && (error.code === 'UNAVAILABLE' || error.code === 'TOOMANYREQUESTS');
}

/** Whether an error is the definite answer "there is no such thing". */
export function isNotFound(error: unknown): boolean {
  return error instanceof RegistryError && error.status === 404;
}
