import { randomUUID } from 'node:crypto';
import { run } from './processes.ts';
import { toolPath } from './tools.ts';

/** A network of its own with nothing but 127.0.0.1: no route leads out of it, and none in. Needs root and `ip`. */
export interface NetworkNamespace extends AsyncDisposable {
  /** What goes before a command line that is to run in it. */
  readonly through: readonly string[];
  /** Runs a client in it to its end. @throws Error as {@link run} */
  run(
    program: string,
    args: readonly string[],
    options?: { readonly env?: Readonly<Record<string, string>>; readonly cwd?: string },
  ): Promise<string>;
}

/** Makes a network namespace; it is gone at the end of its scope. */
export async function networkNamespace(): Promise<NetworkNamespace> {
  const name = `millpond-${randomUUID().slice(0, 8)}`;
  await run('ip', ['netns', 'add', name]);
  await using made = new AsyncDisposableStack();
  made.defer(async () => void (await run('ip', ['netns', 'del', name])));
  const inside = ['netns', 'exec', name];
  await run('ip', [...inside, toolPath('ip'), 'link', 'set', 'lo', 'up']);
  const owned = made.move();
  return {
    through: [toolPath('ip'), ...inside],
    run: (program, args, options) =>
      run('ip', [...inside, program.startsWith('/') ? program : toolPath(program), ...args], options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
