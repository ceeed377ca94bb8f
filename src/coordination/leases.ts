import { setImmediate } from 'node:timers/promises';
import type { Digest } from '../oci/digest.ts';
import type { Claim, ClaimOptions, Lease, Replica } from './coordinator.ts';
import type { Link } from './redis.ts';
import { claimScript, holdScript, releaseScript, renewScript, type Script } from './scripts.ts';

/** Lifetime of a lease without a renewal, in milliseconds: a dead holder delays all for this long. */
const leaseMs = 3_000;
/** How long an announcement of a stored blob is valid. */
const holdMs = 7 * 86_400_000;
/** How many holders of a blob are returned at first; all of them only if none of these is live. */
const someHolders = 16;
const allHolders = 100_000;
/** How many replicas read from one that fetches: enough to reach a thousand in five steps, few enough for one network card. */
const fanOut = 4;

/** Maximum digests that wait to be announced as gone; each missing announcement costs one request to a replica. */
const maxDropped = 20_000;
/** How many of them are announced at a time. */
const dropsAtOnce = 32;

/** KEYS: holders. Answers the most recent ones. */
const holdersScript: Script = { name: 'holders', lua: `return redis.call('ZREVRANGE', KEYS[1], 0, 31)` };

export interface LeasesOptions {
  readonly link: Link;
  readonly self: () => string;
  readonly replica: (id: string) => Replica | undefined;
}

/** The replicas that fetch a digest, and those that hold it. */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #held = new Map<string, Lease>();
  readonly #dropped = new Set<Digest>();
  #isTelling = false;

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  /** The leases of this replica. */
  get held(): readonly Lease[] {
    return [...this.#held.values()];
  }

  async claim(digest: Digest, { avoid = [], takeOver, lane }: ClaimOptions): Promise<Claim> {
    const { link, self } = this.#options;
    const keys = [fillKey({ digest, lane }), holdersKey(digest)];
    const values = [self(), leaseMs, takeOver === undefined ? '' : String(takeOver), fanOut, avoid.join(',')];
    let most = someHolders;
    while (true) {
      const [kind, found, third] = (await link.run(claimScript, keys, [...values, most])) as [
        string,
        string | string[],
        string | undefined,
      ];
      if (kind === 'lease') {
        const lease: Lease = { digest, fence: Number(found), ...(lane !== undefined && { lane }) };
        this.#held.set(fillKey(lease), lease);
        return { kind, lease };
      }
      const replicas = (found as string[]).map((id) => this.#options.replica(id)).filter((one) => one !== undefined);
      if (kind === 'filling') return { kind, fence: Number(third), replicas };
      if (replicas.length > 0) return { kind: 'held', replicas: fromAnywhere(replicas) };
      // Once all holders have been returned, holders that are not live count as none.
      most = found.length < most ? 0 : allHolders;
    }
  }

  async renew(lease: Lease): Promise<'held' | 'lost'> {
    const { link, self } = this.#options;
    const answer = await link.run(renewScript, [fillKey(lease)], [self(), String(lease.fence), leaseMs]);
    if (answer === 1) return 'held';
    this.#forget(lease);
    return 'lost';
  }

  async release(lease: Lease): Promise<void> {
    this.#forget(lease);
    await this.#options.link.run(releaseScript, [fillKey(lease)], [this.#options.self(), String(lease.fence)]);
  }

  async hold(digest: Digest): Promise<void> {
    // It has come back before its loss was announced.
    this.#dropped.delete(digest);
    await this.#options.link.run(holdScript, [holdersKey(digest)], [this.#options.self(), holdMs]);
  }

  /** Some of the other live replicas that have announced that they hold a blob. */
  async holders(digest: Digest): Promise<Replica[]> {
    const ids = (await this.#options.link.run(holdersScript, [holdersKey(digest)], [])) as string[];
    return ids.map((id) => this.#options.replica(id)).filter((one) => one !== undefined);
  }

  /** Announced in the background, a few at a time: an eviction never waits for Redis, nor floods it. */
  drop(digest: Digest): void {
    if (this.#dropped.size < maxDropped) this.#dropped.add(digest);
    if (!this.#isTelling) void this.#tellDropped();
  }

  /** Never rejects. */
  async #tellDropped(): Promise<void> {
    const { link, self } = this.#options;
    this.#isTelling = true;
    // A replica that drops one blob drops more.
    await setImmediate();
    while (this.#dropped.size > 0) {
      const some = [...this.#dropped.keys().take(dropsAtOnce)];
      for (const digest of some) this.#dropped.delete(digest);
      const told = await Promise.allSettled(
        some.map((digest) => link.run(holdScript, [holdersKey(digest)], [self(), 0])),
      );
      if (told.some(({ status }) => status === 'rejected')) this.#dropped.clear();
    }
    this.#isTelling = false;
  }

  #forget(lease: Lease): void {
    const key = fillKey(lease);
    if (this.#held.get(key)?.fence === lease.fence) this.#held.delete(key);
  }
}

/** The same holders rotated by a random offset: Redis returns few in a fixed order. */
function fromAnywhere(replicas: readonly Replica[]): Replica[] {
  const first = Math.floor(Math.random() * replicas.length);
  return [...replicas.slice(first), ...replicas.slice(0, first)];
}

// Braces keep what one script touches on one node of a cluster.
function fillKey({ digest, lane }: Pick<Lease, 'digest' | 'lane'>): string {
  return lane === undefined ? `fill:{${digest}}` : `fill:{${digest}}:${lane}`;
}

function holdersKey(digest: Digest): string {
  return `holders:{${digest}}`;
}
