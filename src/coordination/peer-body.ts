import type { IncomingMessage } from 'node:http';
import { PeerFailure } from './peer-failure.ts';

/** Bytes from another replica, verified by nobody, in chunks that nobody else has; ended with `destroy()` unless they were read to their end. */
export type PeerBody = AsyncIterable<Buffer> & { destroy(error?: Error): unknown };

export interface PeerBodyOptions {
  /** Id of the replica. */
  readonly replica: string;
  /** Longest silence while bytes are wanted, in milliseconds. */
  readonly idleMs: number;
  readonly signal: AbortSignal;
  /** Told when it could not be read to its end. */
  readonly onFailure: (failure: PeerFailure) => void;
}

/** Nothing came in time. */
export class SilentPeer extends Error {
  override readonly name = 'SilentPeer';
}

/** The body of an answer: never silent for ever, and never at a clean end unless it is complete. */
export function peerBody(response: IncomingMessage, options: PeerBodyOptions): PeerBody {
  return {
    [Symbol.asyncIterator]: () => read(response, options),
    destroy: (error) => response.destroy(error),
  };
}

async function* read(
  response: IncomingMessage,
  { replica, idleMs, signal, onFailure }: PeerBodyOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let isWaiting = false;
  const timer = setTimeout(() => {
    if (isWaiting) response.destroy(new SilentPeer());
  }, idleMs);
  try {
    for (;;) {
      isWaiting = true;
      timer.refresh();
      const next = await chunks.next();
      isWaiting = false;
      if (next.done === true) break;
      yield next.value;
    }
    if (!response.complete) throw new Error('the body was cut');
  } catch (error) {
    signal.throwIfAborted();
    const fault = error instanceof SilentPeer ? 'silent' : 'unreachable';
    const sentence = `another replica ${fault === 'silent' ? 'has stopped sending' : 'has cut the transfer'}`;
    const failure = new PeerFailure(replica, fault, { sentence, cause: error });
    onFailure(failure);
    throw failure;
  } finally {
    clearTimeout(timer);
    response.destroy();
  }
}
