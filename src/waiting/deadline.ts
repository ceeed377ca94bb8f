import { RegistryError } from '../oci/error.ts';
import { LinkedAbort } from './linked-abort.ts';

/**
 * Runs work that a client waits for, with a signal that ends it when the client leaves or the time is over.
 * @throws RegistryError UNAVAILABLE 504 when the time is over; else what the work throws
 */
export async function withDeadline<Value>(
  work: (signal: AbortSignal) => Promise<Value>,
  { answerMs, signal }: { readonly answerMs: number; readonly signal?: AbortSignal },
): Promise<Value> {
  using over = new LinkedAbort(signal).timeoutAfter(answerMs);
  try {
    return await work(over.signal);
  } catch (error) {
    const isOver = over.signal.aborted && signal?.aborted !== true;
    if (!isOver || (error instanceof RegistryError && error !== over.signal.reason)) throw error;
    throw tooLate(answerMs, error);
  }
}

interface AnswerBudgetOptions {
  readonly answerMs: number;
  /** `canFallBack`: the client has another place to ask for what it does not get here. */
  readonly waiting: { readonly signal: AbortSignal; readonly canFallBack?: boolean };
}

/**
 * The time that may be spent on an upstream for one client, however often the upstream is asked: the rest of the client's
 * time is for the answer that can still be given.
 */
export class AnswerBudget implements Disposable {
  readonly #startedAtMs = performance.now();
  readonly #options: AnswerBudgetOptions;
  #timer: NodeJS.Timeout | undefined;
  #signal: AbortSignal | undefined;

  constructor(options: AnswerBudgetOptions) {
    this.#options = options;
  }

  /** As of the client that waits. */
  get canFallBack(): boolean {
    return this.#options.waiting.canFallBack === true;
  }

  /** Aborted when the client leaves, and with RegistryError UNAVAILABLE 504 when the time is over. Made when first read. */
  get signal(): AbortSignal {
    if (this.#signal === undefined) {
      const { answerMs, waiting } = this.#options;
      const over = new AbortController();
      const leftMs = Math.max(0, answerMs - (performance.now() - this.#startedAtMs));
      this.#timer = setTimeout(() => over.abort(tooLate(answerMs)), leftMs);
      this.#signal = AbortSignal.any([waiting.signal, over.signal]);
    }
    return this.#signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

function tooLate(answerMs: number, cause?: unknown): RegistryError {
  return new RegistryError('timeout', `the upstream has not answered within ${answerMs} ms`, { cause });
}

/** Whether an error is that of a signal whose time is over. */
export function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'TimeoutError';
}
