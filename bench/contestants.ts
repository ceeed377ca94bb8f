import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, type Program, serverCores, startServer } from './program.ts';
import type { ContestantName } from './row.ts';

/** Something that is measured. */
export interface Contestant {
  readonly name: ContestantName;
  readonly origin: string;
  /** Absent where it is not a server under test. */
  readonly program?: Program;
}

export interface ContestantOptions {
  /** Folder of this contestant alone: configuration, cache, log. */
  readonly directory: string;
  readonly upstreamOrigin: string;
  /** Threads that answer, on as many cores (default 1). */
  readonly threads?: number;
}

export interface MillpondOptions extends ContestantOptions {
  /** Certificate and key, as files; absent: plain connections. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
  readonly profileDirectory: string | undefined;
}

/** As its users start it. */
export const millpondProgram = fileURLToPath(new URL('../bin/millpond', import.meta.url));

/** Files that nginx serves lie here, under the same path as at a registry. */
export function documentRoot(directory: string): string {
  return join(directory, 'files');
}

/** Millpond as its users run it, all settings as by default, its log of every request in a file. */
export async function startMillpond(options: MillpondOptions): Promise<Contestant> {
  const { directory, upstreamOrigin, threads = 1, profileDirectory, tls } = options;
  const listen = `127.0.0.1:${await freePort()}`;
  const config = {
    listen,
    cache: { dir: join(directory, 'data') },
    upstreams: { 'docker.io': { urls: [upstreamOrigin] } },
    serve: { threads },
    ...(tls && { tls: { certFile: tls.certFile, keyFile: tls.keyFile } }),
  };
  const configFile = join(directory, 'millpond.yaml');
  // JSON is YAML.
  await writeFile(configFile, JSON.stringify(config));
  const profiling = profileDirectory && { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profileDirectory}` };
  return await start('millpond', {
    command: millpondProgram,
    args: ['serve', '--config', configFile],
    directory,
    listen,
    env: profiling || {},
    threads,
    isTls: tls !== undefined,
  });
}

/** Node's own TLS server, which reads one file in pieces of 512 KiB and logs each request into a file. */
export async function startNodeTls({
  directory,
  file,
  tls,
}: {
  readonly directory: string;
  readonly file: string;
  readonly tls: { readonly certFile: string; readonly keyFile: string };
}): Promise<Contestant> {
  const port = await freePort();
  const program = fileURLToPath(new URL('tls-server.ts', import.meta.url));
  return await start('node', {
    command: process.execPath,
    args: [program, String(port), tls.certFile, tls.keyFile, file],
    directory,
    listen: `127.0.0.1:${port}`,
    env: {},
    isTls: true,
  });
}

/** nginx with one worker and sendfile, its log of every request in a file. */
export async function startNginx({ directory, threads = 1 }: ContestantOptions): Promise<Contestant> {
  const listen = `127.0.0.1:${await freePort()}`;
  await mkdir(documentRoot(directory), { recursive: true });
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${directory}/${name};`)
    .join(' ');
  const configFile = join(directory, 'nginx.conf');
  await writeFile(
    configFile,
    `user root;
daemon off;
worker_processes ${threads};
pid ${directory}/nginx.pid;
error_log ${directory}/error.log;
events { worker_connections 1024; }
http {
  ${temporary}
  default_type application/octet-stream;
  sendfile on;
  access_log ${directory}/access.log;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  server {
    listen ${listen};
    root ${documentRoot(directory)};
    location = /v2/ { return 200 "{}"; }
  }
}
`,
  );
  return await start('nginx', {
    command: 'nginx',
    args: ['-p', directory, '-e', join(directory, 'error.log'), '-c', configFile],
    directory,
    listen,
    env: {},
    threads,
  });
}

/** Debian's docker-registry as a pull-through cache, otherwise as in Debian's own configuration, logging errors only. */
export async function startDockerRegistry({ directory, upstreamOrigin }: ContestantOptions): Promise<Contestant> {
  const listen = `127.0.0.1:${await freePort()}`;
  const configFile = join(directory, 'config.json');
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: {
      cache: { blobdescriptor: 'inmemory' },
      filesystem: { rootdirectory: join(directory, 'storage') },
      delete: { enabled: true },
    },
    http: { addr: listen },
    proxy: { remoteurl: upstreamOrigin },
  };
  await writeFile(configFile, JSON.stringify(config));
  const env = { OTEL_TRACES_EXPORTER: 'none' };
  return await start('docker-registry', {
    command: 'docker-registry',
    args: ['serve', configFile],
    directory,
    listen,
    env,
  });
}

async function start(
  name: ContestantName,
  options: {
    readonly command: string;
    readonly args: readonly string[];
    readonly directory: string;
    readonly listen: string;
    readonly env: Readonly<Record<string, string>>;
    readonly threads?: number;
    readonly isTls?: boolean;
  },
): Promise<Contestant & { readonly program: Program }> {
  const { command, args, directory, env, isTls = false } = options;
  const origin = `${isTls ? 'https' : 'http'}://${options.listen}`;
  const program = await startServer(command, {
    args,
    core: serverCores(options.threads ?? 1),
    logFile: join(directory, 'output.log'),
    env,
    cwd: directory,
    ...(isTls ? { port: Number(new URL(origin).port) } : { readyUrl: `${origin}/v2/` }),
  });
  return { name, origin, program };
}
