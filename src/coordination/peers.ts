import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import { type JsonLimits, parseJson } from '../oci/json.ts';
import { octetStream } from '../oci/media-types.ts';
import { readContentRange } from '../oci/range.ts';
import { IdleTimeoutError, readBounded, type TransferBody, transferBody } from '../transport/body.ts';
import { exchange, type WireAnswer } from '../transport/exchange.ts';
import { ExchangeTimeoutError, HeadersDeadline } from '../transport/headers-deadline.ts';
import type { Replica } from './coordinator.ts';
import { PeerFailure, type PeerFault } from './peer-failure.ts';
import { type PeerPass, passHeader } from './peer-pass.ts';
import { type PeerTls, ReplicaAgents } from './replica-agents.ts';

/** A request to another replica: for a stored blob, also for one that it is fetching, to fetch one, or to keep a copy. */
export type PeerWant = 'stored' | 'filling' | 'fill' | 'copy';

/** A blob from another replica; end `body` with `destroy()` unless it was read to its end. */
export interface PeerAnswer {
  /** Size of the whole blob in bytes; `undefined` if the replica does not know it yet. */
  readonly size: number | undefined;
  readonly start: number;
  readonly end: number | undefined;
  readonly contentType: string;
  /** Unverified bytes. */
  readonly body: TransferBody;
}

export interface PeerTimes {
  /** For each of: resolving the name, connecting, the TLS handshake. */
  readonly connectMs: number;
  /** For headers, or an interim response. */
  readonly headersMs: number;
  /** For the next bytes of a body. */
  readonly idleMs: number;
}

export interface PeersOptions {
  readonly pass: PeerPass;
  /** This replica's id. */
  readonly self: () => string;
  readonly tls?: PeerTls | undefined;
  readonly times?: PeerTimes;
  /** Receives each failure; `isNew`: another fault than the last, or the first since a success. */
  readonly onFailure?: (replica: Replica, failure: PeerFailure, event: { readonly isNew: boolean }) => void;
}

/** The fault of another replica. */
export interface PeerTrouble {
  readonly fault: PeerFault;
  /** The cause in its own words. */
  readonly reason: string;
  /** ISO 8601. */
  readonly at: string;
}

const defaultTimes: PeerTimes = { connectMs: 1_000, headersMs: 3_000, idleMs: 4_000 };

/** How long a replica is avoided after each fault, in milliseconds. */
const avoidMs: Record<PeerFault | 'wrong', number> = {
  absent: 0,
  unreachable: 2_000,
  silent: 5_000,
  refused: 10_000,
  odd: 10_000,
  wrong: 60_000,
};

/** Limits of the answer to a question: one list of up to a mebibyte, as text within JSON. */
const maxAnswerBytes = 4 * 1024 * 1024;
const answerLimits: JsonLimits = { maxValues: 100, maxDepth: 4 };

/** The other replicas, as fills use them. */
export type PeerAccess = Pick<Peers, 'open' | 'ask' | 'askToCopy' | 'avoid' | 'isAvoided' | 'isSlow'>;

/** The other replicas as sources of blobs. Connects only to members of the fleet and follows no redirect. */
export class Peers implements Disposable {
  readonly #options: PeersOptions;
  readonly #times: PeerTimes;
  readonly #agents: ReplicaAgents;
  /** Until when, by the monotonic clock, and why. */
  readonly #avoided = new Map<string, { readonly untilMs: number; readonly fault: PeerFault | 'wrong' }>();
  readonly #troubles = new LRUCache<string, PeerTrouble>({ max: 2_000 });

  constructor(options: PeersOptions) {
    this.#options = options;
    this.#times = options.times ?? defaultTimes;
    this.#agents = new ReplicaAgents({ tls: options.tls, maxFreeSockets: 8 });
  }

  /** Uses other certificates for new connections. */
  renewTls(tls: PeerTls): void {
    this.#agents.renew(tls);
  }

  /** Whether a replica is avoided for now, because it has failed. */
  isAvoided(replica: string): boolean {
    const avoided = this.#avoided.get(replica);
    if (avoided === undefined) return false;
    if (avoided.untilMs > performance.now()) return true;
    this.#avoided.delete(replica);
    return false;
  }

  /** Whether it is avoided only because it has not answered in time. */
  isSlow(replica: string): boolean {
    return this.isAvoided(replica) && this.#avoided.get(replica)?.fault === 'silent';
  }

  /** The last failure of a replica since its last success. */
  trouble(replica: string): PeerTrouble | undefined {
    return this.#troubles.get(replica);
  }

