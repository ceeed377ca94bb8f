import { createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { AccessControl } from '../access/access-control.ts';
import type { Config } from '../config/config.ts';
import type { GuestUpstreams } from '../http/rights.ts';
import { hasReason, RegistryError } from '../oci/error.ts';
import { manifestAccept } from '../oci/media-types.ts';
import type { RegistryRequest } from '../oci/request.ts';
import type { OwnedUpstream } from '../upstream/create-upstream.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { LiveUpstreams } from './live-upstreams.ts';

/** How long an upstream's yes holds for a caller and a repository, in milliseconds. */
const rightMs = 60_000;
/** How long the connections of one caller are kept after its last request, in milliseconds. */
const idleMs = 10 * 60_000;
/** Most callers, and rights, that are remembered. */
const maxCallers = 500;
const maxRights = 20_000;

interface CallerUpstream {
  readonly upstream: OwnedUpstream;
  readonly config: Config;
}

/**
 * Upstreams as single callers are let into them: each caller has connections and tokens of its own, and nothing is served
 * to it that the upstream has not just said it may read. Neither the credentials nor the rights are written anywhere.
 */
export class CallerUpstreams implements GuestUpstreams, Disposable {
  readonly #options: {
    readonly config: () => Config;
    readonly upstreams: LiveUpstreams;
    readonly access: AccessControl;
    readonly now: () => number;
  };
  readonly #key = randomBytes(32);
  readonly #callers: LRUCache<string, CallerUpstream>;
  // Takes memory as it fills: `max` would take all of it at the start.
  readonly #rights = new LRUCache<string, number>({ maxSize: maxRights, sizeCalculation: () => 1 });
  /** Ends with the process, so that no transfer is cut because another caller came. */
  readonly #left: OwnedUpstream[] = [];

  constructor(options: {
    readonly config: () => Config;
    readonly upstreams: LiveUpstreams;
    readonly access: AccessControl;
    readonly now: () => number;
  }) {
    this.#options = options;
    this.#callers = new LRUCache({
      max: maxCallers,
      ttl: idleMs,
      updateAgeOnGet: true,
      dispose: ({ upstream }) => this.#leave(upstream),
    });
  }

  judges(upstream: string): boolean {
    return this.#options.config().upstreams.some(({ name, access }) => name === upstream && access === 'caller');
  }

  async admit(
    { signal }: { readonly signal: AbortSignal },
    { guest, selection, request }: Parameters<GuestUpstreams['admit']>[1],
  ): Promise<Upstream> {
    const { access, now } = this.#options;
    const credentials = await access.credentialsOf(guest);
    if (!credentials) throw refused(selection.upstream.name);
    const { user, password } = credentials;
    const { name } = selection.upstream;
    const id = createHmac('sha256', this.#key)
      .update(JSON.stringify([name, user, password]))
      .digest('base64');
    const upstream = this.#upstreamOf(id, name, { username: user, password });
    const right = `${id} ${selection.repository}`;
    if ((this.#rights.get(right) ?? 0) > now()) return upstream;
    try {
      await ask(upstream, { repository: selection.repository, request, signal });
    } catch (error) {
      if (hasReason(error, 'denied', 'no-credentials')) throw refused(name, error);
      throw error;
    }
    this.#rights.set(right, now() + rightMs);
    return upstream;
  }

  [Symbol.dispose](): void {
    this.#callers.clear();
    for (const upstream of this.#left) upstream[Symbol.dispose]();
  }

  #upstreamOf(id: string, name: string, credentials: { username: string; password: string }): OwnedUpstream {
    const config = this.#options.config();
    const known = this.#callers.get(id);
    if (known?.config === config) return known.upstream;
    const upstream = this.#options.upstreams.forCaller(config, name, credentials);
    if (!upstream) throw new RegistryError('unknown-upstream', `${name} is not in the table of upstreams`);
    this.#callers.set(id, { upstream, config });
    return upstream;
  }

  /** Requests under way with it go on; its idle connections close by themselves. */
  #leave(upstream: OwnedUpstream): void {
    this.#left.push(upstream);
    if (this.#left.length > maxCallers) this.#left.shift()?.[Symbol.dispose]();
  }
}

/** Asks the upstream for the thing itself, in the cheapest way. @throws RegistryError what it says */
async function ask(
  { client }: Upstream,
  asked: { repository: string; request: RegistryRequest | undefined; signal: AbortSignal },
): Promise<void> {
  const { repository, request, signal } = asked;
  switch (request?.kind) {
    case 'manifest': {
      const { reference } = request;
      const text = reference.kind === 'tag' ? reference.tag : reference.digest;
      await client.headManifest(repository, text, { accept: manifestAccept, signal });
      return;
    }
    case 'referrers':
      await client.headManifest(repository, request.digest, { accept: manifestAccept, signal });
      return;
    case 'blob':
      await client.headBlob(repository, request.digest, { signal });
      return;
    case 'tags':
      await client.listTags(repository, 'n=1', { signal });
      return;
    case 'ping':
    case undefined:
      return;
    default:
      request satisfies never;
  }
}

function refused(upstream: string, cause?: unknown): RegistryError {
  return new RegistryError('forbidden', `${upstream} does not let these credentials read this`, { cause });
}
