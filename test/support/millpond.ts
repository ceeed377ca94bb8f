import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, startProcess } from './processes.ts';
import { temporaryDirectory } from './temporary-directory.ts';

const program = fileURLToPath(new URL('../../bin/millpond', import.meta.url));

export interface MillpondOptions {
  /** Folder for the configuration file and, unless the configuration names one, the cache; kept at the end. */
  readonly directory?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What goes before the command line, such as `ip netns exec NAME`. */
  readonly through?: readonly string[];
}

/** The mirror as its users run it: a process of its own. */
export interface MillpondProcess extends AsyncDisposable {
  /** `http://127.0.0.1:40123` */
  readonly origin: string;
  /** `127.0.0.1:40123` */
  readonly host: string;
  readonly directory: string;
  readonly process: RunningProcess;
}

/**
 * Starts `millpond serve` on a port of the system's choice.
 * @param config as in the configuration file; `listen` and `cache.dir` have defaults
 */
export async function startMillpond(
  config: Readonly<Record<string, unknown>>,
  options: MillpondOptions = {},
): Promise<MillpondProcess> {
  await using stack = new AsyncDisposableStack();
  const directory = options.directory ?? stack.use(await temporaryDirectory('serve')).path;
  const configFile = join(directory, 'millpond.yaml');
  const cache = { dir: join(directory, 'data'), minFree: '1B', ...(config['cache'] as object | undefined) };
  // JSON is YAML.
  await writeFile(configFile, JSON.stringify({ listen: '127.0.0.1:0', ...config, cache }, undefined, 2));
  const [command, ...before] = [...(options.through ?? []), program];
  const { process, readyMatch } = await startProcess(command, {
    args: [...before, 'serve', '--config', configFile, ...(options.args ?? [])],
    env: options.env,
    cwd: directory,
    ready: /^(?=.*"msg":"listening").*"address":"([^"]+)"/m,
  });
  stack.use(process);
  const host = readyMatch[1] ?? '';
  const owned = stack.move();
  return {
    origin: `http://${host}`,
    host,
    directory,
    process,
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}
