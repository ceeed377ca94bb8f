import { setTimeout } from 'node:timers/promises';
import { isTransient, RegistryError } from '../../../oci/error.ts';
import type { Reason } from '../../../oci/reason.ts';
import { Refusal } from '../../../upstream/passage.ts';

/** Failures in a row after which background work is given up. */
const maxFailures = 5;
/** Failures that are nearly always the same when the request is repeated. */
const sameAgain: readonly Reason[] = ['wrong-bytes', 'too-large'];
const maxWrongAnswers = 1;
const firstPauseMs = 1_000;
const longestBackoffMs = 30_000;
/** Timers may end a little before their time. */
const slackMs = 20;

export interface PatienceOptions {
  readonly signal: AbortSignal;
  /** Longest time that is spent on pauses an upstream asks for (429), all together, for one piece of work. */
  readonly longestPauseMs: number;
  /** Receives each pause with its reason. */
  readonly onPause?: (pause: { readonly error: RegistryError; readonly forMs: number }) => void;
  /** Default: a timer. @throws the signal's reason */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Does work that can wait: what an upstream cannot do now is tried again, after the pause that it asks for, or after
 * longer and longer pauses of our own. What it says definitely is thrown at once.
 * @param options.hasMoved whether the last try has brought anything: such failures do not count
 * @throws what the last try threw; the signal's reason
 */
export async function withPatience<Value>(
  work: () => Promise<Value>,
  { signal, longestPauseMs, onPause, wait = timer, hasMoved }: PatienceOptions & { readonly hasMoved?: () => boolean },
): Promise<Value> {
  let failures = 0;
  let pausedMs = 0;
  for (;;) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      // A fault of our own disk is not mended by asking again.
      if (!(error instanceof RegistryError) || !isTransient(error) || error.reason === 'disk-fault') throw error;
      let forMs = pauseAskedFor(error);
      if (forMs === undefined) {
        failures = hasMoved?.() === true ? 1 : failures + 1;
        if (failures > (sameAgain.includes(error.reason) ? maxWrongAnswers : maxFailures)) throw error;
        const backoffMs = Math.min(longestBackoffMs, firstPauseMs * 2 ** (failures - 1));
        forMs = error instanceof Refusal ? Math.max(backoffMs, error.retryAfterMs) : backoffMs;
      } else {
        pausedMs += forMs;
        if (pausedMs > longestPauseMs) throw error;
      }
      onPause?.({ error, forMs });
      await wait(forMs + slackMs, signal);
    }
  }
}

/** How long the upstream has asked us to stay away, in milliseconds. */
function pauseAskedFor(error: RegistryError): number | undefined {
  if (error instanceof Refusal) return error.state === 'limited' ? error.retryAfterMs : undefined;
  const seconds = Number(error.headers['Retry-After']);
  return error.headers['Retry-After'] === undefined || Number.isNaN(seconds) ? undefined : seconds * 1000;
}

async function timer(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await setTimeout(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
