import { type FairPlace, FairPlaces } from '../waiting/fair-places.ts';
import { LinkedAbort } from '../waiting/linked-abort.ts';
import { Shares } from '../waiting/shares.ts';
import type { Gate } from './gate.ts';

/** How long a request waits that would find out whether its part is back, in milliseconds. */
const probeWaitMs = 1_000;
/** A request for a small answer that takes longer leaves its connection's place to another, in milliseconds. */
const slowAfterMs = 2_000;

export interface TurnsOptions {
  /** Requests for small answers that may be under way at a time; those that take long count apart. */
  readonly connections: number;
  /** Those of one repository. */
  readonly shareOfRepository: number;
}

/** The turn of a request, which ends when it is disposed. */
export type Turn = FairPlace;

/** The turn of a request that needs none. */
export const noTurn: Turn = { succeeded: () => undefined, [Symbol.dispose]: () => undefined };

/** The places for small answers of one repository, and of all: further requests wait for their turn. */
export class Turns {
  readonly #all: Shares;
  /** HEADs take a part of those, so that GETs can take the place of HEADs that are not answered. */
  readonly #heads: Shares;
  /** Requests that find out whether parts are back: however many repositories stall, they take a part of the connections. */
  readonly #probes: Shares;
  /** Repositories that stall or drip do not hold up the others. */
  readonly #connections: FairPlaces;

  constructor({ connections, shareOfRepository }: TurnsOptions) {
    this.#connections = new FairPlaces({ places: connections, slowAfterMs });
    this.#all = new Shares(shareOfRepository);
    this.#heads = new Shares(Math.ceil(shareOfRepository / 2));
    this.#probes = new Shares(shareOfRepository);
  }

  /** @throws the signal's reason */
  async take(
    repository: string,
    { isHead, signal }: { readonly isHead: boolean; readonly signal: AbortSignal },
  ): Promise<Turn> {
    using taken = new DisposableStack();
    if (isHead) taken.use(await this.#heads.take(repository, signal));
    taken.use(await this.#all.take(repository, signal));
    const place = taken.use(await this.#connections.take(repository, signal));
    return turnOf(place, taken.move());
  }

  /** One of the few requests at a time that find out whether parts are back. @throws Refusal; the signal's reason */
  async takeProbe(gate: Gate, signal: AbortSignal): Promise<Disposable> {
    gate.check();
    using limited = new LinkedAbort(signal).timeoutAfter(probeWaitMs);
    try {
      return await this.#probes.take('', limited.signal);
    } catch (error) {
      signal.throwIfAborted();
      gate.refuse();
      throw error;
    }
  }
}

/** A turn that ends with all that was taken for it. */
export function turnOf(place: FairPlace, taken: DisposableStack): Turn {
  return { succeeded: () => place.succeeded(), [Symbol.dispose]: () => taken.dispose() };
}

/** @param options `isGood`: the request has succeeded */
export function endTurn(turn: Turn, { isGood }: { readonly isGood: boolean }): void {
  if (isGood) turn.succeeded();
  turn[Symbol.dispose]();
}
