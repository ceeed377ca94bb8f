import type { IncomingHttpHeaders } from 'node:http';
import { RegistryError } from '../oci/error.ts';
import { reasonFacts } from '../oci/reason.ts';
import { untilAborted } from '../waiting/until-aborted.ts';
import { nameOf, pauseOf, pauseReason, retryAfterSeconds, type Service, UpstreamError } from './failures.ts';
import {
  type ClosedState,
  type GateEvent,
  type GateStatus,
  type Heard,
  type Part,
  type Passage,
  Refusal,
  type RequestClass,
  type RequestGate,
} from './passage.ts';

/** Refused or reset connections and failed look-ups in a row after which nothing is sent for a while. */
const maxConnectionFailures = 3;

/** Answers out of {@link serverFailures} in a row after which nothing is sent for a while. */
const maxServerFailures = 5;

/** The longest pause after limits that say no time, in milliseconds: each one in a row doubles it. */
const maxUntoldPauseMs = 10_000;

/** Answers that a place gives when it cannot answer. */
export const serverFailures: ReadonlySet<number> = new Set([500, 502, 503, 504]);

export interface GateOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly service: Service;
  /** The endpoint's, for reports. */
  readonly url: string;
  readonly part?: Part;
  /** How long nothing is sent after a failure, in milliseconds. */
  readonly probeMs: number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Receives what the gate does; it must not throw. */
  readonly report?: ((event: GateEvent) => void) | undefined;
  /** Called each time that it closes, also where it was closed before. */
  readonly onClosed?: (() => void) | undefined;
  /** Given the headers of each answer, before anything else comes of it. */
  readonly onAnswer?: ((headers: IncomingHttpHeaders) => void) | undefined;
}

const classWords: Readonly<Record<RequestClass, string>> = {
  manifest: 'manifests',
  blob: 'blobs',
  list: 'lists',
  token: 'tokens',
  'manifest-head': 'HEADs of manifests',
  'blob-head': 'HEADs of blobs',
};

interface Closure {
  readonly state: ClosedState;
  readonly reason: string;
  readonly forMs: number;
  /** Nothing is known against it but what another class was told. */
  readonly isDoubt?: boolean;
  sinceMs: number;
}

/**
 * Decides before each request to one place whether it is sent at all, and learns from every answer. Requests already
 * under way when it closes are left alone. When its time is over, one request goes first, and its answer decides.
 */
export class Gate implements RequestGate {
  readonly #options: GateOptions;
  #closure: Closure | undefined;
  /** Settles when the request that goes first has ended. */
  #probe: Promise<void> | undefined;
  #connectionFailures = 0;
  #serverFailures = 0;
  #failingSinceMs = 0;

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

  /** The passage of a request that was sent before this gate stood there. */
  late(): Passage {
    return this.#passage();
  }

  /** Nothing is sent from now on, as a neutral request has shown. @param found its answer, or what it failed with */
  shut(found: Heard | RegistryError): void {
    const { now, probeMs } = this.#options;
    if (found instanceof RegistryError) {
      this.#break(clauseOf(found), true);
      return;
    }
    const { status, headers, code } = found;
    const pauseMs = pauseOf({ status, retryAfter: headers['retry-after'], code }, now());
    if (pauseMs === undefined) this.#close('broken', { forMs: probeMs, reason: `answered ${status}` });
    else this.#close('limited', { forMs: pauseMs, reason: pauseReason(status) });
  }

  /** Whether nothing is sent, or one request to find out whether it may be. */
  get isClosed(): boolean {
    return this.#closure !== undefined;
  }

  /** When the first of the failures in a row came, in milliseconds; 0: there were none. */
  get failingSinceMs(): number {
    return this.#failingSinceMs;
  }

  /** Whether it is closed because requests have failed. */
  get isBroken(): boolean {
    return this.#closure?.state === 'broken';
  }

