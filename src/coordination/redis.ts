import { createHash } from 'node:crypto';
import { Breaker, Pace, SilenceError, within } from './breaker.ts';
import { type ConnectionPair, connectMs, connectPair, endPair, type RedisLocation } from './connection.ts';
import { codeOf, describe, describeLogin, isForbidden } from './refusals.ts';
import { probeKey, probeScript, type Script } from './scripts.ts';

/** The events of the link to Redis, for the log and the metrics. */
export type LinkEvent =
  | { readonly kind: 'redis-lost'; readonly reason: string }
  | { readonly kind: 'redis-found' }
  /** It answers, but does not permit this to its user; reported once. `what`: a command, or a script's name. */
  | { readonly kind: 'redis-refused'; readonly what: string; readonly reason: string }
  | {
      readonly kind: 'redis-called';
      readonly script: string;
      readonly result: 'ok' | 'failed' | 'skipped';
      readonly seconds: number;
    };

/** The commands of Redis that the coordination uses. */
export interface Link {
  /** Why nothing is asked now; `undefined`: it is. */
  readonly reason: string | undefined;
  /** Runs a script. @param keys without the prefix. @throws LinkError at once while Redis is lost, else within the deadline */
  run(script: Script, keys: readonly string[], values: readonly (string | number)[]): Promise<unknown>;
}

/** Redis could not be asked. */
export class LinkError extends Error {
  override readonly name = 'LinkError';
}

export interface RedisLinkOptions {
  readonly location: RedisLocation;
  readonly keyPrefix: string;
  readonly report: (event: LinkEvent) => void;
  /** Maximum wait for an answer, in milliseconds; after the first timeout, calls no longer wait. Default 250. */
  readonly deadlineMs?: number;
  /** How often a lost Redis is looked for, in milliseconds. Default 500. */
  readonly probeMs?: number;
  /** How long after the start a Redis that has not answered yet counts as lost, in milliseconds. Default 3,000. */
  readonly firstLookMs?: number;
  /** Called when Redis can be asked again. */
  readonly onFound: () => void;
  /** Called when another replica has something to tell. */
  readonly onWake: () => void;
}

const defaultDeadlineMs = 250;
const defaultFirstLookMs = 3_000;
/** An answer that takes more than this share of the longest wait is slow. */
const slowShare = 1 / 5;
/** So often in a row one script has to be refused for replicas to be on their own. */
const refusalsOfScript = 3;
/** After this many refusals in a row, a new connection is tried. */
const refusalsOfOne = 10;
/** How many probes in a row have to be answered soon. */
const probesInARow = 3;

/**
 * The connection to Redis. A lost Redis costs one deadline, a slow one a few slow answers; from then on, probes look for
 * it in the background.
 */
export class RedisLink implements Link, AsyncDisposable {
  readonly #options: RedisLinkOptions;
  readonly #breaker = new Breaker();
  readonly #pace = new Pace();
  #pair: ConnectionPair;
  /** With another login, until it is let in. */
  #next: ConnectionPair | undefined;
  /** Why the last connection was not made or not let in; `undefined`: it was, or that is not known. */
  #away: string | undefined;
  readonly #digests = new Map<string, string>();
  #probing: NodeJS.Timeout | undefined;
  #isProbing = false;
  /** How often in a row Redis has been found to refuse. */
  #refusals = 0;
  /** The reported refusals. */
  readonly #refused = new Map<string, string>();
  /** How often in a row a script that is needed was refused. */
  readonly #failures = new Map<Script, number>();
  /** Until what was asked over it is answered. */
  #former: ConnectionPair | undefined;
  #ending: NodeJS.Timeout | undefined;
  readonly #firstLook: NodeJS.Timeout;
  #isEnding = false;

  constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.#pair = this.#open(options.location);
    // A Redis that was never reached is reported like one that was lost.
    this.#firstLook = setTimeout(() => {
      const { reason } = this.#breaker;
      if (reason !== undefined) options.report({ kind: 'redis-lost', reason: this.#away ?? reason });
    }, options.firstLookMs ?? defaultFirstLookMs);
    this.#schedule();
  }

  get reason(): string | undefined {
    return this.#breaker.reason;
  }

  /** Why Redis, although it answers, refuses a command, and which; `undefined`: it refuses none that is needed. */
  get refusal(): string | undefined {
    const [script] = [...this.#failures].find(([, times]) => times >= refusalsOfScript) ?? [];
    return script && `${this.#refused.get(script.name) ?? 'fails'} in ${script.name}`;
  }

  /**
   * Takes another login or other authorities: connections are made with them, and those that there are go on until these
   * are let in. So it does not matter whether a password changes first here or in Redis.
   */
  renew(location: RedisLocation): void {
    if (this.#next) endPair(this.#next, { isForGood: true });
    this.#next = this.#open(location);
  }

  /** The channel on which replicas announce news. */
  get wakeChannel(): string {
    return `${this.#options.keyPrefix}wake`;
  }

  async run(script: Script, keys: readonly string[], values: readonly (string | number)[]): Promise<unknown> {
    const { keyPrefix, report } = this.#options;
    const { name } = script;
    if (!this.#breaker.isClosed) {
      report({ kind: 'redis-called', script: name, result: 'skipped', seconds: 0 });
      throw new LinkError(`Redis ${this.#breaker.reason}`);
    }
    const question = this.#pace.ask();
    const startedMs = performance.now();
    const seconds = (): number => (performance.now() - startedMs) / 1000;
    try {
      const prefixed = keys.map((key) => keyPrefix + key);
      const answer = await within(this.#evaluate(script, prefixed, values), {
        deadlineMs: this.#deadlineMs,
        slowMs: this.#deadlineMs * slowShare,
        isTooSlow: () => question.late(),
      });
      report({ kind: 'redis-called', script: name, result: 'ok', seconds: seconds() });
      if (this.#failures.delete(script)) this.#refused.delete(name);
      return answer;
    } catch (error) {
      report({ kind: 'redis-called', script: name, result: 'failed', seconds: seconds() });
      if (error instanceof SilenceError) this.#lose(error.message);
      else if (this.#pair.client.status !== 'ready') this.#lose(this.#away ?? describe(error));
      // It may be this question alone that is refused: one that asks for nothing of its own finds out.
      else {
        this.#count(script, error);
        void this.#probe();
      }
      throw new LinkError(`Redis ${this.#breaker.reason ?? describe(error)}`, { cause: error });
    } finally {
      question.ended();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    clearTimeout(this.#probing);
    clearTimeout(this.#ending);
    clearTimeout(this.#firstLook);
    for (const pair of [this.#pair, this.#next, this.#former]) if (pair) endPair(pair, { isForGood: true });
    await Promise.resolve();
  }

  #open(location: RedisLocation): ConnectionPair {
    const pair = connectPair(location);
    const { client, subscriber } = pair;
    // An error here is also the end of a connection: what is kept of it is the reason.
    for (const one of [client, subscriber])
      one.on('error', (error) => (this.#away = describeLogin(error) ?? this.#away));
    client.on('ready', () => {
      this.#away = undefined;
      if (pair === this.#next) this.#takeNext(pair);
      if (!this.#breaker.isClosed) void this.#probe();
    });
    client.on('close', () => {
      // The end of a connection mends no earlier fault.
      if (pair === this.#pair && this.#breaker.isClosed) this.#lose('has closed the connection');
    });
    subscriber.on('ready', () => {
      // Without it news is heard at the next beat.
      subscriber.subscribe(this.wakeChannel).then(this.#options.onWake, (error) => this.#refuse('SUBSCRIBE', error));
    });
    subscriber.on('message', () => this.#options.onWake());
    for (const one of [client, subscriber]) void one.connect().catch(() => undefined);
    return pair;
  }

  #takeNext(pair: ConnectionPair): void {
    this.#endFormer();
    this.#former = this.#pair;
    this.#pair = pair;
    this.#next = undefined;
    // Questions over the former connection are answered first.
    clearTimeout(this.#ending);
    this.#ending = setTimeout(() => this.#endFormer(), connectMs);
  }

  #endFormer(): void {
    if (this.#former) endPair(this.#former, { isForGood: true });
    this.#former = undefined;
  }

  get #deadlineMs(): number {
    return this.#options.deadlineMs ?? defaultDeadlineMs;
  }

  async #evaluate({ lua }: Script, keys: readonly string[], values: readonly (string | number)[]): Promise<unknown> {
    let digest = this.#digests.get(lua);
    if (digest === undefined) {
      digest = createHash('sha1').update(lua).digest('hex');
      this.#digests.set(lua, digest);
    }
    try {
      return await this.#pair.client.evalsha(digest, keys.length, ...keys, ...values);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
      return await this.#pair.client.eval(lua, keys.length, ...keys, ...values);
    }
  }

  #lose(reason: string): void {
    if (this.#isEnding) return;
    if (this.#breaker.open(reason)) this.#options.report({ kind: 'redis-lost', reason });
    this.#schedule();
  }

  #count(script: Script, error: unknown): void {
    if (!script.isVital && !isForbidden(error)) return;
    const times = (this.#failures.get(script) ?? 0) + 1;
    this.#failures.set(script, times);
    if (times === refusalsOfScript) this.#refuse(script.name, error);
  }

  #refuse(what: string, error: unknown): void {
    if (codeOf(error) === undefined || this.#refused.has(what)) return;
    this.#refused.set(what, describe(error));
    this.#options.report({ kind: 'redis-refused', what, reason: describe(error) });
  }

  #schedule(): void {
    if (this.#isEnding || this.#probing) return;
    this.#probing = setTimeout(() => {
      this.#probing = undefined;
      if (!this.#breaker.isClosed) void this.#probe();
    }, this.#options.probeMs ?? 500);
  }

  /** Finds out whether Redis can be asked. Never rejects. */
  async #probe(): Promise<void> {
    if (this.#isEnding || this.#isProbing) return;
    this.#isProbing = true;
    try {
      let soon = 0;
      while (soon < probesInARow && (await this.#answersSoon())) soon += 1;
      this.#refusals = 0;
      if (soon < probesInARow) {
        if (!this.#breaker.isClosed) this.#breaker.open('answers too slowly');
      } else if (this.#breaker.close()) {
        // From now on each loss is reported when it happens.
        clearTimeout(this.#firstLook);
        this.#options.report({ kind: 'redis-found' });
        this.#options.onFound();
      }
    } catch (error) {
      if (!this.#isEnding) this.#notFound(error);
    } finally {
      this.#isProbing = false;
      if (!this.#breaker.isClosed) this.#schedule();
    }
  }

  /** @throws SilenceError; what Redis refuses it with */
  async #answersSoon(): Promise<boolean> {
    let isSoon = true;
    const answer = this.#evaluate(probeScript, [`${this.#options.keyPrefix}${probeKey}`], []);
    const isTooSlow = (): boolean => {
      isSoon = false;
      return false;
    };
    await within(answer, { deadlineMs: connectMs, slowMs: this.#deadlineMs * slowShare, isTooSlow });
    return isSoon;
  }

  #notFound(error: unknown): void {
    if (!(error instanceof SilenceError)) {
      this.#lose(this.#away ?? describe(error));
      const refusal = codeOf(error);
      if (refusal === undefined) return;
      this.#refusals += 1;
      if (refusal !== 'READONLY' && this.#refusals % refusalsOfOne !== 0) return;
    }
    // A silent connection may be dead without notice, and one that refuses may lead to where
    // Redis was before it moved: a new one finds out.
    endPair(this.#pair, { isForGood: false });
  }
}
