import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import { upTo } from '../oci/lru-bound.ts';
import { reasonFacts } from '../oci/reason.ts';
import { LinkedAbort } from '../waiting/linked-abort.ts';
import { Shares } from '../waiting/shares.ts';
import { pauseOf } from './failures.ts';
import { Gate, type GateOptions, serverFailures } from './gate.ts';
import {
  type GateStatus,
  type Heard,
  type Part,
  type Passage,
  type RequestClass,
  type RequestGate,
} from './passage.ts';

/** Most parts of a place of which something bad is remembered at a time. */
const maxParts = 5_000;
/** How many repositories must fail alike before the whole place is suspected. */
const severalRepositories = 2;
/** How long a request waits that would find out whether its part is back, in milliseconds. */
const probeWaitMs = 1_000;
/** The most parts that a status lists. */
const maxListedParts = 20;

/** A part of a place that is not asked now. */
export interface PartStatus extends GateStatus, Part {}

export interface WallsOptions extends Omit<GateOptions, 'part'> {
  /**
   * Asks the place for something that is no repository's, such as `/v2/`.
   * @returns `undefined` where there is nothing to ask it for
   */
  readonly ping: () => Promise<Heard | undefined>;
  /** Requests for small answers that may be under way for one repository; further ones wait for their turn. */
  readonly shareOfRepository: number;
}

const noTurn: Disposable = { [Symbol.dispose]: () => undefined };

/**
 * The gates of one place: one before the whole place, and one before each class of request for each repository that has
 * given reason. Evidence about a repository closes that part alone. The whole place closes when it cannot be
 * connected to, or when several repositories fail alike and a neutral request fails too. Lists never count against it.
 */
export class Walls {
  readonly #options: WallsOptions;
  readonly #whole: Gate;
  readonly #parts = new LRUCache<string, Gate>(upTo(maxParts));
  /** Requests for small answers under way, for each repository. */
  readonly #turns: Shares;
  /** Requests that find out whether parts are back: however many repositories stall, they take a part of the connections. */
  readonly #probes: Shares;
  #probe: Promise<Heard | undefined> | undefined;
  #provenUntilMs = 0;
  /** When a request was last answered as it should be, and when the last of the parts that fail alike began to. */
  #goodAtMs = 0;
  #suspectedAtMs = 0;

  constructor(options: WallsOptions) {
    this.#options = options;
    this.#whole = new Gate(options);
    this.#turns = new Shares(options.shareOfRepository);
    this.#probes = new Shares(options.shareOfRepository);
  }

