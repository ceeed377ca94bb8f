import { randomBytes } from 'node:crypto';
import { RegistryError } from '../oci/error.ts';
import { readBounded, transferBody } from '../transport/body.ts';
import type { WireAnswer } from '../transport/exchange.ts';
import { forward } from '../transport/forward.ts';
import { ExchangeTimeoutError } from '../transport/headers-deadline.ts';
import { type PeerPass, passHeader } from './peer-pass.ts';
import { type PeerTls, ReplicaAgents } from './replica-agents.ts';
import type { Seal } from './seal.ts';

/** Where a replica says which one it is. */
const identityPath = '/v2/_millpond/replica';
/** The header that carries on whose behalf a request is passed on. */
const callerHeader = 'millpond-caller';
/** The header of an answer to a pass that was made for an earlier run. */
const refusedPassHeader = 'millpond-refused';

/** The context in which the identity of a replica is sealed. */
export const identityContext = 'identity of a replica';

/** The identity of a replica, which it seals. */
export interface Identity {
  readonly id: string;
  readonly boot: string;
  /** Of the one who asks: an earlier answer is no answer. */
  readonly nonce: string;
}

export interface OwnerLinkOptions {
  /** Origin of the owner. */
  readonly address: string;
  readonly pass: PeerPass;
  readonly seal: Seal;
  /** This replica's id. */
  readonly self: () => string;
  readonly tls?: PeerTls | undefined;
  readonly times?: OwnerTimes;
  /** Called once when the owner is not reached any more, and once when it is again. */
  readonly onChange?: (away: string | undefined) => void;
}

/** In milliseconds. */
export interface OwnerTimes {
  readonly connectMs: number;
  /** For an answer to a question; {@link pushMs} for one to a push, which may have to be hashed and synced first. */
  readonly answerMs: number;
  readonly pushMs: number;
  /** For the next bytes of a body. */
  readonly idleMs: number;
  /** How long the owner is not asked again after it has not answered in time. */
  readonly restMs: number;
}

const defaultTimes: OwnerTimes = { connectMs: 1_000, answerMs: 3_000, pushMs: 120_000, idleMs: 30_000, restMs: 2_000 };
/** The identity of the owner is confirmed before a body is sent, if that was not done within this; in milliseconds. */
const freshMs = 1_000;
const maxIdentityBytes = 4_096;

/** A request for the owner. */
export interface OwnerRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: AsyncIterable<Buffer> | undefined;
  /** The caller that it is for, in words that the owner believes. */
  readonly caller?: string | undefined;
  /** Whether the answer may take as long as a push. */
  readonly isPush?: boolean;
  readonly signal: AbortSignal;
}

/** The replica that has the disk of the hosted repositories, as the others reach it. It does not need Redis. */
export class OwnerLink implements Disposable {
  readonly address: string;
  readonly #options: OwnerLinkOptions;
  readonly #times: OwnerTimes;
  readonly #agents: ReplicaAgents;
  #known: { readonly to: string; readonly atMs: number } | undefined;
  #restUntilMs = 0;
  #away: string | undefined;

  constructor(options: OwnerLinkOptions) {
    this.address = options.address;
    this.#options = options;
    this.#times = options.times ?? defaultTimes;
    this.#agents = new ReplicaAgents({ tls: options.tls, maxFreeSockets: 16 });
  }

  /** Why the owner could not be reached the last time; `undefined` if it could. */
  get away(): string | undefined {
    return this.#away;
  }

  /** Uses other certificates for new connections. */
  renewTls(tls: PeerTls): void {
    this.#agents.renew(tls);
  }

