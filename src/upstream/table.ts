import type { Upstream } from './upstream.ts';

/** Docker Hub's name among the keys of a table; its repositories of one part belong to `library/`. */
export const dockerHub = 'docker.io';

/** The closed set of upstreams: a name in a request is a key into it, never a host to connect to. */
export class UpstreamTable implements Iterable<Upstream> {
  readonly #upstreams: readonly Upstream[];
  readonly #byName = new Map<string, Upstream>();
  readonly #byHost = new Map<string, Upstream>();
  /** The upstream of requests that name none; `undefined` if the operator requires a name. */
  readonly default: Upstream | undefined;

  /** @throws Error if two upstreams share a name, alias or host, or the default is not among them */
  constructor(upstreams: readonly Upstream[], options: { readonly defaultName?: string } = {}) {
    this.#upstreams = [...upstreams];
    for (const upstream of upstreams) {
      for (const name of [upstream.name, ...upstream.aliases]) add(this.#byName, { key: name, upstream, what: 'name' });
      for (const host of upstream.hosts) add(this.#byHost, { key: host, upstream, what: 'host' });
    }
    const { defaultName } = options;
    this.default = defaultName === undefined ? undefined : this.find(defaultName);
    if (defaultName !== undefined && this.default === undefined) {
      throw new Error(`the default upstream ${defaultName} is not among the upstreams`);
    }
  }

  /** The upstream with a name or alias, in any case and with a percent-encoded port or brackets. */
  find(name: string): Upstream | undefined {
    return this.#byName.get(canonicalName(name));
  }

  /** The upstream that lists a request's `Host`, with or without its port. */
  findByHost(host: string): Upstream | undefined {
    const key = canonicalName(host);
    return this.#byHost.get(key) ?? this.#byHost.get(key.replace(/:\d+$/, ''));
  }

  [Symbol.iterator](): Iterator<Upstream> {
    return this.#upstreams[Symbol.iterator]();
  }
}

/** The canonical spelling of a registry's name: lower case, nothing percent-encoded. */
export function canonicalName(name: string): string {
  try {
    return decodeURIComponent(name).toLowerCase();
  } catch {
    return name.toLowerCase();
  }
}

function add(
  map: Map<string, Upstream>,
  { key, upstream, what }: { key: string; upstream: Upstream; what: string },
): void {
  const canonical = canonicalName(key);
  const other = map.get(canonical);
  if (other !== undefined && other !== upstream) {
    throw new Error(`the upstreams ${other.name} and ${upstream.name} share the ${what} ${key}`);
  }
  map.set(canonical, upstream);
}
