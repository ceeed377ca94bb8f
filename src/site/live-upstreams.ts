import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Config, UpstreamConfig } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
import { type Changes, upstreamFact } from '../oci/facts.ts';
import { Authorities } from '../transport/authorities.ts';
import { Chain } from '../transport/chain.ts';
import { Proxies } from '../transport/proxies.ts';
import { createUpstream, type OwnedUpstream } from '../upstream/create-upstream.ts';
import { lazyUpstream } from '../upstream/lazy-upstream.ts';
import type { TlsOptions, UpstreamOptions } from '../upstream/options.ts';
import { UpstreamTable } from '../upstream/table.ts';
import type { UpstreamEvent } from '../upstream/upstream.ts';
import { Turns } from '../waiting/turns.ts';
import type { UpstreamMemory } from './upstream-memory.ts';
import { upstreamOptions } from './upstream-options.ts';

interface LiveUpstream {
  readonly upstream: OwnedUpstream;
  /** Of everything that it was made of, the text of its certificates too. */
  readonly fingerprint: string;
}

export interface LiveUpstreamsOptions {
  readonly now: () => number;
  readonly report: (event: UpstreamEvent) => void;
  readonly changes: Changes;
  /** What manifests and lists take while they arrive, each upstream a part of it; absent: nothing counts them. */
  readonly memory: UpstreamMemory | undefined;
}

/** Upstreams that are ready to be put in force. */
export interface PreparedUpstreams {
  readonly table: UpstreamTable;
  /** Puts them in force for requests that come from now on. */
  use(): void;
}

/** The upstreams in force, which a new configuration may replace while requests are under way. */
export class LiveUpstreams implements Disposable {
  readonly #extra: LiveUpstreamsOptions;
  /** The mirror's place among others that ask one another. */
  readonly chain = new Chain();
  /** Read once for all of them. */
  readonly #networks = { authorities: new Authorities(process.env), proxies: new Proxies(process.env) };
  readonly #replaced: OwnedUpstream[] = [];
  #live: readonly LiveUpstream[] = [];
  #table = new UpstreamTable([]);
  /** One change after another. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(extra: LiveUpstreamsOptions) {
    this.#extra = extra;
  }

  get all(): readonly OwnedUpstream[] {
    return this.#live.map(({ upstream }) => upstream);
  }

  get table(): UpstreamTable {
    return this.#table;
  }

  /**
   * Replaces the upstreams by those of a configuration, slice by slice where they are many. One about which nothing has
   * changed, its certificates included, stays, with its connections and tokens; one that was replaced ends what is under
   * way at its own pace, since its idle connections close by themselves.
   * @param use puts what is ready in force, or throws: then nothing has changed
   * @throws Error in one sentence where a URL or a certificate cannot be used; nothing has changed then
   */
  async replace(config: Config, use: (prepared: PreparedUpstreams) => void): Promise<void> {
    await this.#inTurn(async () => {
      using made = new DisposableStack();
      const turns = new Turns();
      const known = new Map(this.#live.map((one) => [one.fingerprint, one]));
      const live: LiveUpstream[] = [];
      for (const upstream of config.upstreams) {
        live.push(this.#make(upstream, { config, known, made }));
        await turns.next();
      }
      const table = tableOf(live, config);
      use({
        table,
        use: () => {
          this.#use(live, table);
          made.move();
        },
      });
    });
  }

  /**
   * Puts in force what the certificates of one upstream hold now.
   * @throws Error in one sentence where they cannot be used; nothing has changed then
   */
  async renew(config: Config, name: string): Promise<void> {
    await this.#inTurn(() => {
      using made = new DisposableStack();
      const upstream = config.upstreams.find((one) => one.name === name);
      const index = this.#live.findIndex((one) => one.upstream.name === name);
      const before = this.#live[index];
      if (!upstream || !before) return;
      const renewed = this.#make(upstream, { config, known: new Map([[before.fingerprint, before]]), made });
      if (renewed === before) return;
      const live = this.#live.with(index, renewed);
      this.#use(live, tableOf(live, config));
      made.move();
    });
  }

  /**
   * One upstream of a configuration, asked with the credentials of one caller; the holder disposes it.
   * @throws Error in one sentence where a certificate cannot be used
   */
  forCaller(
    config: Config,
    name: string,
    credentials: { readonly username: string; readonly password: string },
  ): OwnedUpstream | undefined {
    const upstream = config.upstreams.find((one) => one.name === name);
    if (!upstream) return undefined;
    const options = withCertificates(upstream, upstreamOptions(config, upstream));
    const { changes: _changes, ...extra } = this.#extra;
    const own = { credentials: { kind: 'inline', ...credentials } as const, moreCredentials: [] };
    const memory = extra.memory?.ofUpstream();
    return createUpstream({ ...options, ...extra, ...this.#networks, memory, chain: this.chain, ...own });
  }

  #make(
    upstream: UpstreamConfig,
    context: { config: Config; known: ReadonlyMap<string, LiveUpstream>; made: DisposableStack },
  ): LiveUpstream {
    const options = withCertificates(upstream, upstreamOptions(context.config, upstream));
    const { changes, ...extra } = this.#extra;
    const fingerprint = createHash('sha256').update(JSON.stringify(options)).digest('base64');
    const same = context.known.get(fingerprint);
    return (
      same ?? {
        fingerprint,
        upstream: context.made.use(
          lazyUpstream({
            ...options,
            ...extra,
            ...this.#networks,
            memory: extra.memory?.ofUpstream(),
            chain: this.chain,
            onChange: () => changes.changed(upstreamFact(upstream.name)),
          }),
        ),
      }
    );
  }

  #use(live: readonly LiveUpstream[], table: UpstreamTable): void {
    const kept = new Set(live);
    this.#replaced.push(...this.#live.filter((one) => !kept.has(one)).map(({ upstream }) => upstream));
    this.#table = table;
    this.#live = live;
    this.#extra.changes.changedAll();
  }

  async #inTurn(change: () => void | Promise<void>): Promise<void> {
    const before = this.#last;
    const mine = Promise.withResolvers<void>();
    this.#last = mine.promise;
    try {
      await before;
      await change();
    } finally {
      mine.resolve();
    }
  }

  /** Ends every connection, transfers under way too. */
  [Symbol.dispose](): void {
    for (const upstream of [...this.all, ...this.#replaced]) upstream[Symbol.dispose]();
  }
}

function tableOf(live: readonly LiveUpstream[], { defaultUpstream }: Config): UpstreamTable {
  return new UpstreamTable(
    live.map(({ upstream }) => upstream),
    { defaultName: defaultUpstream },
  );
}

/** The contents of an upstream's TLS files, in place of their paths. */
function withCertificates({ name }: UpstreamConfig, options: UpstreamOptions): UpstreamOptions {
  const { ca, cert, key, ...rest } = options.tls ?? {};
  if (ca === undefined && cert === undefined && key === undefined) return options;
  const read = (file: string | undefined, at: string): Partial<TlsOptions> => {
    if (file === undefined) return {};
    const place = formatPath(['upstreams', name, 'tls', `${at}File`]);
    try {
      return { [at]: readFileSync(file, 'utf8') };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Error(`${place}: ${file} cannot be read: ${code}`, { cause: error });
    }
  };
  return { ...options, tls: { ...rest, ...read(ca, 'ca'), ...read(cert, 'cert'), ...read(key, 'key') } };
}
