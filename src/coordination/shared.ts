import type { Digest } from '../oci/digest.ts';
import { Answers } from './answers.ts';
import { Budget } from './budget.ts';
import { RedisClock } from './clock.ts';
import type { RedisLocation } from './connection.ts';
import type {
  Claim,
  ClaimOptions,
  Coordinator,
  CoordinatorStatus,
  Lease,
  Message,
  MessageListener,
  MissingAnswer,
  Replica,
  SharedTag,
  SharedTagKey,
  TagClaim,
} from './coordinator.ts';
import { Fleet, type Membership } from './fleet.ts';
import { Leases } from './leases.ts';
import { LinkError, type LinkEvent, RedisLink } from './redis.ts';
import type { Seal } from './seal.ts';

export interface SharedCoordinatorOptions {
  readonly location: RedisLocation;
  readonly keyPrefix: string;
  readonly seal: Seal;
  readonly report: (event: LinkEvent) => void;
  /** Whether this replica contacts no upstream; default: it does. */
  readonly isOffline?: boolean | undefined;
  /** Maximum wait for an answer of Redis, in milliseconds; default: that of {@link RedisLink}. */
  readonly deadlineMs?: number | undefined;
  /** How long after the start a Redis that has not answered yet is reported, in milliseconds; default: that of {@link RedisLink}. */
  readonly firstLookMs?: number | undefined;
  /** Heartbeat interval, in milliseconds; default: that of {@link Fleet}. */
  readonly beatMs?: number | undefined;
  /** Called when other replicas have come or gone. */
  readonly onChange?: ((replicas: readonly Replica[]) => void) | undefined;
  /** Called when there are more changes that another secret has signed: they are not done here. */
  readonly onUnread?: ((count: number) => void) | undefined;
}

/** 132 bits. */
const markCharacters = 22;

const noPlace: AsyncDisposable = { [Symbol.asyncDispose]: () => Promise.resolve() };

/** Replicas that coordinate through Redis. Before joining, this replica works alone. */
export class SharedCoordinator implements Coordinator {
  readonly #seal: Seal;
  readonly #link: RedisLink;
  readonly #fleet: Fleet;
  readonly #leases: Leases;
  readonly #answers: Answers;
  readonly #budget: Budget;
  #isEnding = false;

  constructor(options: SharedCoordinatorOptions) {
    const { location, keyPrefix, seal, report, isOffline = false, beatMs, onChange, onUnread } = options;
    const { deadlineMs, firstLookMs } = options;
    this.#seal = seal;
    this.#link = new RedisLink({
      location,
      keyPrefix,
      report,
      ...(deadlineMs !== undefined && { deadlineMs }),
      ...(firstLookMs !== undefined && { firstLookMs }),
      onFound: () => void this.#fleet.beat(),
      onWake: () => void this.#fleet.beat(),
    });
    const link = this.#link;
    const clock = new RedisClock();
    const { wakeChannel } = link;
    this.#fleet = new Fleet({ link, seal, clock, wakeChannel, isOffline, beatMs, onChange, onUnread });
    const self = (): string => this.#fleet.self;
    this.#leases = new Leases({ link, self, replica: (id) => this.#fleet.replica(id) });
    this.#answers = new Answers({ link, seal, clock, self });
    this.#budget = new Budget(link);
  }

  get isAlone(): boolean {
    return this.#isEnding || this.#fleet.self === '';
  }

  /** Joins the replicas. @param address base URL at which others reach this one */
  join(address: string, membership: Membership): void {
    this.#fleet.join(address, membership);
  }

  get position(): string | undefined {
    return this.#fleet.position;
  }

  get self(): string {
    return this.#fleet.self;
  }

  get boot(): string {
    return this.#fleet.boot;
  }

  get epoch(): string {
    return this.#fleet.epoch;
  }

  get replicas(): readonly Replica[] {
    return this.#fleet.replicas;
  }

  claim(digest: Digest, options: ClaimOptions = {}): Promise<Claim> {
    return orElse(this.#leases.claim(digest, options), { kind: 'alone' });
  }

  renew(lease: Lease): Promise<'held' | 'lost' | 'unknown'> {
    return orElse<'held' | 'lost' | 'unknown'>(this.#leases.renew(lease), 'unknown');
  }

  release(lease: Lease): Promise<void> {
    return orElse(this.#leases.release(lease), undefined);
  }

  hold(digest: Digest): Promise<void> {
    return orElse(this.#leases.hold(digest), undefined);
  }

  holders(digest: Digest): Promise<readonly Replica[]> {
    return orElse(this.#leases.holders(digest), []);
  }

  drop(digest: Digest): void {
    this.#leases.drop(digest);
  }

  mark(text: string): string {
    return this.#seal.mac('mark', text).slice(0, markCharacters);
  }

  claimTag(key: SharedTagKey, options: { maxAgeMs: number; signal: AbortSignal }): Promise<TagClaim> {
    return orElse<TagClaim>(this.#answers.claimTag(key, options), { kind: 'alone' });
  }

  recordTag(key: SharedTagKey, tag: SharedTag, options: { forMs: number }): Promise<void> {
    return orElse(this.#answers.recordTag(key, tag, options), undefined);
  }

  leaveTag(key: SharedTagKey): Promise<void> {
    return orElse(this.#answers.leaveTag(key), undefined);
  }

  missing(what: string): Promise<MissingAnswer | undefined> {
    return orElse(this.#answers.missing(what), undefined);
  }

  recordMissing(what: string, answer: MissingAnswer, options: { forMs: number }): Promise<void> {
    return orElse(this.#answers.recordMissing(what, answer, options), undefined);
  }

  enter(upstream: string, options: { max: number; signal: AbortSignal }): Promise<AsyncDisposable> {
    return orElse(this.#budget.enter(upstream, options), noPlace);
  }

  announce(message: Message): Promise<void> {
    return orElse(this.#fleet.announce(message), undefined);
  }

  subscribe(listener: MessageListener): Disposable {
    return this.#fleet.subscribe(listener);
  }

  /** Uses another login to Redis, or other authorities for it. */
  renewLogin(location: RedisLocation): void {
    this.#link.renew(location);
  }

  /** Uses another secret; the former one is accepted for a while. @throws Error if it is too short */
  renewSecret(secret: Buffer): void {
    this.#seal.renew(secret);
    this.#fleet.reseal();
  }

  status(): CoordinatorStatus {
    const { reason = this.#link.refusal } = this.#link;
    return {
      state: reason === undefined ? 'connected' : 'lost',
      reason,
      self: this.self,
      replicas: this.replicas,
      leases: this.#leases.held,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isEnding) return;
    this.#isEnding = true;
    for (const lease of this.#leases.held) await this.release(lease);
    await this.#fleet.leave();
    await this.#link[Symbol.asyncDispose]();
  }
}

/** Falls back to working alone while Redis is lost; a caller that leaves while waiting gets its signal's reason. */
async function orElse<Value>(work: Promise<Value>, fallback: Value): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof LinkError) return fallback;
    throw error;
  }
}
