import { hasReason, RegistryError } from '../oci/error.ts';
import { isReset, PassingFailure } from './failures.ts';
import { Refusal } from './passage.ts';

/** How long after a failure that may be over at once the same is asked for again, in milliseconds. */
const secondTryAfterMs = 200;
/** A pause that is asked for is waited out where it is no longer than this, in milliseconds. */
const maxShortPauseMs = 2_000;

/** A failure that a second try has not mended: no other is worth the time. */
class LastingFailure extends RegistryError {
  constructor({ reason, message, code, status, detail, headers, cause }: RegistryError) {
    super(reason, message, { code, status, headers, cause, ...(detail && { detail }) });
  }
}

/** Marks what a second try has failed with. @returns anything but a RegistryError as it is */
export function lasting(error: unknown): unknown {
  return error instanceof RegistryError ? new LastingFailure(error) : error;
}

/**
 * When what has failed is worth a second try, in milliseconds from now: soon where a server has failed or the connection has
 * broken, after the pause where the upstream asks for a short one. `undefined`: it is not.
 */
export function secondTryIn(error: unknown): number | undefined {
  if (error instanceof LastingFailure) return undefined;
  if (hasReason(error, 'limited')) return shortPauseIn(error);
  return error instanceof PassingFailure || hasReason(error, 'cut') || isReset(error) ? secondTryAfterMs : undefined;
}

/** When an upstream that asks for a short pause may be asked again, in milliseconds from now; `undefined` after anything else. */
export function shortPauseIn(error: unknown): number | undefined {
  if (!(error instanceof RegistryError) || error.reason !== 'limited') return undefined;
  const pauseMs = error instanceof Refusal ? error.retryAfterMs : Number(error.headers['Retry-After']) * 1000;
  // A refusal tells what is left of the pause; a timer may be early.
  return pauseMs <= maxShortPauseMs ? Math.ceil(pauseMs) + 10 : undefined;
}
