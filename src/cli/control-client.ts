import { lstat } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { controlSocketPath, isSocketPath } from '../http/control-socket.ts';
import type { OperationEnd } from '../http/operations.ts';
import type { OperationContext } from '../operations/protocol/operation.ts';

/** How long a running mirror may take to answer. */
const answerMs = 10_000;

/**
 * Asks the mirror that runs on a cache directory.
 * @param path of the control API, with its query
 * @returns the JSON of the answer; `undefined` if no mirror listens there
 * @throws Error in one sentence if it refuses, cannot be reached, or does not answer
 */
export async function askControl(cacheDir: string, path: string): Promise<unknown> {
  const socketPath = controlSocketPath(cacheDir);
  if (!isSocketPath(socketPath) || !(await isTrusted(socketPath))) return undefined;
  let answer: { status: number; body: string };
  try {
    answer = await get(socketPath, path);
  } catch (error) {
    if (isNobody(error)) return undefined;
    throw unreachable(socketPath, error);
  }
  const parsed = parse(answer.body, socketPath);
  if (answer.status === 200) return parsed;
  throw new Error((parsed as { error?: string }).error ?? `the mirror answered ${answer.status}`);
}

/** Whether a mirror accepts commands for a cache directory. @throws Error if the listener is not trusted */
export async function controlListens(cacheDir: string): Promise<boolean> {
  const socketPath = controlSocketPath(cacheDir);
  if (!isSocketPath(socketPath) || !(await isTrusted(socketPath))) return false;
  return await new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error) => (isNobody(error) ? resolve(false) : reject(unreachable(socketPath, error))));
  });
}

/**
 * Runs an operation in the mirror that owns a cache directory.
 * @returns its events as they come; ending the iteration ends the operation
 * @throws Error in one sentence if the mirror cannot be reached, fails, or goes away in the middle
 */
export async function* runOnControl(
  cacheDir: string,
  name: string,
  parameters: object,
  { signal, input }: OperationContext,
): AsyncGenerator {
  const socketPath = controlSocketPath(cacheDir);
  using left = new DisposableStack();
  const abort = new AbortController();
  left.defer(() => abort.abort());
  const asked = request({
    socketPath,
    path: `/operations/${encodeURIComponent(name)}`,
    method: 'POST',
    agent: false,
    signal: AbortSignal.any([signal, abort.signal]),
    headers: { host: 'millpond', 'content-type': 'application/json' },
  });
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    asked.once('response', resolve);
    asked.once('error', reject);
  });
  // A mirror that fails stops reading: its answer then says why, and unsent data does not matter.
  const sent = pipeline(Readable.from(bodyOf(parameters, input), { objectMode: false }), asked).catch(() => undefined);
  let ended: OperationEnd | undefined;
  try {
    const response = await answered;
    if (response.statusCode !== 200) {
      const refusal = parse(await text(response), socketPath) as { error?: string };
      throw new OperationFailure(refusal.error ?? `the mirror answered ${response.statusCode}`);
    }
    for await (const line of linesOf(response)) {
      const answer = parse(line, socketPath) as { event: unknown } | OperationEnd;
      if ('end' in answer) {
        // The rest of the data is not wanted any more: ending the read closes the connection.
        ended = answer;
        break;
      }
      yield answer.event;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof OperationFailure ? error : unreachable(socketPath, error);
  }
  signal.throwIfAborted();
  if (ended === undefined) throw new Error('the mirror has gone away in the middle of it');
  if (ended.end === 'failed') throw new Error(ended.error);
  await sent;
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = '';
  for await (const chunk of response.setEncoding('utf8')) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

/** The mirror's own explanation of a refusal. */
class OperationFailure extends Error {}

async function* bodyOf(parameters: object, input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`${JSON.stringify(parameters)}\n`);
  yield* input;
}

/** Whether the error only means that nothing listens. */
function isNobody(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

function unreachable(socketPath: string, cause: unknown): Error {
  const { code, name, message } = cause as NodeJS.ErrnoException;
  const why =
    name === 'TimeoutError'
      ? `has not answered within ${answerMs / 1000} s`
      : code === 'EACCES'
        ? 'belongs to another user; ask as that one'
        : `cannot be asked: ${code ?? message}`;
  return new Error(`the mirror at ${socketPath} ${why}`, { cause });
}

/** Another user who could create a socket there could answer in the mirror's name. @throws Error if one did */
async function isTrusted(path: string): Promise<boolean> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw new Error(`${path} cannot be looked at: ${error.code ?? error.message}`, { cause: error });
  });
  if (found === undefined) return false;
  const user = process.getuid?.();
  const isOurs = user === undefined || user === 0 || found.uid === user || found.uid === 0;
  if (found.isSocket() && isOurs) return true;
  throw new Error(`${path} is not the control socket of a mirror of this user`);
}

async function get(socketPath: string, path: string): Promise<{ status: number; body: string }> {
  const signal = AbortSignal.timeout(answerMs);
  return await new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, agent: false, signal, headers: { host: 'millpond' } }, (response) => {
      text(response).then((body) => resolve({ status: response.statusCode ?? 0, body }), reject);
    });
    asked.on('error', (error) => reject(signal.aborted ? (signal.reason as Error) : error));
    asked.end();
  });
}

function parse(body: string, socketPath: string): unknown {
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new Error(`what listens at ${socketPath} is not a mirror`, { cause: error });
  }
}