  /** The gate before one class of request for one repository. */
  gate(requests: RequestClass, repository: string): RequestGate {
    const part: Part = { requests, repository };
    const key = keyOf(part);
    return {
      check: () => {
        this.#parts.get(key)?.check();
        this.#whole.check();
      },
      enter: async (signal) => {
        // First its own: what is refused here must not be the request that finds out about the whole place.
        const gate = this.#parts.get(key);
        const isSmall = requests !== 'blob';
        const probing = isSmall && gate?.isBroken === true ? await this.#takeProbe(gate, signal) : noTurn;
        using turn = new DisposableStack();
        turn.use(probing);
        const own = await gate?.enter(signal);
        try {
          if (isSmall) turn.use(await this.#turns.take(repository, signal));
          const whole = await this.#whole.enter(signal);
          return this.#passage(part, { own, whole, turn: turn.move() });
        } catch (error) {
          own?.[Symbol.dispose]();
          throw error;
        }
      },
    };
  }

  /** Another replica was asked for a pause. @param pause `part`: absent where it is for the whole place */
  pause({ forMs, part }: { readonly forMs: number; readonly part?: Part | undefined }): void {
    (part === undefined ? this.#whole : this.#part(part)).pause(forMs);
  }

  /** Whether the place as a whole can be asked. */
  get isOpen(): boolean {
    return this.#whole.isOpen;
  }

  /** Whether a class of request for a repository can be asked now, and nothing else of that repository is broken. */
  isOpenFor(requests: RequestClass, repository: string): boolean {
    if (!this.isOpen) return false;
    // Nearly always: this is asked for every manifest that is stored.
    if (this.#parts.size === 0) return true;
    for (const each of ['manifest', 'blob', 'token'] as const) {
      const state = this.#parts.peek(keyOf({ requests: each, repository }))?.status().state;
      if (state === 'broken' || (state === 'limited' && each === requests)) return false;
    }
    return true;
  }

  status(): GateStatus & { readonly parts?: readonly PartStatus[] } {
    const parts: PartStatus[] = [];
    for (const [key, gate] of this.#parts.entries()) {
      const status = gate.status();
      if (status.state !== 'available' && parts.length < maxListedParts) parts.push({ ...partOf(key), ...status });
    }
    return { ...this.#whole.status(), ...(parts.length > 0 && { parts }) };
  }

  /** One of the few requests at a time that find out whether parts are back. @throws Refusal; the signal's reason */
  async #takeProbe(gate: Gate, signal: AbortSignal): Promise<Disposable> {
    gate.check();
    using limited = new LinkedAbort(signal).timeoutAfter(probeWaitMs);
    try {
      return await this.#probes.take('', limited.signal);
    } catch (error) {
      signal.throwIfAborted();
      gate.refuse();
      throw error;
    }
  }

  #passage(part: Part, { own, whole, turn }: { own: Passage | undefined; whole: Passage; turn: Disposable }): Passage {
    // One that was let through a closed gate is the request that finds out whether the place is back.
    const isProbe = this.#whole.isClosed;
    let isSettling = false;
    let isReceiving = false;
    const settle = (): void => {
      isSettling = true;
      this.#settle(whole);
    };
    return {
      answered: (answer) => {
        if (!isReceiving) turn[Symbol.dispose]();
        const isFailure = this.#isFailure(answer);
        if (own !== undefined || isFailure) (own ?? this.#part(part).late()).answered(answer);
        this.#tidy(part);
        if (!isFailure) {
          this.#goodAtMs = this.#options.now();
          whole.answered(answer);
        } else if (isProbe) settle();
        // It has answered, whatever it said.
        else if (!this.#whole.isClosed) whole.answered({ ...answer, status: 200 });
      },
      failed: (error, event) => {
        turn[Symbol.dispose]();
        const evidence = error instanceof RegistryError ? reasonFacts[error.reason].gate : 'none';
        const isOfPlace = evidence === 'answer' || evidence === 'none' || event?.isConnected === false;
        if (isOfPlace) {
          if (evidence === 'answer') own?.failed(error);
          whole.failed(error);
          return;
        }
        (own ?? this.#part(part).late()).failed(error);
        if (isProbe) settle();
      },
      receiving: () => {
        isReceiving = true;
        return (failure) => {
          turn[Symbol.dispose]();
          // Headers alone are not an answer: a body that does not come is as good as silence.
          const isSilence = failure instanceof RegistryError && reasonFacts[failure.reason].gate === 'silence';
          if (isSilence) this.#part(part).late().failed(failure);
        };
      },
      [Symbol.dispose]: () => {
        if (!isReceiving) turn[Symbol.dispose]();
        own?.[Symbol.dispose]();
        // The result of a neutral request expires.
        if (!isSettling) whole[Symbol.dispose]();
      },
    };
  }

  /** The first request after the whole place was closed has failed: a neutral one decides, not that of one repository. */
  #settle(whole: Passage): void {
    this.#ping().then(
      (answer) => (answer === undefined ? whole[Symbol.dispose]() : whole.answered(answer)),
      (error: unknown) => whole.failed(error),
    );
  }

  #isFailure({ status, headers, code }: Heard): boolean {
    const retryAfter = headers['retry-after'];
    return serverFailures.has(status) || pauseOf({ status, retryAfter, code }, this.#options.now()) !== undefined;
  }

  #part(part: Part): Gate {
    const key = keyOf(part);
    const known = this.#parts.get(key);
    if (known) return known;
    const { report } = this.#options;
    const gate = new Gate({
      ...this.#options,
      part,
      onAnswer: undefined,
      report: (event) => {
        report?.(event);
        if (event.kind === 'closed' && !event.isShared) this.#suspect(part, event.state);
      },
    });
    this.#parts.set(key, gate);
    return gate;
  }

  /** A part that has given no reason, or none any more, needs no gate. */
  #tidy(part: Part): void {
    const key = keyOf(part);
    if (this.#parts.peek(key)?.isClear === true) this.#parts.delete(key);
  }

  /** Several repositories that fail alike are a reason to look whether all of the place does. */
  #suspect({ requests, repository }: Part, state: string): void {
    if (requests === 'list') return;
    const now = this.#options.now();
    const suspects = new Set([repository]);
    let sinceMs = 0;
    for (const [key, gate] of this.#parts.entries()) {
      const other = partOf(key);
      if (other.requests === 'list' || gate.status().state !== state) continue;
      suspects.add(other.repository);
      sinceMs = Math.max(sinceMs, gate.failingSinceMs);
    }
    if (suspects.size < severalRepositories || !this.#whole.isOpen || now < this.#provenUntilMs) return;
    this.#suspectedAtMs = sinceMs === 0 ? now : sinceMs;
    if (!this.#answersOthers) void this.#ask();
  }

  /**
   * Whether a request was answered after the parts that fail had begun to: whatever a neutral request fails with then, it is
   * not what pulls get.
   */
  get #answersOthers(): boolean {
    return this.#goodAtMs > this.#suspectedAtMs;
  }

  async #ask(): Promise<void> {
    const { now, probeMs } = this.#options;
    try {
      const answer = await this.#ping();
      if (answer === undefined || !this.#isFailure(answer)) this.#provenUntilMs = now() + probeMs;
      else if (!this.#answersOthers) this.#whole.shut(answer);
    } catch (error) {
      const isEvidence = error instanceof RegistryError && reasonFacts[error.reason].gate !== 'answer';
      if (isEvidence && !this.#answersOthers) this.#whole.shut(error);
    }
  }

  /** One neutral request at a time. */
  #ping(): Promise<Heard | undefined> {
    this.#probe ??= this.#options.ping().finally(() => {
      this.#probe = undefined;
    });
    return this.#probe;
  }
}

function keyOf({ requests, repository }: Part): string {
  return `${requests} ${repository}`;
}

function partOf(key: string): Part {
  const space = key.indexOf(' ');
  return { requests: key.slice(0, space) as RequestClass, repository: key.slice(space + 1) };
}
