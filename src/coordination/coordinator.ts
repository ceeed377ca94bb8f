import type { Digest } from '../oci/digest.ts';

/** Another replica. */
export interface Replica {
  /** Identifies its disk: others remember by it what it holds. */
  readonly id: string;
  /** Base URL at which other replicas reach it, without a slash at the end. */
  readonly address: string;
  /** Identifies its current run: signatures for an earlier run are invalid. */
  readonly boot: string;
  /** It contacts no upstream: it serves what it has and is not asked to keep anything. */
  readonly isOffline: boolean;
}

/** The right to fetch one digest from the upstream for all replicas. A hint: it may be lost at any moment. */
export interface Lease {
  readonly digest: Digest;
  /** As of {@link ClaimOptions}. */
  readonly lane?: string | undefined;
  /** Fencing number: grows from one lease of the digest to the next, and so identifies a lease. */
  readonly fence: number;
}

/** The answer to a claim to fetch a digest. */
export type Claim =
  /** This replica fetches it. */
  | { readonly kind: 'lease'; readonly lease: Lease }
  /** These replicas say that they hold it. */
  | { readonly kind: 'held'; readonly replicas: readonly Replica[] }
  /** Another one is fetching it: read it from the first of these that answers; the last is the one with the lease. */
  | { readonly kind: 'filling'; readonly fence: number; readonly replicas: readonly Replica[] }
  /** Coordination is not available: each replica works alone. */
  | { readonly kind: 'alone' };

/** Why a claim is repeated. */
export interface ClaimOptions {
  /** Replicas that could not deliver this digest. */
  readonly avoid?: readonly string[] | undefined;
  /** Claims in different lanes are independent: bytes of one upstream are not shared with clients of another. */
  readonly lane?: string | undefined;
  /** The lease with this fence is held by a lost replica: it may be taken over. */
  readonly takeOver?: number | undefined;
}

/** Which tag, by the names that the cache uses, shared by the replicas that reach its upstream in one way. */
export interface SharedTagKey {
  readonly repository: string;
  readonly tag: string;
  readonly variant: string;
  /** The way, by {@link Coordinator.mark}. */
  readonly access: string;
}

/** A tag as the upstream confirmed it to a replica. */
export type SharedTag =
  | {
      readonly kind: 'manifest';
      readonly digest: Digest;
      readonly contentType: string;
      readonly size: number;
      /** How long ago the upstream said so, by the shared clock. */
      readonly ageMs: number;
    }
  /** There is no such tag. */
  | { readonly kind: 'missing'; readonly answer: MissingAnswer; readonly ageMs: number };

/** A 404 that an upstream gave. */
export interface MissingAnswer {
  readonly code: string;
  readonly message: string;
}

/** The answer to a claim to ask an upstream about a tag. */
export type TagClaim =
  /** A replica has asked a moment ago. */
  | { readonly kind: 'known'; readonly tag: SharedTag }
  /** This replica asks; {@link Coordinator.recordTag} or {@link Coordinator.leaveTag} ends the claim. */
  | { readonly kind: 'ours' }
  | { readonly kind: 'alone' };

/** An operator's command on an image of a repository, as the cache names it; `reference`: a tag or a digest. */
export interface Change {
  readonly kind: 'purge' | 'pin' | 'unpin' | 'approve' | 'reject';
  readonly repository: string;
  readonly reference: string;
}

/** A message to all other replicas. A {@link Change} also reaches replicas that are away now. */
export type Message =
  | Change
  | {
      readonly kind: 'tag';
      readonly repository: string;
      readonly tag: string;
      readonly variant: string;
      readonly digest: Digest;
    }
  /** An upstream has asked for a pause. */
  | {
      readonly kind: 'limit';
      readonly upstream: string;
      readonly url: string;
      readonly service: string;
      readonly forMs: number;
      /** The affected part, unless the pause applies to everything. */
      readonly part?: {
        readonly requests: 'manifest' | 'blob' | 'list' | 'token' | 'manifest-head' | 'blob-head';
        readonly repository: string;
      };
    };

