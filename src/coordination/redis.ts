import { createHash } from 'node:crypto';
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { Breaker, SilenceError, within } from './breaker.ts';

/** Where Redis is. */
export type RedisLocation = {
  readonly tls: boolean;
  /** PEM texts of authorities to trust beside those of the system. */
  readonly ca?: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
} & (
  | { readonly kind: 'single'; readonly host: string; readonly port: number; readonly db: number }
  | {
      readonly kind: 'sentinel';
      readonly sentinels: readonly { readonly host: string; readonly port: number }[];
      readonly name: string;
      readonly db: number;
    }
  | { readonly kind: 'cluster'; readonly nodes: readonly { readonly host: string; readonly port: number }[] }
);

/** A Lua script and what it is called in the log. */
export interface Script {
  readonly name: string;
  readonly lua: string;
}

/** Told when Redis goes and comes back, and of each call. */
export interface LinkObserver {
  lost(reason: string): void;
  found(): void;
  called(event: {
    readonly script: string;
    readonly result: 'ok' | 'failed' | 'skipped';
    readonly seconds: number;
  }): void;
}

/** What the parts of the coordination need of Redis. */
export interface Link {
  /** Why nothing is asked now; `undefined` while all is well. */
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
  readonly observer: LinkObserver;
  /** Longest wait for an answer, in milliseconds; after the first silence nobody waits any more. Default 250. */
  readonly deadlineMs?: number;
  /** How often a lost Redis is looked for, in milliseconds. Default 500. */
  readonly probeMs?: number;
  /** Called when Redis can be asked again. */
  readonly onFound: () => void;
  /** Called when another replica has something to tell. */
  readonly onWake: () => void;
}

const connectMs = 1_000;
/** After so many refusals in a row a new connection is tried. */
const refusalsOfOne = 10;

/** The connection to Redis. A lost Redis costs one deadline; from then on it is looked for behind everybody's back. */
export class RedisLink implements Link, AsyncDisposable {
  readonly #options: RedisLinkOptions;
  readonly #breaker = new Breaker();
  readonly #client: Redis | Cluster;
  readonly #subscriber: Redis | Cluster;
  readonly #digests = new Map<string, string>();
  #probing: NodeJS.Timeout | undefined;
  #isProbing = false;
  /** How often in a row Redis has been found to refuse. */
  #refusals = 0;
  #isEnding = false;

  constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.#client = connect(options.location);
    this.#subscriber = connect(options.location);
    // An error here is also the end of a connection, which is what is looked at.
    for (const client of [this.#client, this.#subscriber]) client.on('error', () => undefined);
    this.#client.on('ready', () => void this.#probe());
    this.#client.on('close', () => {
      // What was wrong before is not made good by a connection's end.
      if (this.#breaker.isClosed) this.#lose('has closed the connection');
    });
    this.#subscriber.on('ready', () => {
      this.#subscriber.subscribe(this.wakeChannel).then(options.onWake, () => undefined);
    });
    this.#subscriber.on('message', () => options.onWake());
    for (const client of [this.#client, this.#subscriber]) void client.connect().catch(() => undefined);
    this.#schedule();
  }

  get reason(): string | undefined {
    return this.#breaker.reason;
  }

  /** Where replicas tell one another that there is news. */
  get wakeChannel(): string {
    return `${this.#options.keyPrefix}wake`;
  }

  async run(script: Script, keys: readonly string[], values: readonly (string | number)[]): Promise<unknown> {
    const { deadlineMs = 250, keyPrefix, observer } = this.#options;
    const { name } = script;
    if (!this.#breaker.isClosed) {
      observer.called({ script: name, result: 'skipped', seconds: 0 });
      throw new LinkError(`Redis ${this.#breaker.reason}`);
    }
    const startedMs = performance.now();
    const seconds = (): number => (performance.now() - startedMs) / 1000;
    try {
      const prefixed = keys.map((key) => keyPrefix + key);
      const answer = await within(this.#evaluate(script, prefixed, values), deadlineMs);
      observer.called({ script: name, result: 'ok', seconds: seconds() });
      return answer;
    } catch (error) {
      observer.called({ script: name, result: 'failed', seconds: seconds() });
      this.#lose(error instanceof SilenceError ? 'does not answer' : describe(error));
      throw new LinkError(`Redis ${this.#breaker.reason ?? 'has failed'}`, { cause: error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    clearTimeout(this.#probing);
    this.#client.disconnect();
    this.#subscriber.disconnect();
    await Promise.resolve();
  }

  async #evaluate({ lua }: Script, keys: readonly string[], values: readonly (string | number)[]): Promise<unknown> {
    let digest = this.#digests.get(lua);
    if (digest === undefined) {
      digest = createHash('sha1').update(lua).digest('hex');
      this.#digests.set(lua, digest);
    }
    try {
      return await this.#client.evalsha(digest, keys.length, ...keys, ...values);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
      return await this.#client.eval(lua, keys.length, ...keys, ...values);
    }
  }

  #lose(reason: string): void {
    if (this.#isEnding) return;
    if (this.#breaker.open(reason)) this.#options.observer.lost(reason);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isEnding || this.#probing) return;
    this.#probing = setTimeout(() => {
      this.#probing = undefined;
      void this.#probe();
    }, this.#options.probeMs ?? 500);
  }

  /** Finds out whether Redis is back. Never rejects. */
  async #probe(): Promise<void> {
    if (this.#isEnding || this.#isProbing || this.#breaker.isClosed) return;
    this.#isProbing = true;
    try {
      // A write: one that only answers is of no use, such as one whose memory is full.
      await within(this.#client.set(`${this.#options.keyPrefix}probe`, '', 'PX', 1_000), connectMs);
      this.#refusals = 0;
      if (this.#breaker.close()) {
        this.#options.observer.found();
        this.#options.onFound();
      }
    } catch (error) {
      if (!this.#isEnding) this.#notFound(error);
    } finally {
      this.#isProbing = false;
      if (!this.#breaker.isClosed) this.#schedule();
    }
  }

  #notFound(error: unknown): void {
    if (!(error instanceof SilenceError)) {
      this.#breaker.open(describe(error));
      this.#refusals += 1;
      const isDemoted = codeOf(error) === 'READONLY';
      if (!isDemoted && this.#refusals % refusalsOfOne !== 0) return;
    }
    // A connection that says nothing may be dead without anybody having told, and one that refuses may lead to where Redis
    // was before it moved: a new one finds out.
    for (const client of [this.#client, this.#subscriber]) client.disconnect(true);
  }
}

function connect(location: RedisLocation): Redis | Cluster {
  const { tls, ca, username, password } = location;
  const secure = tls ? { tls: ca === undefined ? {} : { ca } } : {};
  const common = {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: connectMs,
    keepAlive: 5_000,
    disableClientInfo: true,
    retryStrategy: () => 500,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...secure,
  } satisfies RedisOptions;
  switch (location.kind) {
    case 'single': {
      const { host, port, db } = location;
      return new Redis({ ...common, host, port, db });
    }
    case 'sentinel': {
      const { sentinels, name, db } = location;
      return new Redis({
        ...common,
        db,
        name,
        sentinels: sentinels.map((sentinel) => ({ ...sentinel })),
        sentinelRetryStrategy: () => 500,
        ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: secure.tls }),
      });
    }
    case 'cluster': {
      const options: ClusterOptions = {
        lazyConnect: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: () => 500,
        redisOptions: common,
        slotsRefreshTimeout: connectMs,
      };
      return new Cluster(
        location.nodes.map((node) => ({ ...node })),
        options,
      );
    }
    default:
      return location satisfies never;
  }
}

/** A failure as a clause about Redis; what a library says may hold an address, never a password. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'has failed';
  const { code } = error as NodeJS.ErrnoException;
  if (code !== undefined) return `cannot be reached (${code})`;
  const refusal = codeOf(error);
  return refusal === undefined ? 'cannot be reached' : `refuses (${refusal})`;
}

/** The word with which Redis begins what it refuses. */
function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? /^([A-Z]+) /.exec(error.message)?.[1] : undefined;
}
