import { RegistryError } from '../oci/error.ts';

/** Below so many bytes in a second a source is left for another one, and a fill does not count as one under way. */
export const leastBytesPerSecond = 16 * 1024;
/** How long a source may be slower, in milliseconds. */
export const leastRateWindowMs = 3_000;

export interface LeastRateOptions {
  /** Whether another source could go on; asked when this one has been too slow. */
  readonly hasOther: () => boolean;
}

/**
 * The chunks of a body as they come. Only the time that is spent waiting for the source counts.
 * @throws RegistryError `too-slow` where the source is slower than it may be and another one could go on; what the body throws
 */
export async function* atLeastRate(
  body: AsyncIterable<Buffer> & { destroy(error?: Error): unknown },
  { hasOther }: LeastRateOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const chunks = body[Symbol.asyncIterator]();
  let receivedBytes = 0;
  let waitedMs = 0;
  let waitingSinceMs: number | undefined;
  let isTooSlow = false;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const soFarMs = waitedMs + (waitingSinceMs === undefined ? 0 : nowMs - waitingSinceMs);
    if (soFarMs < leastRateWindowMs) return;
    if (receivedBytes < (leastBytesPerSecond * soFarMs) / 1000 && hasOther()) {
      isTooSlow = true;
      body.destroy();
    }
    receivedBytes = 0;
    waitedMs = 0;
    if (waitingSinceMs !== undefined) waitingSinceMs = nowMs;
  }, leastRateWindowMs / 4);
  try {
    for (;;) {
      waitingSinceMs = performance.now();
      const next = await chunks.next();
      waitedMs += performance.now() - waitingSinceMs;
      waitingSinceMs = undefined;
      if (isTooSlow) throw tooSlow();
      if (next.done === true) return;
      receivedBytes += next.value.length;
      yield next.value;
    }
  } catch (error) {
    throw isTooSlow ? tooSlow(error) : error;
  } finally {
    clearInterval(timer);
    await chunks.return?.();
  }
}

function tooSlow(cause?: unknown): RegistryError {
  const sentence = `the upstream gives this blob fewer than ${leastBytesPerSecond} bytes in a second`;
  return new RegistryError('too-slow', sentence, { cause });
}
