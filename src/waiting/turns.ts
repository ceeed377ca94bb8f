/** Maximum work between two turns of the event loop, in milliseconds: the longest that a hit waits for it. */
const turnMs = 3;

/** Divides long work on this thread into slices, between which the event loop runs everything else. */
export class Turns {
  #endMs = performance.now() + turnMs;

  /** Call it between small steps of work; it waits only if the current slice is over. @throws the signal's reason */
  async next(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (performance.now() < this.#endMs) return;
    await new Promise(setImmediate);
    signal?.throwIfAborted();
    this.#endMs = performance.now() + turnMs;
  }
}
