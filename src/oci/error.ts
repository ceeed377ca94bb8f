import { type ErrorCode, type Fault, type Reason, type ReasonFacts, reasonFacts } from './reason.ts';

export interface RegistryErrorOptions {
  /** The code for clients, if it differs from the default of the reason. */
  readonly code?: ErrorCode;
  /** The HTTP status, if it differs from the default of the reason. */
  readonly status?: number;
  /** Shown to the client as `errors[0].detail`: never a credential, token, or challenge. Nothing depends on it. */
  readonly detail?: Readonly<Record<string, unknown>>;
  /** Extra response headers, such as `Retry-After` or `Content-Range`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** For the log only. */
  readonly cause?: unknown;
}

/**
 * A failure: the reason that code decides by (see {@link reasonFacts}), and the code, status and one sentence for a
 * registry client.
 */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly reason: Reason;
  readonly code: ErrorCode;
  readonly status: number;
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(reason: Reason, message: string, options: RegistryErrorOptions = {}) {
    super(message, { cause: options.cause });
    const facts: ReasonFacts = reasonFacts[reason];
    this.reason = reason;
    this.code = options.code ?? facts.code;
    this.status = options.status ?? facts.status;
    this.detail = options.detail;
    this.headers = options.headers ?? {};
  }

  /** The party that can fix it. */
  get blame(): Fault {
    return reasonFacts[this.reason].fault;
  }

  /** The body of the distribution-spec, "Error Codes". */
  toBody(): { errors: [{ code: ErrorCode; message: string; detail?: Readonly<Record<string, unknown>> }] } {
    return { errors: [{ code: this.code, message: this.message, ...(this.detail && { detail: this.detail }) }] };
  }
}

/** Whether an error has one of these reasons. */
export function hasReason(error: unknown, ...reasons: readonly Reason[]): boolean {
  return error instanceof RegistryError && reasons.includes(error.reason);
}

/**
 * Whether an error means that the answer is unavailable now, as opposed to a definite answer (not found, not allowed).
 * Only such errors may be covered by stale content.
 */
export function isTransient(error: unknown): boolean {
  return error instanceof RegistryError && reasonFacts[error.reason].kind === 'transient';
}

/** Whether an error is the definite answer "not found". */
export function isNotFound(error: unknown): error is RegistryError {
  return error instanceof RegistryError && reasonFacts[error.reason].kind === 'absent';
}
