import { setPriority } from 'node:os';
import { reservePort } from './ports.ts';
import { type RunningProcess, startProcess } from './processes.ts';
import { temporaryDirectory } from './temporary-directory.ts';
import { toolPath } from './tools.ts';

/** A real redis-server; nothing of it outlives the test. */
export interface RedisServer extends AsyncDisposable {
  readonly port: number;
  /** `redis://127.0.0.1:40123` */
  readonly url: string;
  readonly process: RunningProcess;
  /** Kills it. */
  kill(): Promise<void>;
  /** Starts an empty one on the same port. */
  restart(): Promise<void>;
}

/** Starts Redis on a port of the system's choice. */
export async function startRedis(options: { readonly args?: readonly string[] } = {}): Promise<RedisServer> {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory('redis')).path;
  const { port } = stack.use(await reservePort());
  const start = async (): Promise<RunningProcess> => {
    const { process } = await startProcess(toolPath('redis-server'), {
      args: ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory, ...(options.args ?? [])],
      ready: /Ready to accept connections/,
    });
    comesFirst(process.pid);
    return process;
  };
  let running = await start();
  stack.defer(() => running[Symbol.asyncDispose]());
  const owned = stack.move();
  const kill = async (): Promise<void> => {
    running.kill('SIGKILL');
    await running.exited();
  };
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get process() {
      return running;
    },
    kill,
    async restart() {
      if (running.exit === undefined) await kill();
      running = await start();
    },
    async [Symbol.asyncDispose]() {
      // One that is frozen would not hear that it is to end.
      if (running.exit === undefined) running.kill('SIGCONT');
      await owned.disposeAsync();
    },
  };
}

/**
 * Replicas go on alone without a Redis that takes a quarter of a second for an answer. On a busy machine it has the processor
 * before all others, where that is permitted.
 */
function comesFirst(pid: number): void {
  try {
    setPriority(pid, -10);
  } catch {
    // Only root may do that.
  }
}
