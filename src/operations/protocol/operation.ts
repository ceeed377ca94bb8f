/** The surroundings of an operation, besides its parameters. */
export interface OperationContext {
  /** Aborted when the command has disconnected: the operation must end. */
  readonly signal: AbortSignal;
  /** Bytes that the command sends, such as a blob; empty for most operations. Can be read once. */
  readonly input: AsyncIterable<Uint8Array>;
}

/** The input of a command that sends no bytes. */
export async function* noInput(): AsyncGenerator<Uint8Array> {}

/**
 * Something that a command can do to a cache: parameters in, events out, all of it JSON. It succeeds if its events end.
 * @throws Error in one sentence
 */
export type Operation = (parameters: never, context: OperationContext) => AsyncIterable<unknown>;

/** The operations of a running mirror, by name. */
export type OperationTable = Readonly<Record<string, Operation>>;
