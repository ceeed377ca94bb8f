import { LinkedAbort } from '../waiting/linked-abort.ts';
import { Shares } from '../waiting/shares.ts';
import type { Gate } from './gate.ts';

/** How long a request waits that would find out whether its part is back, in milliseconds. */
const probeWaitMs = 1_000;

/** The places for small answers of one repository at a time: further requests wait for their turn. */
export class Turns {
  readonly #all: Shares;
  /** HEADs take a part of those, so that GETs can take the place of HEADs that are not answered. */
  readonly #heads: Shares;
  /** Requests that find out whether parts are back: however many repositories stall, they take a part of the connections. */
  readonly #probes: Shares;

  /** @param shareOfRepository requests that may be under way for one repository */
  constructor(shareOfRepository: number) {
    this.#all = new Shares(shareOfRepository);
    this.#heads = new Shares(Math.ceil(shareOfRepository / 2));
    this.#probes = new Shares(shareOfRepository);
  }

  /** @returns the turn, which ends when it is disposed. @throws the signal's reason */
  async take(
    repository: string,
    { isHead, signal }: { readonly isHead: boolean; readonly signal: AbortSignal },
  ): Promise<Disposable> {
    using taken = new DisposableStack();
    if (isHead) taken.use(await this.#heads.take(repository, signal));
    taken.use(await this.#all.take(repository, signal));
    return taken.move();
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
