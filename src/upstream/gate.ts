import type { IncomingHttpHeaders } from 'node:http';
import { RegistryError } from '../oci/error.ts';
import { reasonFacts } from '../oci/reason.ts';
import { untilAborted } from '../waiting/until-aborted.ts';
import { nameOf, pauseOf, pauseReason, type Service, UpstreamError } from './failures.ts';

/** Refused or reset connections and failed look-ups in a row after which nothing is sent for a while. */
const maxConnectionFailures = 3;

/** Answers out of {@link serverFailures} in a row after which nothing is sent for a while. */
const maxServerFailures = 5;

const serverFailures: ReadonlySet<number> = new Set([500, 502, 503, 504]);

/** Why nothing is sent: the other side asked for a pause, or failed to answer. */
export type ClosedState = 'limited' | 'broken';

/** Whether a place can be asked, for those who watch. */
export interface GateStatus {
  /**
   * `available`: requests are sent. `limited`: it asked for a pause (429, or 503 with `Retry-After`), nothing is sent
   * until `untilMs`. `broken`: it failed to answer; from `untilMs` on one request at a time is sent to find out, and it
   * stays `broken` until one has been answered.
   */
  readonly state: 'available' | ClosedState;
  /** Wall clock in milliseconds; only of a closed gate. */
  readonly untilMs?: number;
  /** A clause about the upstream, without secrets, such as `did not answer in time`; only of a closed gate. */
  readonly reason?: string;
}

/** Told of what a gate does. */
export interface GateObserver {
  /** Nothing is sent from now on. Not told again while attempts to open go on failing in the same way. */
  closed(event: {
    service: Service;
    url: string;
    state: ClosedState;
    forMs: number;
    reason: string;
    /** Whether another replica was asked for the pause. */
    isShared: boolean;
  }): void;
  /** A request has been answered again. */
  opened(event: { service: Service; url: string }): void;
  /** A request was refused instead of being sent. */
  refused(event: { service: Service; state: ClosedState }): void;
}

export interface GateOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly service: Service;
  /** The endpoint's, for the observer. */
  readonly url: string;
  /** How long nothing is sent after a failure, in milliseconds. */
  readonly probeMs: number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  readonly observer?: GateObserver | undefined;
  /** Given the headers of each answer, before anything else comes of it. */
  readonly onAnswer?: ((headers: IncomingHttpHeaders) => void) | undefined;
}

/** A request that was not sent, because what it was for is known not to answer now. */
export class Refusal extends RegistryError {
  readonly state: ClosedState;
  /** How long until it may be worth asking again, in milliseconds. */
  readonly retryAfterMs: number;