  /**
   * Sends a request. A question without a body is asked again once where the connection was a former run's.
   * @throws RegistryError UNAVAILABLE (503) where the owner cannot be reached; what reading the body throws; the
   *   signal's reason
   */
  async send(request: OwnerRequest): Promise<WireAnswer> {
    const { method, body, signal } = request;
    const isQuestion = method === 'GET' || method === 'HEAD';
    for (let attempt = 0; ; attempt += 1) {
      const to = await this.#identity(signal, body === undefined ? Number.POSITIVE_INFINITY : freshMs);
      let answer: WireAnswer;
      try {
        answer = await this.#forward(request, to);
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof BodyError) throw error.cause;
        this.#known = undefined;
        if (isQuestion && attempt === 0) continue;
        throw this.#failed(error);
      }
      if (answer.headers[refusedPassHeader] === undefined) {
        this.#reached(to);
        return answer;
      }
      const reason = String(answer.headers[refusedPassHeader]).slice(0, 100);
      answer.stream.destroy();
      this.#known = undefined;
      if (body === undefined && attempt === 0) continue;
      throw this.#failed(new Error(`it refuses this replica (${reason})`));
    }
  }

  [Symbol.dispose](): void {
    this.#agents[Symbol.dispose]();
  }

  async #forward(
    { method, path, headers, body, caller, isPush, signal }: OwnerRequest,
    to: string,
  ): Promise<WireAnswer> {
    const { pass, self } = this.#options;
    const { connectMs, answerMs, pushMs, idleMs } = this.#times;
    const range = headers?.['range'];
    const url = new URL(path, this.address);
    // Signed as it is sent: without the question mark of an empty query, for example.
    const signed = pass.sign({ method, path: `${url.pathname}${url.search}`, range, to, caller }, self());
    return await forward({
      method,
      url,
      headers: { ...headers, ...(caller !== undefined && { [callerHeader]: caller }), [passHeader]: signed },
      body: body && ofClient(body),
      agent: this.#agents.for(url),
      connectMs,
      answerMs: isPush === true ? pushMs : answerMs,
      idleMs,
      signal,
    });
  }

  /** The owner for whom a pass is made, `id:boot`. @throws RegistryError */
  async #identity(signal: AbortSignal, maxAgeMs: number): Promise<string> {
    if (this.#known !== undefined && performance.now() - this.#known.atMs <= maxAgeMs) return this.#known.to;
    if (performance.now() < this.#restUntilMs) throw this.#error();
    const { seal } = this.#options;
    const { connectMs, answerMs, idleMs } = this.#times;
    const nonce = randomBytes(16).toString('base64url');
    const url = new URL(`${identityPath}?nonce=${nonce}`, this.address);
    try {
      const asked = {
        method: 'GET',
        url,
        headers: {},
        agent: this.#agents.for(url),
        connectMs,
        answerMs,
        idleMs,
        signal,
      };
      const answer = await forward(asked);
      const body = transferBody(answer, { idleMs: answerMs, expectedBytes: undefined, translate: (error) => error });
      const text = (await readBounded(body, maxIdentityBytes))?.toString() ?? '';
      if (answer.status !== 200) throw new Error(`it answered ${answer.status}: it is no replica of this mirror`);
      const identity = seal.open(identityContext, text) as Identity | undefined;
      if (identity?.nonce !== nonce) throw new Error('it has another cluster.secretFile');
      const to = `${identity.id}:${identity.boot}`;
      this.#reached(to);
      return to;
    } catch (error) {
      signal.throwIfAborted();
      throw this.#failed(error);
    }
  }

  #reached(to: string): void {
    this.#known = { to, atMs: performance.now() };
    if (this.#away === undefined) return;
    this.#away = undefined;
    this.#options.onChange?.(undefined);
  }

  #failed(error: unknown): RegistryError {
    const [words = ''] = error instanceof Error ? error.message.split(';', 1) : [];
    // A refused connection costs nothing: only one that keeps its clients waiting is left alone for a while.
    if (error instanceof ExchangeTimeoutError) this.#restUntilMs = performance.now() + this.#times.restMs;
    const isNew = this.#away === undefined;
    this.#away = words === '' ? 'it cannot be reached' : words;
    if (isNew) this.#options.onChange?.(this.#away);
    return this.#error(error);
  }

  #error(cause?: unknown): RegistryError {
    const sentence = `the replica that keeps the hosted repositories (hosted.owner) cannot be reached; try again later`;
    return new RegistryError('owner-away', sentence, { headers: { 'Retry-After': '5' }, cause });
  }
}

/** Reading the client's body has failed: that says nothing about the owner. */
class BodyError extends Error {}

async function* ofClient(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* body;
  } catch (cause) {
    throw new BodyError('the body cannot be read', { cause });
  }
}
