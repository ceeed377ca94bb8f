import type { IncomingMessage } from 'node:http';
import type { Line, ReadTarget } from './line.ts';

/** Read but not taken yet: beyond so many pieces of memory, the connection waits. */
const maxPieces = 2;
/** A shorter body comes with its headers, or soon after: it is not worth the memory. */
const leastBytes = 96 * 1024;

/** Where bodies are read to. */
export interface BodyMemory {
  /** @param expectedBytes how many are to come; the memory may be for more or fewer */
  take(expectedBytes: number): BodyPiece;
}

/** Memory that is filled once, from its start to its end. */
export interface BodyPiece {
  /** Bytes filled so far. */
  readonly length: number;
  readonly isFull: boolean;
  /** The memory that can still be filled. */
  readonly room: Buffer;
  /** Filled bytes. */
  view(start: number, end: number): Buffer;
  /** Bytes have been written to the beginning of {@link room}. */
  grow(bytes: number): void;
  /** Takes what there is room for. @returns how many bytes that is */
  fill(chunk: Buffer): number;
  /** It is filled no further, and what was viewed is not used any more. */
  release(): void;
}

/**
 * The body of a response, read by the system straight into the memory that it is kept in: up to half a mebibyte at a time,
 * where Node's streams make a buffer for each 64 KiB and copy it twice. Node's parser sees each piece, too, and decides
 * when the body is whole and whether the connection is kept.
 */
export class BulkBody implements ReadTarget {
  readonly #response: IncomingMessage;
  readonly #memory: BodyMemory;
  readonly #line: Line;
  /** The first one is being taken, the last one is being filled. */
  #pieces: BodyPiece[] = [];
  /** Up to where the first piece has been taken. */
  #takenTo = 0;
  /** Bytes of the body still to be read. */
  #leftBytes: number;
  #isStopped = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  private constructor(response: IncomingMessage, parts: { memory: BodyMemory; line: Line; bytes: number }) {
    this.#response = response;
    this.#memory = parts.memory;
    this.#line = parts.line;
    this.#leftBytes = parts.bytes;
    response.once('error', (error) => this.#fail(error));
    response.once('close', () => this.#fail(cutShort()));
  }

  /**
   * Begins to read the body of a response. To be called when its headers have come, in that turn.
   * @param options.line its connection
   * @returns `undefined` where that is not possible, or not worthwhile: its stream has the bytes
   */
  static of(
    response: IncomingMessage,
    { memory, line }: { readonly memory: BodyMemory; readonly line: Line | undefined },
  ): BulkBody | undefined {
    const { statusCode, headers } = response;
    if (line === undefined || (statusCode !== 200 && statusCode !== 206)) return undefined;
    const length = headers['content-length'];
    const isPlain = headers['transfer-encoding'] === undefined && headers['content-encoding'] === undefined;
    if (length === undefined || !isPlain || !/^\d{1,15}$/.test(length) || Number(length) < leastBytes) return undefined;
    const body = new BulkBody(response, { memory, line, bytes: Number(length) });
    return line.direct(body) ? body : undefined;
  }

  begin(): void {
    // Bytes that came with the headers have gone the usual way.
    for (let chunk = this.#read(); chunk !== null; chunk = this.#read()) {
      this.#copy(chunk);
      this.#leftBytes -= chunk.length;
    }
    // Nothing else will come this way but its end, which frees the connection.
    this.#response.resume();
    if (this.#leftBytes <= 0) this.#line.undirect(this);
    this.#wake?.();
  }

  room(): Buffer {
    const { room } = this.#last();
    return room.length > this.#leftBytes ? room.subarray(0, this.#leftBytes) : room;
  }

  received(bytes: Buffer): boolean {
    const piece = this.#last();
    if (bytes.buffer === piece.room.buffer) piece.grow(bytes.length);
    // Read before it was known where to.
    else this.#copy(bytes.subarray(0, this.#leftBytes));
    this.#leftBytes -= Math.min(bytes.length, this.#leftBytes);
    if (this.#leftBytes === 0) this.#line.undirect(this);
    this.#wake?.();
    // The one that is filled next is counted, since the system has it from now on.
    this.#isStopped = this.#leftBytes > 0 && this.#pieces.length + (this.#last().isFull ? 1 : 0) > maxPieces;
    return !this.#isStopped;
  }

  /**
   * The bytes as they come, each time all that has: they may be used until the next are asked for.
   * @throws what the response fails with
   */
  async *chunks(): AsyncGenerator<Buffer, void, undefined> {
    try {
      for (;;) {
        const [piece] = this.#pieces;
        if (piece !== undefined && this.#takenTo < piece.length) {
          const start = this.#takenTo;
          this.#takenTo = piece.length;
          yield piece.view(start, piece.length);
        } else if (piece?.isFull === true) {
          this.#pieces.shift();
          this.#takenTo = 0;
          piece.release();
          this.#goOn();
        } else if (this.#leftBytes === 0) {
          await this.#end();
          return;
        } else {
          if (this.#failure !== undefined) throw this.#failure;
          await this.#progress();
        }
      }
    } finally {
      this.destroy();
    }
  }

  /** Gives its memory back; the response is the caller's to destroy. */
  destroy(): void {
    this.#line.undirect(this);
    this.#failure ??= cutShort();
    for (const piece of this.#pieces) piece.release();
    this.#pieces = [];
    this.#takenTo = 0;
  }

  /** Until the response has ended, too: its length is right, and the connection can be used again. */
  async #end(): Promise<void> {
    while (!this.#response.readableEnded && this.#failure === undefined) await this.#progress();
  }

  async #progress(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    this.#response.once('end', resolve);
    await promise;
    this.#response.removeListener('end', resolve);
    this.#wake = undefined;
  }

  #goOn(): void {
    if (!this.#isStopped || this.#pieces.length > maxPieces) return;
    this.#isStopped = false;
    this.#line.resume();
  }

  /** The memory that is filled next. */
  #last(): BodyPiece {
    const last = this.#pieces.at(-1);
    if (last?.isFull === false) return last;
    const next = this.#memory.take(this.#leftBytes);
    this.#pieces.push(next);
    return next;
  }

  #copy(bytes: Buffer): void {
    for (let rest = bytes; rest.length > 0; ) rest = rest.subarray(this.#last().fill(rest));
  }

  #read(): Buffer | null {
    return this.#response.read() as Buffer | null;
  }

  #fail(error: Error): void {
    if (this.#leftBytes > 0) this.#line.undirect(this);
    this.#failure ??= error;
    this.#wake?.();
  }
}

function cutShort(): Error {
  return Object.assign(new Error('the body was cut'), { code: 'ERR_STREAM_PREMATURE_CLOSE' });
}
