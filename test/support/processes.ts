import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { afterEach } from 'vitest';
import { toolPath } from './tools.ts';

export interface StartOptions {
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** Output that says that the program is ready; its groups are in `readyMatch`. */
  readonly ready: RegExp;
  /** How long that may take (default three minutes). */
  readonly readyWithinMs?: number;
}

const keptOutputCharacters = 256 * 1024;
/** How long something is waited for that comes soon, or else never, on the slowest machine too. */
const patienceMs = 180_000;
/** How long one that is not needed any more may take to end. */
const leavingMs = 5_000;

/** A real program that runs beside the tests. */
export class RunningProcess implements AsyncDisposable {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #output = '';
  #isComplete = false;
  #changed = Promise.withResolvers<void>();

  constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
    this.#exited = once(child, 'close').finally(() => {
      this.#isComplete = true;
      this.#change();
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-keptOutputCharacters);
        this.#change();
      });
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Standard output and error so far, mixed, at most the last 256 Ki characters. */
  get output(): string {
    return this.#output;
  }

  /** The exit code, or the signal's name; undefined while it runs. */
  get exit(): number | string | undefined {
    return this.#child.exitCode ?? this.#child.signalCode ?? undefined;
  }

  /**
   * Waits until the output matches.
   * @throws Error with the output, when the program ends or the time is over before it does
   */
  async untilOutput(pattern: RegExp, withinMs = patienceMs): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(withinMs);
    for (;;) {
      const match = pattern.exec(this.#output);
      if (match !== null) return match;
      // What it said last may come after its end is known.
      if (this.#isComplete || deadline.aborted) {
        const why = deadline.aborted ? `did not say ${String(pattern)} in time` : `ended (${this.exit})`;
        throw new Error(`${this.name} ${why}; its output:\n${this.#output}`);
      }
      const changed = this.#changed;
      deadline.addEventListener('abort', () => changed.resolve(), { once: true });
      await changed.promise;
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Settles when the program has ended and its output is complete. */
  async exited(): Promise<number | string> {
    await this.#exited;
    return this.exit ?? 0;
  }

  /** Asks the program to end; one that hangs is killed in the end. */
  async stop(withinMs = patienceMs): Promise<void> {
    if (this.exit === undefined) this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), withinMs);
    await this.#exited;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(leavingMs);
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Starts a program and waits until it says that it is ready. */
export async function startProcess(
  command: string,
  options: StartOptions,
): Promise<{ readonly process: RunningProcess; readonly readyMatch: RegExpExecArray }> {
  const child = spawn(command, options.args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  await once(child, 'spawn');
  const running = new RunningProcess(command, child);
  try {
    return { process: running, readyMatch: await running.untilOutput(options.ready, options.readyWithinMs) };
  } catch (error) {
    await running.stop(leavingMs);
    throw error;
  }
}

/** Prints what the programs said after each test of this describe that fails. */
export function showOutputOnFailure(programs: () => readonly ({ readonly output: string } | undefined)[]): void {
  afterEach(({ task }) => {
    if (task.result?.state !== 'fail') return;
    for (const program of programs()) process.stderr.write(`${program?.output ?? ''}\n`);
  });
}

const execute = promisify(execFile);

/**
 * Runs a client to its end.
 * @param program its name or its whole path
 * @throws Error with the command line and all that it said, when it fails or takes over six minutes
 */
export async function run(
  program: string,
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
): Promise<string> {
  try {
    const { stdout } = await execute(program.startsWith('/') ? program : toolPath(program), [...args], {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      timeout: 2 * patienceMs,
      maxBuffer: 16 * 1024 * 1024,
    });
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause: error });
  }
}
