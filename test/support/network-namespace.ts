import { randomUUID } from 'node:crypto';
import { run } from './processes.ts';
import { toolPath } from './tools.ts';

/** A network of its own with nothing but 127.0.0.1: no route leads out of it, and none in. Needs root and `ip`. */
export interface NetworkNamespace extends AsyncDisposable {
  readonly name: string;
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
    name,
    through: [toolPath('ip'), ...inside],
    run: (program, args, options) =>
      run('ip', [...inside, program.startsWith('/') ? program : toolPath(program), ...args], options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A line between two namespaces, and the addresses at its ends. It is gone with either of them. */
export interface NetworkLine {
  readonly addresses: readonly [one: string, other: string];
  /** Nothing goes through it any more, and senders get no notice. */
  cut(): Promise<void>;
  mend(): Promise<void>;
}

/** Lays a line between two namespaces. */
export async function layLine(one: NetworkNamespace, other: NetworkNamespace): Promise<NetworkLine> {
  const addresses = ['10.231.0.1', '10.231.0.2'] as const;
  await run('ip', ['link', 'add', 'line', 'netns', one.name, 'type', 'veth', 'peer', 'line', 'netns', other.name]);
  for (const [index, { name }] of [one, other].entries()) {
    await run('ip', ['-n', name, 'address', 'add', `${addresses[index]}/24`, 'dev', 'line']);
    await run('ip', ['-n', name, 'link', 'set', 'line', 'up']);
  }
  // The other end keeps its address and its routes.
  const set = async (state: 'up' | 'down'): Promise<void> =>
    void (await run('ip', ['-n', one.name, 'link', 'set', 'line', state]));
  return { addresses, cut: () => set('down'), mend: () => set('up') };
}