/** Receives messages of other replicas, in the order in which they were sent. */
export interface MessageListener {
  /** @param message `ageMs`: how long ago it was sent, by the shared clock */
  received(message: Message, event: { readonly from: string; readonly ageMs: number }): void;
  /**
   * Messages may have been lost: everything they could have announced has to be looked up again.
   * @param lost `changes`: commands of operators may be among them
   */
  missed(lost: { readonly changes: boolean }): void;
}

/** The state of the other replicas, for monitoring. */
export interface CoordinatorStatus {
  /** `alone`: no Redis is configured; `lost`: Redis does not answer, or refuses something needed. */
  readonly state: 'alone' | 'connected' | 'lost';
  /** One clause; only while `lost`. */
  readonly reason?: string | undefined;
  readonly self: string;
  readonly replicas: readonly Replica[];
  /** Digests that this replica fetches for all. */
  readonly leases: readonly { readonly digest: Digest; readonly fence: number }[];
}

/**
 * Coordinates replicas. Everything here is a hint: no method throws for a reason that lies in the coordination, none
 * takes long, and what cannot be coordinated is done alone.
 */
export interface Coordinator extends AsyncDisposable {
  /** Whether there are no other replicas: then nothing else needs to be asked. */
  readonly isAlone: boolean;
  /** This replica's own id; '' alone. */
  readonly self: string;
  /** Of this run; '' alone. */
  readonly boot: string;
  /** Identifies the Redis since it was last empty; '' while unknown. */
  readonly epoch: string;
  /** The live replicas without this one, as of a second or two ago. */
  readonly replicas: readonly Replica[];
  /** Asks who fetches a digest; a lease has to be renewed or released. */
  claim(digest: Digest, options?: ClaimOptions): Promise<Claim>;
  /** Says that bytes have arrived. @returns `lost`: another replica has it now; `unknown`: Redis could not be asked */
  renew(lease: Lease): Promise<'held' | 'lost' | 'unknown'>;
  /** Gives a lease back. */
  release(lease: Lease): Promise<void>;
  /** This replica has the blob on its disk. */
  hold(digest: Digest): Promise<void>;
  /** Some of the other live replicas that say they have the blob; none if Redis cannot be asked. */
  holders(digest: Digest): Promise<readonly Replica[]>;
  /** This replica no longer has the blob. The others learn it soon. */
  drop(digest: Digest): void;
  /** A keyed hash by which replicas compare a secret text: it cannot be found by trying without the key. '' alone. */
  mark(text: string): string;
  /** Finds what other replicas learned about a tag within `maxAgeMs`, or the right to ask; waits for a replica that is asking. */
  claimTag(key: SharedTagKey, options: { readonly maxAgeMs: number; readonly signal: AbortSignal }): Promise<TagClaim>;
  /** Announces what the upstream has said about a tag, for a limited time. */
  recordTag(key: SharedTagKey, tag: SharedTag, options: { readonly forMs: number }): Promise<void>;
  /** The upstream could not be asked: the next replica may try. */
  leaveTag(key: SharedTagKey): Promise<void>;
  /** The 404 that an upstream gave another replica a moment ago. */
  missing(what: string): Promise<MissingAnswer | undefined>;
  recordMissing(what: string, answer: MissingAnswer, options: { readonly forMs: number }): Promise<void>;
  /**
   * Takes one of the connections that all replicas together may have to an upstream; waits for one for a limited time,
   * then continues without. Disposing releases it.
   */
  enter(upstream: string, options: { readonly max: number; readonly signal: AbortSignal }): Promise<AsyncDisposable>;
  /** How far this replica has processed messages, for its next run. */
  readonly position: string | undefined;
  /** Announces a message to all other replicas. The sender learns only the agreed state of a pin. */
  announce(message: Message): Promise<void>;
  /** @returns ends it */
  subscribe(listener: MessageListener): Disposable;
  status(): CoordinatorStatus;
}
