import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import { upTo } from '../oci/lru-bound.ts';
import { reasonFacts } from '../oci/reason.ts';
import { pauseOf } from './failures.ts';
import { Gate, type GateOptions, serverFailures } from './gate.ts';
import {
  type GateStatus,
  type Heard,
  type Part,
  type PartStatus,
  type Passage,
  type RequestClass,
  type RequestGate,
} from './passage.ts';
import { endTurn, noTurn, type Turn, Turns, type TurnsOptions, turnOf } from './turns.ts';

/** Most parts of a place of which something bad is remembered at a time. */
const maxParts = 5_000;
/** How many repositories must fail alike before the whole place is suspected. */
const severalRepositories = 2;
/** The most parts that a status lists. */
const maxListedParts = 20;

/** The class that decides where a HEAD says no. */
const getInstead: Partial<Readonly<Record<RequestClass, RequestClass>>> = {
  'manifest-head': 'manifest',
  'blob-head': 'blob',
};

export interface WallsOptions extends Omit<GateOptions, 'part'> {
  /**
   * Asks the place for something that is no repository's, such as `/v2/`.
   * @returns `undefined` where there is nothing to ask it for
   */
  readonly ping: () => Promise<Heard | undefined>;
  /** Requests for small answers that may be under way at a time. */
  readonly turns: TurnsOptions;
}

/** The passages and the turn of a request that has entered. */
interface Entered {
  readonly own: Passage | undefined;
  /** Of a HEAD: what HEADs of its class have to pass before. */
  readonly heads: { readonly part: Part; readonly passage: Passage | undefined } | undefined;
  readonly whole: Passage;
  readonly turn: Turn;
}

/**
 * The gates of one place: one before the whole place, and one before each class of request for each repository that has
 * given reason. Evidence about a repository closes that part alone. The whole place closes when it cannot be
 * connected to, or when several repositories fail alike and a neutral request fails too. Lists never count against it.
 * A limit that a HEAD is told is one of HEADs: whether GETs are limited, too, is shown by the next one, which goes alone.
 */
export class Walls {
  readonly #options: WallsOptions;
  readonly #whole: Gate;
  readonly #parts = new LRUCache<string, Gate>(upTo(maxParts));
  /** Requests for small answers under way. */
  readonly #turns: Turns;
  #probe: Promise<Heard | undefined> | undefined;
  #provenUntilMs = 0;
  /** When a request was last answered as it should be, and when the last of the parts that fail alike began to. */
  #goodAtMs = 0;
  #suspectedAtMs = 0;

  constructor(options: WallsOptions) {
    this.#options = options;
    this.#whole = new Gate(options);
    this.#turns = new Turns(options.turns);
  }

  /** The gate before one class of request for one repository. */
  gate(requests: RequestClass, repository: string): RequestGate {
    const head = Object.hasOwn(getInstead, requests) ? { requests, repository } : undefined;
    const part: Part = { requests: getInstead[requests] ?? requests, repository };
    const key = keyOf(part);
    const headGate = (): Gate | undefined => head && this.#parts.get(keyOf(head));
    return {
      check: () => {
        headGate()?.check();
        this.#parts.get(key)?.check();
        this.#whole.check();
      },
      enter: async (signal) => {
        // First its own: what is refused here must not be the request that finds out about the whole place.
        const gate = this.#parts.get(key);
        const isSmall = requests !== 'blob';
        const probing = isSmall && gate?.isBroken === true ? await this.#turns.takeProbe(gate, signal) : noTurn;
        using turn = new DisposableStack();
        turn.use(probing);
        using entered = new DisposableStack(); // Disposing a passage that has learned something does nothing.
        const heads = head && { part: head, passage: entered.use(await headGate()?.enter(signal)) };
        const own = entered.use(await gate?.enter(signal));
        const place = isSmall ? await this.#turns.take(repository, { isHead: head !== undefined, signal }) : noTurn;
        turn.use(place);
        const whole = await this.#whole.enter(signal);
        entered.move();
        return this.#passage(part, { own, heads, whole, turn: turnOf(place, turn.move()) });
      },
    };
  }

  /** Another replica was asked for a pause. @param pause `part`: absent where it is for the whole place */
  pause({ forMs, part }: { readonly forMs: number; readonly part?: Part | undefined }): void {
    (part === undefined ? this.#whole : this.#part(part)).pause(forMs);
    if (part !== undefined) this.#doubtGets(part);
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

  #passage(part: Part, { own, heads, whole, turn }: Entered): Passage {
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
        const isFailure = this.#isFailure(answer);
        if (!isReceiving) endTurn(turn, { isGood: !isFailure });
        if (heads !== undefined && this.#pauseOf(answer) !== undefined) {
          (heads.passage ?? this.#part(heads.part).late()).answered(answer);
          own?.[Symbol.dispose]();
          this.#doubtGets(heads.part);
        } else {
          heads?.passage?.answered({ ...answer, status: 200 });
          if (own !== undefined || isFailure) (own ?? this.#part(part).late()).answered(answer);
        }
        this.#tidy(part, heads?.part);
        if (!isFailure) {
          this.#goodAtMs = this.#options.now();
          whole.answered(answer);
        } else if (isProbe) settle();
        // It has answered, whatever it said.
        else if (!this.#whole.isClosed) whole.answered({ ...answer, status: 200 });
      },
      failed: (error, event) => {
        turn[Symbol.dispose]();
        heads?.passage?.[Symbol.dispose]();
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
          endTurn(turn, { isGood: failure === undefined });
          // Headers alone are not an answer: a body that does not come is as good as silence.
          const isSilence = failure instanceof RegistryError && reasonFacts[failure.reason].gate === 'silence';
          if (isSilence) this.#part(part).late().failed(failure);
        };
      },
      [Symbol.dispose]: () => {
        if (!isReceiving) turn[Symbol.dispose]();
        own?.[Symbol.dispose]();
        heads?.passage?.[Symbol.dispose]();
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

  #isFailure(answer: Heard): boolean {
    return serverFailures.has(answer.status) || this.#pauseOf(answer) !== undefined;
  }

  #pauseOf({ status, headers, code }: Heard): number | undefined {
    return pauseOf({ status, retryAfter: headers['retry-after'], code }, this.#options.now());
  }

  /** HEADs are limited: GETs may be, too. */
  #doubtGets({ requests, repository }: Part): void {
    const gets = getInstead[requests];
    if (gets !== undefined) this.#part({ requests: gets, repository }).doubt();
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
  #tidy(...parts: readonly (Part | undefined)[]): void {
    for (const part of parts) {
      if (part && this.#parts.peek(keyOf(part))?.isClear === true) this.#parts.delete(keyOf(part));
    }
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
