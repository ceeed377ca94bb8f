import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** The receiver of the bytes of a connection while a body comes. */
export interface ReadTarget {
  /** The headers have been read; what came with them is in the response. */
  begin(): void;
  /** Where the system is to put what it reads next; at least one byte. */
  room(): Buffer;
  /**
   * Bytes have been read: in {@link room}, or elsewhere where that was not asked for in time.
   * @returns whether more is to be read now
   */
  received(bytes: Buffer): boolean;
}

/** Node's parser of a connection, as far as it is looked at here: its functions are its properties of some numbers. */
interface Parser {
  readonly constructor: { readonly kOnBody?: unknown };
  [callback: number]: unknown;
}

const lineOfSocket = Symbol('line');

/** The line of a connection, where it was made with one. */
export function lineOf(socket: (Duplex & { readonly [lineOfSocket]?: Line }) | null): Line | undefined {
  return socket?.[lineOfSocket];
}

/**
 * How a connection is read: into memory that is used again and again, from which Node's parser takes what it needs, or
 * straight to where the bytes of a body are kept.
 */
export class Line {
  readonly #scratch: Buffer;
  #socket: (Socket & { parser?: Parser | null }) | undefined;
  #target: ReadTarget | undefined;

  /** @param scratch used whenever nothing else is; connections may share it */
  constructor(scratch: Buffer) {
    this.#scratch = scratch;
  }

  /** For Node's `net.connect` and `tls.connect`. */
  get onread(): { readonly buffer: () => Buffer; readonly callback: (bytes: number, buffer: Uint8Array) => boolean } {
    return {
      buffer: () => this.#target?.room() ?? this.#scratch,
      callback: (bytes, { buffer, byteOffset }) => this.#received(Buffer.from(buffer, byteOffset, bytes)),
    };
  }

  attach(socket: Socket): void {
    this.#socket = socket;
    Object.defineProperty(socket, lineOfSocket, { value: this });
  }

  /**
   * Gives what comes from now on to a target, besides the rest of what has just been read. To be called when the headers
   * have come, in that turn.
   * @returns whether that is possible with this version of Node
   */
  direct(target: ReadTarget): boolean {
    if (this.#socket === undefined || this.#onBody === undefined) return false;
    this.#target = target;
    return true;
  }

  /** Undoes {@link direct}. */
  undirect(target: ReadTarget): void {
    if (this.#target === target) this.#target = undefined;
  }

  /** Reads on, after a target has wanted no more. */
  resume(): void {
    this.#socket?.resume();
  }

  #received(bytes: Buffer): boolean {
    const target = this.#target;
    if (target === undefined) {
      this.#socket?.emit('data', bytes);
      // The headers that a target has waited for may have been among them.
      this.#target?.begin();
      return true;
    }
    this.#frame(bytes);
    return target.received(bytes);
  }

  /** Lets the parser see bytes of a body without making copies of them. */
  #frame(bytes: Buffer): void {
    const parser = this.#socket?.parser;
    const onBody = this.#onBody;
    if (!parser || onBody === undefined) return;
    // The parser is used for other connections later, so that it has to be as before in any case.
    const taken = parser[onBody];
    parser[onBody] = undefined;
    try {
      this.#socket?.emit('data', bytes);
    } finally {
      parser[onBody] = taken;
    }
  }

  /** The key of the parser's function for pieces of a body. */
  get #onBody(): number | undefined {
    const kOnBody = this.#socket?.parser?.constructor.kOnBody;
    return typeof kOnBody === 'number' ? kOnBody : undefined;
  }
}
