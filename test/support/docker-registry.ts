import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunningProcess, startProcess } from './processes.ts';
import { temporaryDirectory } from './temporary-directory.ts';
import { toolPath } from './tools.ts';

export interface DockerRegistryOptions {
  /** Makes it a pull-through cache of this registry. */
  readonly proxyFor?: string;
  /** Lines of an htpasswd file (bcrypt); without it anybody may pull and push. */
  readonly htpasswd?: string;
}

/** Debian's docker-registry (distribution 2.8) on a port of its own, with its storage in a temporary folder. */
export interface DockerRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:40123` */
  readonly origin: string;
  /** `127.0.0.1:40123` */
  readonly host: string;
  readonly process: RunningProcess;
}

export async function startDockerRegistry(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory('docker-registry'));
  const configFile = join(directory.path, 'config.json');
  const htpasswdFile = join(directory.path, 'htpasswd');
  if (options.htpasswd !== undefined) await writeFile(htpasswdFile, options.htpasswd);
  const config = {
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory.path, 'storage') }, delete: { enabled: true } },
    http: { addr: '127.0.0.1:0' },
    auth: options.htpasswd === undefined ? undefined : { htpasswd: { realm: 'registry', path: htpasswdFile } },
    proxy: options.proxyFor === undefined ? undefined : { remoteurl: options.proxyFor },
  };
  // JSON is YAML.
  await writeFile(configFile, JSON.stringify(config));
  const { process, readyMatch } = await startProcess(toolPath('docker-registry'), {
    args: ['serve', configFile],
    env: { OTEL_TRACES_EXPORTER: 'none' },
    ready: /listening on (127\.0\.0\.1:\d+)/,
  });
  stack.use(process);
  const host = readyMatch[1] ?? '';
  const owned = stack.move();
  return {
    origin: `http://${host}`,
    host,
    process,
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}
