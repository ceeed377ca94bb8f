import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { acceptManifests } from './image.ts';
import { clientCore } from './program.ts';

const execute = promisify(execFile);

/** What to ask for. */
export interface Work {
  readonly origin: string;
  readonly path: string;
  readonly connections: number;
}

/** What a client has seen. */
export interface Load {
  readonly bytes: number;
  /** Answers that came whole. */
  readonly requests: number;
  readonly seconds: number;
  readonly clientCpuSeconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What clients have seen that each pulled once. */
export interface Pull extends Load {
  /** Of each connection, from the moment when all of them asked. */
  readonly firstByteMs: readonly number[];
}

/** Asks again and again with wrk, the client for small answers: it copies every byte in pieces of 8 KiB. */
export async function loadWithWrk(work: Work, { seconds }: { readonly seconds: number }): Promise<Load> {
  const { connections, origin, path } = work;
  return await runWrk('wrk.lua', { connections, seconds, url: `${origin}${path}`, args: [] });
}

/**
 * As {@link loadWithWrk}, for each of several paths in turn.
 * @param work.pathsFile one path a line
 */
export async function loadPathsWithWrk(
  work: Omit<Work, 'path'> & { readonly pathsFile: string },
  { seconds }: { readonly seconds: number },
): Promise<Load> {
  const { connections, origin, pathsFile } = work;
  return await runWrk('wrk-paths.lua', { connections, seconds, url: origin, args: ['--', pathsFile] });
}

/**
 * Asks with a client that throws the bytes away in the kernel: `seconds` long, or without them once.
 * @param options `perSecond`: no more often than that; absent: again and again
 */
export async function pull(
  work: Work,
  { seconds, perSecond }: { readonly seconds?: number; readonly perSecond?: number },
): Promise<Pull> {
  const program = fileURLToPath(new URL('pull.py', import.meta.url));
  const { path, connections } = work;
  const port = Number(new URL(work.origin).port);
  const options = { port, path, connections, seconds, perSecond, headers: { Accept: acceptManifests } };
  const { stdout } = await onClientCore('python3', [program, JSON.stringify(options)]);
  return JSON.parse(stdout) as Pull;
}

/**
 * The same path several times one after the other, over one encrypted connection. The bytes are thrown away.
 * @throws Error where an answer is not whole
 */
export async function pullEncrypted({ origin, path }: Omit<Work, 'connections'>, times: number): Promise<void> {
  const urls = Array.from({ length: times }, () => ['-o', '/dev/null', `${origin}${path}`]).flat();
  await onClientCore('curl', ['-sSkf', ...urls]);
}

/**
 * Each of several paths once, over all connections, with a client that reads the bytes and compares them with the digest
 * in the path.
 * @param work.pathsFile one path a line
 */
export async function pullEach(work: Omit<Work, 'path'> & { readonly pathsFile: string }): Promise<Load> {
  const program = fileURLToPath(new URL('pull.py', import.meta.url));
  const { pathsFile, connections } = work;
  const options = { port: Number(new URL(work.origin).port), pathsFile, connections, headers: {} };
  const { stdout } = await onClientCore('python3', [program, JSON.stringify(options)]);
  return JSON.parse(stdout) as Load;
}

async function runWrk(
  scriptName: string,
  work: {
    readonly url: string;
    readonly connections: number;
    readonly seconds: number;
    readonly args: readonly string[];
  },
): Promise<Load> {
  const { url, connections, seconds, args } = work;
  const script = fileURLToPath(new URL(scriptName, import.meta.url));
  const options = `-t 1 -c ${connections} -d ${seconds}s --timeout 20s -s`.split(' ');
  const accept = `Accept: ${acceptManifests}`;
  const { stdout } = await onClientCore('wrk', [...options, script, '-H', accept, url, ...args]);
  const load = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Load & { readonly errors: number };
  if (load.errors > 0) throw new Error(`${url}: ${load.errors} answers were no success`);
  return load;
}

async function onClientCore(command: string, args: readonly string[]): Promise<{ stdout: string }> {
  return await execute('taskset', ['-c', String(clientCore), command, ...args], { timeout: 120_000 });
}
