/** Longest work between two turns of the event loop, in milliseconds: the longest that a hit waits for it. */
const turnMs = 3;

/** Cuts long work in this thread into pieces, between which the event loop runs everything else. */
export class Turns {
  #endMs = performance.now() + turnMs;

  /** To be called between small pieces of work; waits only when this turn is over. @throws the signal's reason */
  async next(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (performance.now() < this.#endMs) return;
    await new Promise(setImmediate);
    signal.throwIfAborted();
    this.#endMs = performance.now() + turnMs;
  }
}
