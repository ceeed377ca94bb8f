import type { Socket } from 'node:net';

/** The room that one answer has in this process. Disposing gives it back. */
export interface Room extends Disposable {
  /** Takes memory. @returns whether there was enough */
  take(bytes: number): boolean;
  /** Counts memory that the answer takes in any case. */
  charge(bytes: number): void;
  /** How large the pieces should be in which a body is read: smaller while much memory is in use. */
  readonly pieceBytes: number;
}

/** The walls between clients. What they refuse is left to the application, which refuses it with an answer. */
export interface Rooms {
  /** Whether an answer that leaves at once may be given on a connection. */
  mayAnswer(socket: Socket): boolean;
  /** Room for an answer that takes its time. @returns `undefined` where the walls refuse it */
  begin(socket: Socket, bytes: number): Room | undefined;
  /** The address of the other end, as the log names it. */
  addressOf(socket: Socket): string;
}
