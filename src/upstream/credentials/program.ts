import { spawn } from 'node:child_process';
import { Transform } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Environment } from '../../transport/proxies.ts';

/** Most that a program may write to its standard output, in bytes. */
const maxOutputBytes = 64 * 1024;

/**
 * Variables that a program inherits: those that tell it where it is and who it acts as. Others may hold the secrets of
 * this mirror or of other upstreams.
 */
const inherited =
  /^(?:PATH|HOME|USER|LOGNAME|LANG|LC_[A-Z]+|TZ|TMPDIR|XDG_[A-Z_]+|DOCKER_CONFIG|SSL_CERT_(?:FILE|DIR)|(?:https?|no|all)_proxy|(?:HTTPS?|NO|ALL)_PROXY|(?:AWS|ECR|AMAZON|GOOGLE|GCE|CLOUDSDK|AZURE|ACR|MSI|IDENTITY|KUBERNETES|KUBECONFIG|GNUPGHOME|PASSWORD_STORE)(?:_[A-Z0-9_]+)?)$/;

export interface ProgramRun {
  readonly args: readonly string[];
  /** Written to its standard input. */
  readonly input: string;
  readonly environment: Environment;
  /** Variables in addition to those that every program inherits. */
  readonly variables?: Environment;
  /** The program and its children are killed after this time, in milliseconds. */
  readonly timeoutMs: number;
}

/** Why a program gave no result, as a clause that begins with a verb; nothing that the program wrote is in it. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError';
}

/**
 * Runs a program without a shell and waits for its end. Its standard error is discarded, since it may hold secrets.
 * @param program a path, or a name that is looked up in `PATH`
 * @returns its exit code and what it wrote to its standard output
 * @throws ProgramError if it cannot be started, takes too long or writes too much
 */
export async function runProgram(
  program: string,
  run: ProgramRun,
): Promise<{ readonly code: number; readonly output: string }> {
  const { args, input, environment, variables, timeoutMs } = run;
  const own = Object.fromEntries(Object.entries(environment).filter(([name]) => inherited.test(name)));
  const child = spawn(program, args, {
    env: { ...own, ...variables },
    stdio: ['pipe', 'pipe', 'ignore'],
    shell: false,
    // A group of its own, so that its children are killed with it.
    detached: true,
  });
  let failure: ProgramError | undefined;
  const stop = (clause: string): void => {
    failure ??= new ProgramError(clause);
    killGroup(child.pid);
    child.stdout.destroy();
  };
  const timer = setTimeout(() => stop(`did not end within ${timeoutMs / 1000} s`), timeoutMs);
  const ended = Promise.withResolvers<number>();
  child.once('error', (error: NodeJS.ErrnoException) => ended.reject(startFailure(error)));
  child.once('close', (code) => ended.resolve(code ?? -1));
  // A program that does not read its input closes the pipe.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  const output = text(child.stdout.compose(limit(() => stop(`wrote more than ${maxOutputBytes / 1024} KiB`)))).catch(
    () => '',
  );
  try {
    const code = await ended.promise;
    const written = await output;
    if (failure !== undefined) throw failure;
    return { code, output: written };
  } finally {
    clearTimeout(timer);
  }
}

function limit(onMore: () => void): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      if (bytes > maxOutputBytes) onMore();
      done(null, bytes > maxOutputBytes ? undefined : chunk);
    },
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

function startFailure({ code }: NodeJS.ErrnoException): ProgramError {
  return new ProgramError(code === 'ENOENT' ? 'is not installed' : `cannot be started (${code})`);
}