  /** A replica has failed in a way that says something about it, not only about this blob. */
  avoid(replica: string, fault: PeerFault | 'wrong'): void {
    const untilMs = performance.now() + avoidMs[fault];
    if (untilMs > (this.#avoided.get(replica)?.untilMs ?? 0)) this.#avoided.set(replica, { untilMs, fault });
  }

  /**
   * Begins to read a blob.
   * @param options `through`: the repository, as the cache names it, through which it is read; `access`: how its upstream
   *   is reached here
   * @throws PeerFailure; the signal's reason
   */
  async open(
    replica: Replica,
    digest: Digest,
    options: {
      readonly want: PeerWant;
      readonly through: string;
      readonly access: string;
      readonly offset: number;
      readonly end?: number | undefined;
      readonly signal: AbortSignal;
    },
  ): Promise<PeerAnswer> {
    const { want, through, access, offset, end, signal } = options;
    const query = new URLSearchParams({ want, through, access });
    const path = `/v2/_millpond/blobs/${digest}?${query.toString()}`;
    const range = offset > 0 || end !== undefined ? `bytes=${offset}-${end === undefined ? '' : end - 1}` : undefined;
    const answer = await this.#send(replica, { path, range, signal });
    const body = transferBody(answer, {
      idleMs: this.#times.idleMs,
      expectedBytes: undefined,
      translate: (error) => this.#cut(replica, error, signal),
    });
    try {
      return { ...this.#read(replica, answer, offset), body };
    } catch (error) {
      body.destroy();
      throw error;
    }
  }

  /**
   * Asks a replica what an upstream has told it.
   * @returns its answer, as JSON gives it; `undefined` if it has none or cannot be asked. Never rejects
   */
  async ask(replica: Replica, question: Readonly<Record<string, string>>, signal: AbortSignal): Promise<unknown> {
    const path = `/v2/_millpond/answers?${new URLSearchParams(question).toString()}`;
    try {
      const answer = await this.#send(replica, { path, range: undefined, signal });
      const options = { idleMs: this.#times.idleMs, expectedBytes: undefined, translate: (error: unknown) => error };
      const bytes = await readBounded(transferBody(answer, options), maxAnswerBytes);
      return answer.status === 200 && bytes !== undefined ? parseJson(bytes, answerLimits) : undefined;
    } catch {
      return undefined;
    }
  }

  /** Asks a replica to keep a blob too. Never rejects: it is a wish. */
  async askToCopy(replica: Replica, digest: Digest, through: string): Promise<void> {
    const path = `/v2/_millpond/blobs/${digest}?${new URLSearchParams({ want: 'copy', through }).toString()}`;
    try {
      (await this.#send(replica, { path, range: undefined, signal: AbortSignal.timeout(5_000) })).stream.destroy();
    } catch {
      // The next request for the blob finds it there or elsewhere.
    }
  }

  [Symbol.dispose](): void {
    this.#agents[Symbol.dispose]();
  }

  #read(replica: Replica, { status, headers }: WireAnswer, offset: number): Omit<PeerAnswer, 'body'> {
    const fail = (fault: PeerFault, what: string): never => {
      throw this.#failed(replica, fault, { sentence: `another replica ${what}` });
    };
    // 416: the blob there has another size.
    if (status === 404 || status === 416) return fail('absent', 'does not have this blob');
    if (status === 401 || status === 403) return fail('refused', 'does not let this one in');
    if (status === 503 || status === 504) return fail('silent', 'cannot give this blob now');
    const contentType = headers['content-type'] ?? octetStream;
    if (status === 200 || status === 206) this.#troubles.delete(replica.id);
    if (status === 200) {
      const size = lengthOf(headers['content-length']);
      return { size, start: 0, end: size, contentType };
    }
    const window = readContentRange(headers['content-range']);
    if (status !== 206 || window?.range.start !== offset) return fail('odd', `answered ${status}`);
    return { size: window.size, start: offset, end: window.range.end, contentType };
  }

  #failed(
    replica: Replica,
    fault: PeerFault,
    options: { readonly sentence: string; readonly cause?: unknown },
  ): PeerFailure {
    this.avoid(replica.id, fault);
    const failure = new PeerFailure(replica.id, fault, options);
    this.#note(replica, failure);
    return failure;
  }

  #note(replica: Replica, failure: PeerFailure): void {
    const { fault, words: reason } = failure;
    const isNew = fault !== 'absent' && this.#troubles.get(replica.id)?.fault !== fault;
    // A replica that lacks something has answered.
    if (fault === 'absent') this.#troubles.delete(replica.id);
    else this.#troubles.set(replica.id, { fault, reason, at: new Date().toISOString() });
    this.#options.onFailure?.(replica, failure, { isNew });
  }

  /** The error for the reader of a body that ended too early. */
  #cut(replica: Replica, error: unknown, signal: AbortSignal): unknown {
    if (signal.aborted) return signal.reason;
    const fault = error instanceof IdleTimeoutError ? 'silent' : 'unreachable';
    const sentence = `another replica ${fault === 'silent' ? 'has stopped sending' : 'has cut the transfer'}`;
    const failure = new PeerFailure(replica.id, fault, { sentence, cause: error });
    this.#note(replica, failure);
    return failure;
  }

  async #send(
    replica: Replica,
    { path, range, signal }: { path: string; range: string | undefined; signal: AbortSignal },
  ): Promise<WireAnswer> {
    const { pass, self } = this.#options;
    signal.throwIfAborted();
    const { id, address, boot } = replica;
    const header = pass.sign({ method: 'GET', path, range, to: `${id}:${boot}` }, self());
    const headers = { [passHeader]: header, ...(range !== undefined && { range }) };
    // A replica that waits for bytes itself sends interim responses.
    using deadline = new HeadersDeadline({ ...this.#times, isProlonged: true });
    try {
      // Its pass is good for one request.
      const url = new URL(path, address);
      const agent = this.#agents.for(url);
      return await exchange({ method: 'GET', url, headers, agent, deadline, isRepeatable: false, signal });
    } catch (error) {
      signal.throwIfAborted();
      const fault = error instanceof ExchangeTimeoutError ? 'silent' : 'unreachable';
      throw this.#failed(replica, fault, { sentence: `another replica is ${fault}`, cause: error });
    }
  }
}

function lengthOf(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}
