import { read, readSync } from 'node:fs';
import type { Exit } from './exit.ts';
import { plainDescriptor } from './plain-descriptor.ts';
import type { Room } from './room.ts';
import type { SystemCalls } from './system-calls.ts';

/** Handed to sendfile at a time. */
const stretchBytes = 1024 * 1024;
/** Sent to one client before the others have their turn. */
const turnBytes = 2 * 1024 * 1024;
/**
 * Written the ordinary way when the socket is full, so that the event loop waits for it: no more than a page, because these
 * bytes are copied. The loop goes on when a third of the buffer is free, however few they are.
 */
const fillerBytes = 4 * 1024;
/** The least that is read and written at a time. */
const leastPieceBytes = 16 * 1024;
/** Pieces of each size that are kept for the next transfer. */
const maxIdlePieces = 32;

/** A body on its way out of a file. */
export interface FileTransfer {
  readonly exit: Exit;
  readonly room: Room;
  readonly fd: number;
  /** Where the next byte is; counts up to `end`. */
  position: number;
  readonly end: number;
  /**
   * Called once: the last byte has been handed to the system, or the connection is gone.
   * @param error why the file could not be read; `undefined` where the client has left
   */
  readonly done: (isComplete: boolean, error?: unknown) => void;
}

/** A transfer, and the memory that it reads into, once it has had to. */
interface Sending {
  readonly transfer: FileTransfer;
  /** Bytes of a piece; 0: none so far. */
  pieceBytes: number;
  /** Up to here the file was in memory a moment ago. */
  seenTo: number;
}

/**
 * Sends files at the pace of clients: by sendfile(2) where the socket is plain and the pages are in memory, else by
 * reading in the background and writing, so that no disk holds up the thread.
 */
export class FileSender {
  readonly #calls: SystemCalls | undefined;
  readonly #idle = new Map<number, Buffer[]>();

  /** @param calls `undefined`: bodies are read and written */
  constructor(calls: SystemCalls | undefined) {
    this.#calls = calls;
  }

  /** Begins a transfer, whose headers are flushed. Ends the answer, or cuts it where the file cannot be read. */
  start(transfer: FileTransfer): void {
    this.#go({ transfer, pieceBytes: 0, seenTo: 0 });
  }

  #go(sending: Sending): void {
    const { transfer } = sending;
    const { exit, fd, end } = transfer;
    const calls = this.#calls;
    for (let left = turnBytes; transfer.position < end; ) {
      const { socket } = exit;
      if (socket === null || socket.destroyed) return transfer.done(false);
      const length = Math.min(end - transfer.position, stretchBytes);
      const socketFd = calls && plainDescriptor(socket);
      if (socketFd === undefined || !isInMemory(calls!, sending, length)) return this.#readAndWrite(sending);
      const sent = calls!.sendFile(socketFd, { fd, position: transfer.position, length });
      if (sent === undefined) return this.#writeFiller(sending);
      if (sent === 0) return fail(transfer, new Error(shortened));
      transfer.position += sent;
      left -= sent;
      if (left <= 0 && transfer.position < end) {
        setImmediate(() => this.#go(sending));
        return;
      }
    }
    exit.end();
    transfer.done(true);
  }

  /** The pages are in memory, so that a read of them does not wait; the write waits for the client. */
  #writeFiller(sending: Sending): void {
    const { transfer } = sending;
    const piece = Buffer.allocUnsafe(Math.min(fillerBytes, transfer.end - transfer.position));
    let count: number;
    try {
      count = readSync(transfer.fd, piece, 0, piece.length, transfer.position);
    } catch (error) {
      return fail(transfer, error);
    }
    this.#write(sending, piece.subarray(0, count), () => undefined);
  }

  #readAndWrite(sending: Sending): void {
    const { transfer } = sending;
    sending.pieceBytes ||= takePiece(transfer);
    const idle = this.#idleOf(sending.pieceBytes);
    const piece = idle.pop() ?? Buffer.allocUnsafeSlow(sending.pieceBytes);
    const length = Math.min(piece.length, transfer.end - transfer.position);
    read(transfer.fd, piece, 0, length, transfer.position, (error, count) => {
      if (error) return fail(transfer, error);
      // After a failed write the socket may still hold the piece: it is not used again.
      this.#write(sending, piece.subarray(0, count), () => {
        if (idle.length < maxIdlePieces) idle.push(piece);
      });
    });
  }

  #idleOf(bytes: number): Buffer[] {
    let idle = this.#idle.get(bytes);
    if (idle === undefined) this.#idle.set(bytes, (idle = []));
    return idle;
  }

  /** @param onTaken called when the system has the bytes */
  #write(sending: Sending, bytes: Buffer, onTaken: () => void): void {
    const { transfer } = sending;
    if (bytes.length === 0) return fail(transfer, new Error(shortened));
    const { socket } = transfer.exit;
    if (socket === null || socket.destroyed) return transfer.done(false);
    transfer.exit.write(bytes, (error) => {
      if (error) return transfer.done(false);
      onTaken();
      transfer.position += bytes.length;
      this.#go(sending);
    });
  }
}

const shortened = 'the file is shorter than it was';

/** Whether the next bytes of a file can be had without the disk. */
function isInMemory(calls: SystemCalls, sending: Sending, length: number): boolean {
  const { fd, position } = sending.transfer;
  const end = position + length;
  const start = Math.max(position, sending.seenTo);
  if (start >= end) return true;
  if (!calls.isInMemory(fd, { position: start, length: end - start })) return false;
  sending.seenTo = end;
  return true;
}

/** Takes memory for a piece: as large as the walls find right, and no larger than what is left. */
function takePiece({ room, position, end }: FileTransfer): number {
  const most = 2 ** Math.ceil(Math.log2(Math.max(end - position, leastPieceBytes)));
  const wanted = Math.min(room.pieceBytes, most);
  if (room.take(wanted)) return wanted;
  room.charge(leastPieceBytes);
  return leastPieceBytes;
}

/** The connection is cut short of `Content-Length`. */
function fail(transfer: FileTransfer, error: unknown): void {
  transfer.exit.destroy();
  transfer.done(false, error);
}
