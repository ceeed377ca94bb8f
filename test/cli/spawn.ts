import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** What a program that has ended left behind. */
export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The launcher of the checkout under test. */
export const launcher = fileURLToPath(new URL('../../bin/millpond', import.meta.url));

/** Runs a program to its end. */
export function run(
  file: string,
  args: readonly string[],
  options: {
    readonly cwd: string;
    readonly environment?: Readonly<Record<string, string>>;
    /** What it reads from standard input (default: nothing). */
    readonly input?: string;
  },
): Promise<Ended> {
  const { cwd, environment = {}, input = '' } = options;
  // MILLPOND_* of the environment of the tests must not reach the program under test.
  const env = { PATH: process.env.PATH, ...environment };
  return new Promise((resolve) => {
    const child = execFile(file, args, { cwd, env }, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
    child.stdin?.on('error', () => undefined).end(input);
  });
}

/** As {@link run}, of a program whose standard output is not read from the beginning; what it writes there is lost. */
export async function runUnread(
  file: string,
  args: readonly string[],
  { cwd }: { readonly cwd: string },
): Promise<Omit<Ended, 'stdout'>> {
  const waits = ['-c', 'read _; exec "$0" "$@"', file, ...args];
  const child = spawn('sh', waits, { cwd, env: { PATH: process.env.PATH } });
  child.stdout.destroy();
  await once(child.stdout, 'close');
  child.stdin.on('error', () => undefined).end('\n');
  const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  return { code: code as number | null, stderr };
}
