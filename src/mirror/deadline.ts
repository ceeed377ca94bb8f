import { RegistryError } from '../oci/error.ts';

/**
 * Does work that a client waits for, with a signal that ends it when the client leaves or the time is over.
 * @throws RegistryError UNAVAILABLE 504 when the time is over; else what the work throws
 */
export async function withDeadline<Value>(
  work: (signal: AbortSignal) => Promise<Value>,
  { answerMs, signal }: { readonly answerMs: number; readonly signal?: AbortSignal },
): Promise<Value> {
  const over = AbortSignal.timeout(answerMs);
  try {
    return await work(signal ? AbortSignal.any([signal, over]) : over);
  } catch (error) {
    if (!over.aborted || signal?.aborted || (error instanceof RegistryError && error !== over.reason)) throw error;
    throw new RegistryError('UNAVAILABLE', `the upstream has not answered within ${answerMs} ms`, {
      status: 504,
      cause: error,
    });
  }
}
