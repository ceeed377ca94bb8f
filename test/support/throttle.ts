import { setTimeout as delay } from 'node:timers/promises';

/** Hands out bytes at a rate. Takers share it in the order in which they ask. */
export interface Throttle {
  /** How many bytes to take at a time so that the flow is even: 20 ms of it, at most 64 KiB. */
  readonly chunkBytes: number;
  /** Settles when so many bytes may be sent. */
  take(bytes: number, options: { readonly signal: AbortSignal }): Promise<void>;
}

export function createThrottle(bytesPerSecond: number): Throttle {
  let freeAtMs = 0;
  return {
    chunkBytes: Math.max(1, Math.min(64 * 1024, Math.floor(bytesPerSecond / 50))),
    async take(bytes, { signal }) {
      const nowMs = performance.now();
      // Timers are late by a millisecond or more: up to 20 ms of what was missed may be caught up.
      const startMs = Math.max(freeAtMs, nowMs - 20);
      freeAtMs = startMs + (bytes / bytesPerSecond) * 1000;
      const waitMs = startMs - nowMs;
      if (waitMs > 1) await delay(waitMs, undefined, { signal });
    },
  };
}
