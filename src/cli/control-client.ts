import { lstat } from 'node:fs/promises';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { controlSocketPath, isSocketPath } from '../http/control-socket.ts';

/** How long a running mirror may take to answer. */
const answerMs = 10_000;

/**
 * Asks the mirror that runs on a cache directory.
 * @param path of the control API, with its query
 * @returns the answer's JSON; `undefined` where no mirror listens there
 * @throws Error in one sentence where it refuses, cannot be reached, or does not answer
 */
export async function askControl(cacheDir: string, path: string): Promise<unknown> {
  const socketPath = controlSocketPath(cacheDir);
  if (!isSocketPath(socketPath) || !(await isTrusted(socketPath))) return undefined;
  let answer: { status: number; body: string };
  try {
    answer = await get(socketPath, path);
  } catch (error) {
    const { code, name, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
    const why =
      name === 'TimeoutError'
        ? `has not answered within ${answerMs / 1000} s`
        : code === 'EACCES'
          ? 'belongs to another user; ask as that one'
          : `cannot be asked: ${code ?? message}`;
    throw new Error(`the mirror at ${socketPath} ${why}`, { cause: error });
  }
  const parsed = parse(answer.body, socketPath);
  if (answer.status === 200) return parsed;
  throw new Error((parsed as { error?: string }).error ?? `the mirror answered ${answer.status}`);
}

/** Whoever could put a socket of his own there would answer in the mirror's name. @throws Error where somebody did */
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