  /** @throws Refusal where it is closed */
  refuse(): void {
    if (this.#closure !== undefined) throw this.#refusal(this.#closure);
  }

  /** Whether nothing is known that speaks against sending. */
  get isClear(): boolean {
    return this.#closure === undefined && this.#connectionFailures === 0 && this.#serverFailures === 0;
  }

  /** Another replica was asked for a pause, which is meant for all. @param forMs how long it still lasts */
  pause(forMs: number): void {
    if (forMs > 0) this.#close('limited', { forMs, reason: pauseReason(429), isShared: true });
  }

  /** Whether requests are answered has become a question: the first one goes alone, and its answer decides. */
  doubt(): void {
    this.#closure ??= { state: 'limited', reason: pauseReason(429), forMs: 0, sinceMs: 0, isDoubt: true };
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

  #answered({ status, headers, code }: Heard, probed: Closure | undefined): void {
    this.#connectionFailures = 0;
    this.#options.onAnswer?.(headers);
    const pauseMs = this.#pauseOf({ status, headers, code }, probed);
    if (pauseMs !== undefined) {
      this.#serverFailures = 0;
      this.#close('limited', { forMs: pauseMs, reason: pauseReason(status) });
      return;
    }
    if (serverFailures.has(status)) {
      this.#serverFailures += 1;
      this.#break(`answered ${status}`, isVerdict(probed) || this.#serverFailures >= maxServerFailures);
      return;
    }
    this.#heard(probed);
  }

  #pauseOf({ status, headers, code }: Heard, probed: Closure | undefined): number | undefined {
    const nowMs = this.#options.now();
    const retryAfter = headers['retry-after'];
    const pauseMs = pauseOf({ status, retryAfter, code }, nowMs);
    const isTold = retryAfterSeconds(retryAfter, nowMs) !== undefined;
    if (pauseMs === undefined || isTold || !isVerdict(probed) || probed.state !== 'limited') return pauseMs;
    return Math.min(probed.forMs * 2, maxUntoldPauseMs);
  }

  #failed(error: unknown, probed: Closure | undefined): void {
    // Anything else is the reason of a signal: the caller has left.
    if (!(error instanceof RegistryError)) return;
    const evidence = reasonFacts[error.reason].gate;
    // An answer that cannot be used is an answer.
    if (evidence === 'answer') this.#heard(probed);
    if (evidence === 'answer' || evidence === 'none') return;
    const isSilence = evidence === 'silence';
    if (!isSilence) this.#connectionFailures += 1;
    const isEnough = isSilence || isVerdict(probed) || this.#connectionFailures >= maxConnectionFailures;
    this.#break(clauseOf(error), isEnough);
  }

  #heard(probed: Closure | undefined): void {
    this.#connectionFailures = 0;
    this.#serverFailures = 0;
    this.#failingSinceMs = 0;
    const closure = this.#closure;
    // An answer to a request from before a pause was asked for does not lift the pause; a failure it does refute.
    if (closure === undefined || (closure.state === 'limited' && closure !== probed)) return;
    this.#closure = undefined;
    const { service, url, part, report } = this.#options;
    if (closure.isDoubt !== true) report?.({ kind: 'opened', service, url, part });
  }

  #break(reason: string, enough: boolean): void {
    this.#failingSinceMs ||= this.#options.now();
    // Late news of requests that were under way neither prolong what is known nor lift a pause that was asked for.
    const isKnown = this.#closure !== undefined && (this.#probe !== undefined || this.#leftMs(this.#closure) > 0);
    if (enough && !isKnown) this.#close('broken', { forMs: this.#options.probeMs, reason });
  }

  #close(
    state: ClosedState,
    { forMs, reason, isShared = false }: { forMs: number; reason: string; isShared?: boolean },
  ): void {
    const { service, url, part, now, report } = this.#options;
    const previous = this.#closure;
    if (previous?.state === state && this.#leftMs(previous) > forMs) return;
    this.#closure = { state, reason, forMs, sinceMs: now() };
    this.#options.onClosed?.();
    if (previous?.state === state && previous.isDoubt !== true) return;
    report?.({ kind: 'closed', service, url, state, forMs, reason, isShared, part });
  }

  #leftMs(closure: Closure): number {
    const nowMs = this.#options.now();
    // A clock that was set back does not prolong anything.
    closure.sinceMs = Math.min(closure.sinceMs, nowMs);
    return Math.max(0, closure.forMs - (nowMs - closure.sinceMs));
  }

  #refusal(closure: Closure): Refusal {
    const { upstream, service, part, report } = this.#options;
    const { state, reason } = closure;
    report?.({ kind: 'refused', service, state });
    const retryAfterMs = this.#leftMs(closure);
    const until = state === 'limited' ? `for ${Math.ceil(retryAfterMs / 1000)} s` : 'before the next probe';
    const what = part === undefined ? '' : ` (${classWords[part.requests]} of ${part.repository})`;
    const sentence = `${nameOf(upstream, service)} ${reason}; it is not asked again ${until}${what}`;
    return new Refusal(state, sentence, { upstream, retryAfterMs });
  }
}

/** Whether a request was to find out what a failure or a limit has made of the place. */
function isVerdict(probed: Closure | undefined): probed is Closure {
  return probed !== undefined && probed.isDoubt !== true;
}

function clauseOf(error: RegistryError): string {
  return error instanceof UpstreamError ? error.clause : error.message;
}
