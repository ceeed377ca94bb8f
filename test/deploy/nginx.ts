import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GetOptions, get, type Reply } from '../support/client.ts';
import type { MillpondProcess } from '../support/millpond.ts';
import { type RunningProcess, startProcess } from '../support/processes.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { toolPath } from '../support/tools.ts';

const folderOfConfigurations = new URL('../../deploy/nginx/', import.meta.url);

/** An nginx of deploy/nginx, on a Unix socket. */
export interface Balancer extends AsyncDisposable {
  readonly process: RunningProcess;
  get(path: string, options?: GetOptions): Promise<Reply>;
}

/** Starts nginx with the configuration of deploy/ for several replicas. */
export async function startBalancer(replicas: readonly [first: string, second: string]): Promise<Balancer> {
  return await startNginx('nginx.conf', [
    ['server millpond-1:5000', `server ${replicas[0]}`],
    ['server millpond-2:5000', `server ${replicas[1]}`],
  ]);
}

/** Starts nginx with the configuration of deploy/ for `serve.sendfile: nginx`. @param options `user`: of its workers */
export async function startFileSender(
  { host, directory }: Pick<MillpondProcess, 'host' | 'directory'>,
  { user }: { readonly user: string },
): Promise<Balancer> {
  return await startNginx('sendfile.conf', [
    ['user millpond;', `user ${user} ${user === 'nobody' ? 'nogroup' : user};`],
    ['server 127.0.0.1:5000', `server ${host}`],
    ['alias /var/lib/millpond/blobs/', `alias ${join(directory, 'data', 'blobs')}/`],
  ]);
}

type Exchange = readonly [written: string, here: string];

/** Exchanges only addresses and places of files. */
async function startNginx(name: string, own: readonly Exchange[]): Promise<Balancer> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory('nginx'));
  const socket = join(folder.path, 'sock');
  const file = join(folder.path, 'nginx.conf');
  const configuration = fileURLToPath(new URL(name, folderOfConfigurations));
  const exchanges: readonly Exchange[] = [
    // First: the places of the others are in a folder below it.
    [' /tmp/', ` ${folder.path}/`],
    ...own,
    ['listen 8080', `listen unix:${socket}`],
    ['access_log /dev/stdout', `access_log ${join(folder.path, 'access.log')}`],
    ['error_log stderr warn', 'error_log stderr notice'],
  ];
  let text = await readFile(configuration, 'utf8');
  for (const [written, here] of exchanges) {
    if (!text.includes(written)) throw new Error(`${written} is not in ${configuration}`);
    text = text.replaceAll(written, here);
  }
  await writeFile(file, text);
  const { process } = await startProcess(toolPath('nginx'), {
    args: ['-c', file, '-g', 'daemon off;'],
    ready: /start worker process /,
  });
  stack.use(process);
  const owned = stack.move();
  return {
    process,
    get: (path, options) => get(`http://mirror.test${path}`, { ...options, unixSocket: socket }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
