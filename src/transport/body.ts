import { RegistryError } from '../oci/error.ts';
import { afterReading } from '../waiting/after-reading.ts';
import type { WireAnswer } from './exchange.ts';

/**
 * A body on its way; its holder ends it with `destroy()` unless it was read to its end. Where it was asked for with memory
 * to be read into, a chunk is a part of that, and is to be used before the next is asked for.
 */
export interface TransferBody extends AsyncIterable<Buffer> {
  destroy(error?: Error): unknown;
}

export interface TransferOptions {
  /** Longest silence while bytes are wanted, in milliseconds. A reader that takes its time does not count. */
  readonly idleMs: number;
  /** Length announced by the answer; a body that ends at another one throws. */
  readonly expectedBytes: number | undefined;
  /** Turns what the stream throws into what the reader is to see; called once. */
  readonly translate: (error: unknown) => unknown;
}

/** No byte came in time. */
export class IdleTimeoutError extends Error {
  override readonly name = 'IdleTimeoutError';
}

/** The body ended before or after the length it announced. */
export class LengthMismatchError extends Error {
  override readonly name = 'LengthMismatchError';
}

/** The body of an answer: never silent for ever, and it never ends cleanly unless it is complete. */
export function transferBody(
  answer: Pick<WireAnswer, 'stream' | 'bulk' | 'isComplete'>,
  options: TransferOptions,
): TransferBody {
  return {
    [Symbol.asyncIterator]: () => readTransfer(answer, options),
    destroy(error) {
      answer.stream.destroy(error);
      answer.bulk?.destroy();
    },
  };
}

async function* readTransfer(
  { stream, bulk, isComplete }: Pick<WireAnswer, 'stream' | 'bulk' | 'isComplete'>,
  options: TransferOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const { expectedBytes, translate } = options;
  const chunks = bulk?.chunks() ?? (stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>);
  let waiting = false;
  let waits = 0;
  const timer = setTimeout(() => {
    const wait = waits;
    afterReading(() => {
      if (waiting && waits === wait) stream.destroy(new IdleTimeoutError(`no byte within ${options.idleMs} ms`));
    });
  }, options.idleMs);
  let receivedBytes = 0;
  try {
    for (;;) {
      waiting = true;
      waits += 1;
      timer.refresh();
      const next = await chunks.next();
      waiting = false;
      if (next.done === true) break;
      receivedBytes += next.value.length;
      yield next.value;
    }
    if (expectedBytes !== undefined && receivedBytes !== expectedBytes) {
      throw new LengthMismatchError(`${receivedBytes} bytes instead of ${expectedBytes}`);
    }
    if (!isComplete()) throw new Error('the body was cut');
  } catch (error) {
    throw translate(error);
  } finally {
    clearTimeout(timer);
    // Also after a clean end: the stream lets go of its abort signal only then.
    stream.destroy();
    bulk?.destroy();
  }
}

/** The same body. @param onEnd called once, when it has been read to its end, has failed, or was destroyed */
export function watchedBody(body: TransferBody, onEnd: (failure?: unknown) => void): TransferBody {
  let hasEnded = false;
  const end = (failure?: unknown): void => {
    if (!hasEnded) onEnd(failure);
    hasEnded = true;
  };
  return {
    async *[Symbol.asyncIterator]() {
      try {
        yield* body;
        end();
      } catch (error) {
        end(error);
        throw error;
      } finally {
        end();
      }
    },
    destroy(error) {
      body.destroy(error);
      end();
    },
  };
}

/** A counter of bytes that are on their way in memory, with room for no more than a limit. */
export interface CountedMemory {
  /** Counts bytes if there is room for them. @returns whether there was */
  tryAdd(bytes: number): boolean;
  /** Undoes a {@link tryAdd} that had room. */
  release(bytes: number): void;
}

/**
 * Reads a body into memory.
 * @param options `memory`: counts its bytes while they arrive; absent: nothing does
 * @returns `undefined` if it is longer than allowed; its connection is closed then
 * @throws RegistryError `overloaded` if there is no memory for it; what the body throws
 */
export async function readBounded(
  body: TransferBody,
  maxBytes: number,
  { memory }: { readonly memory?: CountedMemory | undefined } = {},
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let receivedBytes = 0;
  let countedBytes = 0;
  try {
    for await (const chunk of body) {
      receivedBytes += chunk.length;
      if (receivedBytes > maxBytes) return undefined;
      if (memory?.tryAdd(chunk.length) === false) throw noMemory();
      countedBytes = receivedBytes;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, receivedBytes);
  } finally {
    memory?.release(countedBytes);
  }
}

function noMemory(): RegistryError {
  const sentence = 'the memory for answers on their way (limits.memory) is used up; try again later';
  return new RegistryError('overloaded', sentence, { headers: { 'Retry-After': '5' } });
}

/** The body of an answer that has been read. */
export const emptyBody: TransferBody = {
  [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
  destroy: () => undefined,
};

/** Error bodies that are longer or slower than this are not read: closing the connection is cheaper. */
const maxDrainedBytes = 16 * 1024;
const maxDrainMs = 500;

/**
 * Reads what may be the text of an error, where little is left to read; keeps the connection then.
 * @returns `undefined` where it is long, slow or cut
 */
export async function readSmall(body: TransferBody): Promise<Buffer | undefined> {
  const timer = setTimeout(() => body.destroy(), maxDrainMs);
  try {
    return await readBounded(body, maxDrainedBytes);
  } catch {
    // The status has been read; how its text ended changes nothing.
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Releases an answer of which only the status mattered. */
export async function drain(body: TransferBody): Promise<void> {
  await readSmall(body);
}
