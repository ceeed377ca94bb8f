import type { Digest } from '../oci/digest.ts';

/** Another process of ours that shares the work. */
export interface Replica {
  /** Stays the same as long as its disk does: others know by it what it holds. */
  readonly id: string;
  /** Base URL at which other replicas reach it, without a slash at the end. */
  readonly address: string;
  /** Of this run of it: what was signed for an earlier one is of no use. */
  readonly boot: string;
  /** It contacts no upstream: it gives what it has and is asked to keep nothing. */
  readonly isOffline: boolean;
}

/** The right to fetch one digest from the upstream for all replicas. A hint: it may be lost at any moment. */
export interface Lease {
  readonly digest: Digest;
  /** As of {@link ClaimOptions}. */
  readonly lane?: string | undefined;
  /** Grows from one lease of the digest to the next: tells a lease from the one that replaced it. */
  readonly fence: number;
}

/** What becomes of a replica that wants to fetch a digest. */
export type Claim =
  /** It is ours to fetch. */
  | { readonly kind: 'lease'; readonly lease: Lease }
  /** Some say that they hold it. */
  | { readonly kind: 'held'; readonly replicas: readonly Replica[] }
  /** Another one is fetching it: read it from the first of these that answers; the last is the one with the lease. */
  | { readonly kind: 'filling'; readonly fence: number; readonly replicas: readonly Replica[] }
  /** Nobody can be asked now: everybody fends for himself. */
  | { readonly kind: 'alone' };

/** Why a claim is made once more. */
export interface ClaimOptions {
  /** Replicas that have proved of no use for this digest. */
  readonly avoid?: readonly string[] | undefined;
  /** Claims of different lanes are apart: what one upstream gives is of no use to those who asked another one. */
  readonly lane?: string | undefined;
  /** The lease of this fence is held by one that is gone: it may be taken over. */
  readonly takeOver?: number | undefined;
}

/** Which tag, by the names that the cache uses, as those are told who reach its upstream in one way. */
export interface SharedTagKey {
  readonly repository: string;
  readonly tag: string;
  readonly variant: string;
  /** The way, by {@link Coordinator.mark}. */
  readonly access: string;
}

/** What a tag stands for, as a replica has been told by the upstream. */
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

/** What becomes of a replica that wants to ask an upstream what a tag stands for. */
export type TagClaim =
  /** Somebody has asked a moment ago. */
  | { readonly kind: 'known'; readonly tag: SharedTag }
  /** It is ours to ask; {@link Coordinator.recordTag} or {@link Coordinator.leaveTag} ends that. */
  | { readonly kind: 'ours' }
  | { readonly kind: 'alone' };

/** Done by an operator to an image of a repository, as the cache names it; `reference`: a tag or a digest. */
export interface Change {
  readonly kind: 'purge' | 'pin' | 'unpin';
  readonly repository: string;
  readonly reference: string;
}

/** What a replica tells all others. A {@link Change} reaches also those that are away now. */
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
      /** What of it, where the pause is not for all. */
      readonly part?: { readonly requests: 'manifest' | 'blob' | 'list' | 'token'; readonly repository: string };
    };

/** Told of messages of other replicas, in the order in which they were sent. */
export interface MessageListener {
  /** @param message `ageMs`: how long ago it was sent, by the shared clock */
  received(message: Message, event: { readonly from: string; readonly ageMs: number }): void;
  /**
   * Messages may have been lost: whatever they could have said has to be looked up again.
   * @param lost `changes`: what operators did may be among them
   */
  missed(lost: { readonly changes: boolean }): void;
}

/** What is known of the others, for those who watch. */
export interface CoordinatorStatus {
  /** `alone`: nobody to agree with is configured; `lost`: there is, and it does not answer, or not what is needed. */
  readonly state: 'alone' | 'connected' | 'lost';
  /** One clause; only while `lost`. */
  readonly reason?: string | undefined;
  readonly self: string;
  readonly replicas: readonly Replica[];
  /** Digests that this replica fetches for all. */
  readonly leases: readonly { readonly digest: Digest; readonly fence: number }[];
}

/**
 * How replicas agree. Everything here is a hint: no method ever throws for a reason that lies in the coordination, none
 * takes longer than a short while, and whatever cannot be agreed is done alone.
 */
export interface Coordinator extends AsyncDisposable {
  /** Whether there is nobody to agree with: then nothing else needs to be asked. */
  readonly isAlone: boolean;
  /** This replica's own id; '' alone. */
  readonly self: string;
  /** Of this run; '' alone. */
  readonly boot: string;
  /** What the replicas agree through, since it was empty; '' while that is not known. */
  readonly epoch: string;
  /** The live replicas without this one, as of a second or two ago. */
  readonly replicas: readonly Replica[];
  /** Asks who fetches a digest; a lease has to be renewed or released. */
  claim(digest: Digest, options?: ClaimOptions): Promise<Claim>;
  /** Says that bytes have arrived. @returns `lost`: another replica has it now; `unknown`: nobody could be asked */
  renew(lease: Lease): Promise<'held' | 'lost' | 'unknown'>;
  /** Gives a lease back. */
  release(lease: Lease): Promise<void>;
  /** This replica has the blob on its disk. */
  hold(digest: Digest): Promise<void>;
  /** Some of the live replicas without this one that say they have the blob; none where nobody can be asked. */
  holders(digest: Digest): Promise<readonly Replica[]>;
  /** It has it no more. The others are told soon. */
  drop(digest: Digest): void;
  /** What replicas can compare a text by that has to stay secret: without theirs nobody can find it by trying. '' alone. */
  mark(text: string): string;
  /** What others were told of a tag within `maxAgeMs`, or the right to ask; waits for one who is asking. */
  claimTag(key: SharedTagKey, options: { readonly maxAgeMs: number; readonly signal: AbortSignal }): Promise<TagClaim>;
  /** Tells the others what the upstream has said of a tag, for so long. */
  recordTag(key: SharedTagKey, tag: SharedTag, options: { readonly forMs: number }): Promise<void>;
  /** The upstream could not be asked: the next one may try. */
  leaveTag(key: SharedTagKey): Promise<void>;
  /** The 404 that an upstream gave another replica a moment ago. */
  missing(what: string): Promise<MissingAnswer | undefined>;
  recordMissing(what: string, answer: MissingAnswer, options: { readonly forMs: number }): Promise<void>;
  /**
   * Takes one of the connections that all replicas together may have to an upstream; waits for one for a while, then
   * goes on without. Disposing gives it back.
   */
  enter(upstream: string, options: { readonly max: number; readonly signal: AbortSignal }): Promise<AsyncDisposable>;
  /** How far this replica has heard the others, for its next run to go on from. */
  readonly position: string | undefined;
  /** Tells all other replicas. The sender is told only what has become of a pin, when that is agreed. */
  announce(message: Message): Promise<void>;
  /** @returns ends it */
  subscribe(listener: MessageListener): Disposable;
  status(): CoordinatorStatus;
}
