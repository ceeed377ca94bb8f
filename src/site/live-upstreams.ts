import { randomUUID } from 'node:crypto';
import type { Config } from '../config/config.ts';
import { createUpstream, type OwnedUpstream } from '../upstream/create-upstream.ts';
import type { UpstreamOptions } from '../upstream/options.ts';
import { UpstreamTable } from '../upstream/table.ts';
import type { UpstreamObserver } from '../upstream/upstream.ts';
import { upstreamOptions } from './upstream-options.ts';

interface LiveUpstream {
  readonly upstream: OwnedUpstream;
  readonly fingerprint: string;
}

/** The upstreams in force, which a new configuration may replace while requests are under way. */
export class LiveUpstreams implements Disposable {
  readonly #extra: { readonly now: () => number; readonly observer: UpstreamObserver };
  readonly #replaced: OwnedUpstream[] = [];
  #live: readonly LiveUpstream[] = [];
  #table = new UpstreamTable([]);

  /** @throws Error where a URL or a certificate cannot be used */
  constructor(config: Config, extra: { readonly now: () => number; readonly observer: UpstreamObserver }) {
    this.#extra = extra;
    this.replace(config);
  }

  get all(): readonly OwnedUpstream[] {
    return this.#live.map(({ upstream }) => upstream);
  }

  get table(): UpstreamTable {
    return this.#table;
  }

  /**
   * Puts the upstreams of a configuration in force for requests that come from now on. One about which nothing has
   * changed stays, with its connections and tokens; one that was replaced ends what is under way at its own pace, since
   * its idle connections close by themselves.
   * @throws Error where a URL or a certificate cannot be used; nothing has changed then
   */
  replace(config: Config): void {
    using made = new DisposableStack();
    const live = config.upstreams.map((upstream): LiveUpstream => {
      const options = upstreamOptions(config, upstream);
      const fingerprint = fingerprintOf(options);
      const same = this.#live.find((candidate) => candidate.fingerprint === fingerprint);
      return same ?? { fingerprint, upstream: made.use(createUpstream({ ...options, ...this.#extra })) };
    });
    this.#table = new UpstreamTable(
      live.map(({ upstream }) => upstream),
      { defaultName: config.defaultUpstream },
    );
    this.#replaced.push(...this.#live.filter((one) => !live.includes(one)).map(({ upstream }) => upstream));
    this.#live = live;
    made.move();
  }

  /** Ends every connection, transfers under way too. */
  [Symbol.dispose](): void {
    for (const upstream of [...this.all, ...this.#replaced]) upstream[Symbol.dispose]();
  }
}

/** Everything that is configured of an upstream; kept in memory only, since a password may be in it. */
function fingerprintOf(options: UpstreamOptions): string {
  const { ca, cert, key } = options.tls ?? {};
  // The files may hold something else by now, so such an upstream is always made anew.
  return JSON.stringify(options) + (ca || cert || key ? randomUUID() : '');
}
