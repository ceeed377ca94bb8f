import type { IncomingMessage } from 'node:http';

/** Longest line of parameters that is read, in bytes. */
const maxParametersBytes = 16 * 1024 * 1024;

/** The last line of an answer: without it the mirror has gone away in the middle. */
export type OperationEnd = { readonly end: 'done' } | { readonly end: 'failed'; readonly error: string };

/**
 * Reads the request of an operation: one line of JSON, then the bytes that are sent along.
 * @throws SyntaxError where the first line is not JSON, RangeError where it does not end
 */
export async function readOperation(
  request: IncomingMessage,
): Promise<{ parameters: unknown; input: AsyncIterable<Uint8Array> }> {
  // A client that stops reading may still get an answer on the same connection.
  const chunks = request.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  let line = Buffer.alloc(0);
  while (true) {
    const newline = line.indexOf(0x0a);
    if (newline !== -1) {
      const parameters: unknown = JSON.parse(line.toString('utf8', 0, newline));
      return { parameters, input: continued(line.subarray(newline + 1), chunks) };
    }
    if (line.length > maxParametersBytes) throw new RangeError('the parameters are too long');
    const next = await chunks.next();
    if (next.done === true) throw new SyntaxError('the parameters are missing');
    line = Buffer.concat([line, next.value]);
  }
}

/** The bytes after the first line. */
async function* continued(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first;
  yield* { [Symbol.asyncIterator]: () => rest };
}

/**
 * The lines of an answer: `{ "event": … }` for each event, and the result. It stays open until all attached data
 * has arrived or the client has closed the connection: closing it while data is being sent would lose the answer
 * in transit. Never throws.
 */
export async function* answerLines(
  events: AsyncIterable<unknown>,
  { request, onError }: { readonly request: IncomingMessage; readonly onError: (error: unknown) => void },
): AsyncGenerator<string> {
  let end: OperationEnd = { end: 'done' };
  try {
    for await (const event of events) yield `${JSON.stringify({ event })}\n`;
  } catch (error) {
    onError(error);
    end = { end: 'failed', error: error instanceof Error ? error.message : String(error) };
  }
  yield `${JSON.stringify(end)}\n`;
  try {
    for await (const _ of request) continue;
  } catch {
    // It has been closed.
  }
}
