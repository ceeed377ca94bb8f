import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Core of the servers that are measured; the client and the upstream have the other. */
export const serverCore = 0;
export const clientCore = 1;

// What Linux counts CPU time in, on every architecture that Node runs on.
const ticksPerSecond = 100;

export interface ProgramOptions {
  readonly args: readonly string[];
  /** A core, or several as `taskset -c` takes them. */
  readonly core: number | string;
  /** Takes standard output and error. */
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

/** The first cores, for a server with several threads; the last of them may be the client's. */
export function serverCores(threads: number): string {
  return threads === 1 ? String(serverCore) : `${serverCore}-${threads - 1}`;
}

/** A program that runs on cores of its own. */
export class Program implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #kill = () => this.#child.kill('SIGKILL');

  constructor(command: string, options: ProgramOptions) {
    const log = openSync(options.logFile, 'a');
    this.#child = spawn('taskset', ['-c', String(options.core), command, ...options.args], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...options.env },
      cwd: options.cwd,
    });
    closeSync(log);
    this.#exited = once(this.#child, 'exit').catch(() => undefined);
    process.once('exit', this.#kill);
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** CPU time of the program and its children so far, in seconds, to the hundredth. */
  cpuSeconds(): number {
    return this.#processes().reduce((sum, pid) => sum + cpuTicks(pid), 0) / ticksPerSecond;
  }

  /** What is resident of the program and its children now. */
  memoryBytes(): number {
    return this.#processes().reduce((sum, pid) => sum + kibibytes(pid, 'VmRSS') * 1024, 0);
  }

  /** The most memory that was resident at a time, summed over the program and its children. */
  peakMemoryBytes(): number {
    return this.#processes().reduce((sum, pid) => sum + kibibytes(pid, 'VmHWM') * 1024, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.hasEnded) this.#child.kill('SIGTERM');
    const timer = setTimeout(this.#kill, 10_000);
    await this.#exited;
    clearTimeout(timer);
    process.removeListener('exit', this.#kill);
  }

  #processes(): number[] {
    const { pid } = this.#child;
    if (pid === undefined) return [];
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return [pid, ...(children === '' ? [] : children.split(' ').map(Number))];
  }
}

/**
 * Starts a server on one core and waits until it answers.
 * @param options `readyUrl`: what it answers; absent: it is ready when it accepts a connection at `port`
 * @throws Error with its log when it does not within ten seconds
 */
export async function startServer(
  command: string,
  options: ProgramOptions & ({ readonly readyUrl: string } | { readonly port: number }),
): Promise<Program> {
  const program = new Program(command, options);
  const deadline = AbortSignal.timeout(10_000);
  while (!program.hasEnded && !deadline.aborted) {
    if (await ('port' in options ? accepts(options.port) : answers(options.readyUrl, deadline))) return program;
    await delay(20);
  }
  await program[Symbol.asyncDispose]();
  throw new Error(`${command} does not answer; its log:\n${readFileSync(options.logFile, 'utf8')}`);
}

function answers(url: string, signal: AbortSignal): Promise<boolean> {
  return fetch(url, { signal }).then(
    (response) => response.arrayBuffer().then(() => true),
    () => false,
  );
}

function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, '127.0.0.1', () => {
    socket.destroy();
    resolve(true);
  });
  socket.once('error', () => resolve(false));
  return promise;
}

/** CPU time that anything has taken on the servers' core since the system started, in seconds. */
export function serverCoreSeconds(): number {
  const line = new RegExp(`^cpu${serverCore} (.*)$`, 'm').exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '';
  // proc(5): user nice system idle iowait irq softirq steal …
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line.split(' ').map(Number);
  return (user + nice + system + irq + softirq + steal) / ticksPerSecond;
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port was given');
  return address.port;
}

function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // proc(5): the name may hold blanks; after it come state (field 3) and the rest, utime is field 14, stime 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

function kibibytes(pid: number, name: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1] ?? 0);
}
