/** What an operation has beside its parameters. */
export interface OperationContext {
  /** Aborted when the command has left: nothing more is to be done. */
  readonly signal: AbortSignal;
  /** Bytes that the command sends along, such as a blob; empty for most operations. Can be read once. */
  readonly input: AsyncIterable<Uint8Array>;
}

/** The input of a command that sends nothing along. */
export async function* noInput(): AsyncGenerator<Uint8Array> {}

/**
 * Something a command can have done to a cache: parameters in, events out, all of it JSON. It ends well when its events
 * end. @throws Error in one sentence
 */
export type Operation = (parameters: never, context: OperationContext) => AsyncIterable<unknown>;

/** What a running mirror can be asked to do, by name. */
export type OperationTable = Readonly<Record<string, Operation>>;
