import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';

/** How a run of tests ended. */
export interface TestRun {
  readonly failed: boolean;
  /** It did not end within its time, and was ended. */
  readonly hung: boolean;
  /** File and name of each test that failed. */
  readonly failures: readonly string[];
  readonly tookMs: number;
  readonly output: string;
}

/**
 * Runs files of tests one after another, as listed, until a test fails.
 * @param place a copy of the project
 * @param options `limitMs`: after this long, the run and all its processes are ended; so they are once a file that they write
 *   (`growing`) has not grown for `idleMs`
 */
export async function runTests(
  place: string,
  tests: readonly string[],
  { limitMs, env, idleMs, growing }: RunOptions,
): Promise<TestRun> {
  const start = performance.now();
  const program = ['node_modules/vitest/vitest.mjs', 'run', '--config=scripts/mutation/vitest.config.ts'];
  const vitest = spawn(process.execPath, [...program, `--testTimeout=${limitMs}`, ...tests], {
    cwd: place,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', MUTATION_ORDER: tests.join('\n'), ...env },
  });
  let output = '';
  for (const stream of [vitest.stdout, vitest.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  let hung = false;
  const end = (): void => {
    hung = true;
    endGroup(vitest.pid);
  };
  const timer = setTimeout(end, limitMs);
  const watch = growing === undefined ? undefined : setInterval(onceIdle(growing, end), idleMs);
  const code = await new Promise<number | null>((resolve) => vitest.once('close', resolve));
  clearTimeout(timer);
  clearInterval(watch);
  endGroup(vitest.pid);
  const failures = [...output.matchAll(/FAIL {2}(.*)/g)].map(([, test]) => test!);
  return { failed: code !== 0, hung, failures, tookMs: performance.now() - start, output };
}

interface RunOptions {
  readonly limitMs: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly idleMs?: number;
  readonly growing?: string;
}

/** Calls back when the file is as long as it was at the last call. */
function onceIdle(path: string, then: () => void): () => void {
  let known = -1;
  return () => {
    const { size } = statSync(path);
    if (size === known) then();
    known = size;
  };
}

/** Ends what a run of tests has left behind, such as a Redis whose test was cut off. */
function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has exited already.
  }
}