  constructor(state: ClosedState, sentence: string, options: { readonly upstream: string; retryAfterMs: number }) {
    const { upstream, retryAfterMs } = options;
    const seconds = String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
    super(state === 'limited' ? 'limited' : 'left-alone', sentence, {
      detail: { upstream },
      ...(state === 'limited' && { headers: { 'Retry-After': seconds } }),
    });
    this.state = state;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The leave to send one request. To dispose it without a word says that nothing was learned. */
export interface Passage extends Disposable {
  /** Headers have come. */
  answered(answer: { readonly status: number; readonly headers: IncomingHttpHeaders }): void;
  /** No headers have come. @param error what the request failed with: only what the other side is to blame for counts */
  failed(error: unknown): void;
}

interface Closure {
  readonly state: ClosedState;
  readonly reason: string;
  readonly forMs: number;
  sinceMs: number;
}

/**
 * Decides before each request to one place whether it is sent at all, and learns from every answer. Requests already
 * under way when it closes are left alone. When its time is over, one request goes first, and its answer decides.
 */
export class Gate {
  readonly #options: GateOptions;
  #closure: Closure | undefined;
  /** Settles when the request that goes first has ended. */
  #probe: Promise<void> | undefined;
  #connectionFailures = 0;
  #serverFailures = 0;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /**
   * To be called before a request is sent. After a pause that was asked for, others wait for the first one's answer;
   * after a failure they are refused until it is there, since it may take long.
   * @throws Refusal; the signal's reason
   */
  async enter(signal: AbortSignal): Promise<Passage> {
    for (;;) {
      this.check();
      const closure = this.#closure;
      if (closure === undefined) return this.#passage();
      if (this.#probe === undefined) return this.#probing(closure);
      signal.throwIfAborted();
      await untilAborted(this.#probe, signal);
    }
  }

  /** To be called before others are asked for what a request needs. @throws Refusal where it would not be sent now */
  check(): void {
    const closure = this.#closure;
    if (closure === undefined) return;
    const mustWait = closure.state === 'broken' && this.#probe !== undefined;
    if (mustWait || this.#leftMs(closure) > 0) throw this.#refusal(closure);
  }

  /** Another replica was asked for a pause, which is meant for all. @param forMs how long it still lasts */
  pause(forMs: number): void {
    if (forMs > 0) this.#close('limited', { forMs, reason: pauseReason(429), isShared: true });
  }

  /** Whether {@link status} says `available`. */
  get isOpen(): boolean {
    const closure = this.#closure;
    // A pause that is over is no reason not to ask.
    return closure === undefined || (closure.state === 'limited' && this.#leftMs(closure) === 0);
  }

  status(): GateStatus {
    const closure = this.#closure;
    if (closure === undefined || this.isOpen) return { state: 'available' };
    return { state: closure.state, untilMs: this.#options.now() + this.#leftMs(closure), reason: closure.reason };
  }

  #passage(closure?: Closure, onEnd?: () => void): Passage {
    let ended = false;
    const end = (learn: () => void): void => {
      if (ended) return;
      ended = true;
      if (onEnd) this.#probe = undefined;
      learn();
      onEnd?.();
    };
    return {
      answered: (answer) => end(() => this.#answered(answer, closure)),
      failed: (error) => end(() => this.#failed(error, closure)),
      [Symbol.dispose]: () => end(() => undefined),
    };
  }

  #probing(closure: Closure): Passage {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#probe = promise;
    return this.#passage(closure, resolve);
  }

  #answered({ status, headers }: Parameters<Passage['answered']>[0], probed: Closure | undefined): void {
    this.#connectionFailures = 0;
    this.#options.onAnswer?.(headers);
    const pauseMs = pauseOf({ status, retryAfter: headers['retry-after'] }, this.#options.now());
    if (pauseMs !== undefined) {
      this.#serverFailures = 0;
      this.#close('limited', { forMs: pauseMs, reason: pauseReason(status) });
      return;
    }
    if (serverFailures.has(status)) {
      this.#serverFailures += 1;
      this.#break(`answered ${status}`, probed !== undefined || this.#serverFailures >= maxServerFailures);
      return;
    }
    this.#heard(probed);
  }

  #failed(error: unknown, probed: Closure | undefined): void {
    // Anything else is the reason of a signal: somebody has left.
    if (!(error instanceof RegistryError)) return;
    const evidence = reasonFacts[error.reason].gate;
    // An answer that cannot be used is an answer.
    if (evidence === 'answer') this.#heard(probed);
    if (evidence === 'answer' || evidence === 'none') return;
    const isSilence = evidence === 'silence';
    if (!isSilence) this.#connectionFailures += 1;
    const clause = error instanceof UpstreamError ? error.clause : error.message;
    this.#break(clause, isSilence || probed !== undefined || this.#connectionFailures >= maxConnectionFailures);
  }

  #heard(probed: Closure | undefined): void {
    this.#connectionFailures = 0;
    this.#serverFailures = 0;
    const closure = this.#closure;
    // An answer to a request from before a pause was asked for does not lift the pause; a failure it does refute.
    if (closure === undefined || (closure.state === 'limited' && closure !== probed)) return;
    this.#closure = undefined;
    this.#options.observer?.opened({ service: this.#options.service, url: this.#options.url });
  }

  #break(reason: string, enough: boolean): void {
    // Late news of requests that were under way neither prolong what is known nor lift a pause that was asked for.
    const isKnown = this.#closure !== undefined && (this.#probe !== undefined || this.#leftMs(this.#closure) > 0);
    if (enough && !isKnown) this.#close('broken', { forMs: this.#options.probeMs, reason });
  }

  #close(
    state: ClosedState,
    { forMs, reason, isShared = false }: { forMs: number; reason: string; isShared?: boolean },
  ): void {
    const { service, url, now, observer } = this.#options;
    const previous = this.#closure;
    if (previous?.state === state && this.#leftMs(previous) > forMs) return;
    this.#closure = { state, reason, forMs, sinceMs: now() };
    if (previous?.state !== state) observer?.closed({ service, url, state, forMs, reason, isShared });
  }

  #leftMs(closure: Closure): number {
    const nowMs = this.#options.now();
    // A clock that was set back does not prolong anything.
    closure.sinceMs = Math.min(closure.sinceMs, nowMs);
    return Math.max(0, closure.forMs - (nowMs - closure.sinceMs));
  }

  #refusal(closure: Closure): Refusal {
    const { upstream, service, observer } = this.#options;
    const { state, reason } = closure;
    observer?.refused({ service, state });
    const retryAfterMs = this.#leftMs(closure);
    const until = state === 'limited' ? `for ${Math.ceil(retryAfterMs / 1000)} s` : 'before the next probe';
    const sentence = `${nameOf(upstream, service)} ${reason}; it is not asked again ${until}`;
    return new Refusal(state, sentence, { upstream, retryAfterMs });
  }
}
