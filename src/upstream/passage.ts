import type { IncomingHttpHeaders } from 'node:http';
import { RegistryError } from '../oci/error.ts';
import type { Service } from './failures.ts';

/** Why nothing is sent: the other side asked for a pause, or failed to answer. */
export type ClosedState = 'limited' | 'broken';

/** The status of a place: whether it can be asked. */
export interface GateStatus {
  /**
   * `available`: requests are sent. `limited`: it asked for a pause (429, or 503 with `Retry-After`), nothing is sent
   * until `untilMs`. `broken`: it failed to answer; from `untilMs` on one request at a time is sent to find out, and it
   * stays `broken` until one has been answered.
   */
  readonly state: 'available' | ClosedState;
  /** Wall clock in milliseconds; only of a closed gate. */
  readonly untilMs?: number;
  /** A clause about the upstream, without secrets, such as `did not answer in time`; only of a closed gate. */
  readonly reason?: string;
}

/** The class of a request: each class fails separately. Of the HEADs of manifests and blobs, limits alone are their own. */
export type RequestClass = 'manifest' | 'blob' | 'list' | 'token' | 'manifest-head' | 'blob-head';

/** The part of a place that a gate is for. */
export interface Part {
  readonly requests: RequestClass;
  readonly repository: string;
}

/** A part of a place that is not asked now. */
export interface PartStatus extends GateStatus, Part {}

/** The events of a gate. `part`: absent for the gate of a whole place. */
export type GateEvent =
  | {
      /** Nothing is sent from now on. Not repeated while attempts to open keep failing in the same way. */
      readonly kind: 'closed';
      readonly service: Service;
      readonly url: string;
      readonly state: ClosedState;
      readonly forMs: number;
      readonly reason: string;
      /** Whether another replica was asked for the pause. */
      readonly isShared: boolean;
      readonly part?: Part | undefined;
    }
  /** A request has been answered again. */
  | { readonly kind: 'opened'; readonly service: Service; readonly url: string; readonly part?: Part | undefined }
  /** A request was refused instead of being sent. */
  | { readonly kind: 'refused'; readonly service: Service; readonly state: ClosedState };

/** A request that was not sent, because what it was for is known not to answer now. */
export class Refusal extends RegistryError {
  readonly state: ClosedState;
  /** How long until it may be worth asking again, in milliseconds. */
  readonly retryAfterMs: number;

  constructor(state: ClosedState, sentence: string, options: { readonly upstream: string; retryAfterMs: number }) {
    const { upstream, retryAfterMs } = options;
    const seconds = String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
    super(state === 'limited' ? 'limited' : 'left-alone', sentence, {
      detail: { upstream },
      ...(state === 'limited' && { headers: { 'Retry-After': seconds } }),
    });
    this.state = state;
    this.retryAfterMs = retryAfterMs;
  }
}

/** An answer, as far as it says something about the place that gave it. */
export interface Heard {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The first error code of its body, where it was read. */
  readonly code?: string | undefined;
}

/** The permission to send one request. Disposing it without a call means that nothing was learned. */
export interface Passage extends Disposable {
  /** Headers have come. */
  answered(answer: Heard): void;
  /**
   * No headers have come.
   * @param error what the request failed with: only what the other side is to blame for counts
   * @param event `isConnected`: whether the request had a connection to go out on
   */
  failed(error: unknown, event?: { readonly isConnected: boolean }): void;
  /**
   * The body of a small answer is being received: its turn lasts until it has ended. To be called before
   * {@link answered}.
   * @returns to be called when it has ended. `failure`: what it ended with, where the other side is to blame
   */
  readonly receiving?: () => (failure?: unknown) => void;
}

/** Decides before a request whether it is sent, and learns what came of it. */
export interface RequestGate {
  /** @throws Refusal; the signal's reason */
  enter(signal: AbortSignal): Promise<Passage>;
  /** To be called before others are asked for what a request needs. @throws Refusal where it would not be sent now */
  check(): void;
}

/** Lets everything through, and learns nothing: for what is asked beside a pull, and at other places. */
export const openGate: RequestGate = {
  enter: () =>
    Promise.resolve({ answered: () => undefined, failed: () => undefined, [Symbol.dispose]: () => undefined }),
  check: () => undefined,
};
