import { join } from 'node:path';
import { type RunningProcess, run, startProcess } from './processes.ts';
import { temporaryDirectory } from './temporary-directory.ts';
import { toolPath } from './tools.ts';

/** A Docker daemon with all it has in a temporary folder, for images alone: it has no network to run any with. */
export interface DockerDaemon extends AsyncDisposable {
  readonly process: RunningProcess;
  /** Runs `docker` against it. */
  docker(...args: readonly string[]): Promise<string>;
}

/** What starting one takes, for `describeWith`. */
export const dockerDaemonTools = ['root', 'dockerd', 'docker', 'containerd'] as const;

/** @param configFile its `daemon.json` */
export async function startDockerDaemon(
  options: { readonly configFile?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<DockerDaemon> {
  await using stack = new AsyncDisposableStack();
  // A socket's path has at most 107 bytes.
  const directory = stack.use(await temporaryDirectory('dockerd'));
  const place = (name: string): string => join(directory.path, name);
  const socket = `unix://${place('sock')}`;
  const config = options.configFile === undefined ? [] : ['--config-file', options.configFile];
  const folders = ['--data-root', place('data'), '--exec-root', place('exec'), '--pidfile', place('pid')];
  const withoutNetwork = ['--iptables=false', '--ip6tables=false', '--bridge=none'];
  const { process } = await startProcess(toolPath('dockerd'), {
    args: [...config, ...folders, '--host', socket, '--storage-driver', 'vfs', ...withoutNetwork],
    ...(options.env && { env: options.env }),
    ready: /API listen on/,
  });
  stack.use(process);
  const owned = stack.move();
  return {
    process,
    docker: (...args) => run('docker', ['--host', socket, ...args], { env: { HOME: directory.path } }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
