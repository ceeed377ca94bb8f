import { acceptedDurations, parseDurationMs } from '../config/units.ts';
import type { KeyEvent, KeyParameters } from '../operations/protocol/keys.ts';
import { addConfigFlags, type Command, type CommandIo, UsageError } from './command.ts';
import { withOperations } from './operation-command.ts';

const actions = ['pull', 'push', 'delete', 'search', 'administer'] as const;

interface CreateFlags {
  readonly repositories: string;
  readonly actions: string;
  readonly expires?: string;
  readonly json?: true;
}

interface JsonFlag {
  readonly json?: true;
}

/** `millpond key`: API keys of robots. */
export function registerKey(program: Command, io: CommandIo): void {
  const key = program.command('key').description('make, list and remove API keys');
  addConfigFlags(key.command('create'))
    .description('make a key and print it: only its hash is kept, so that it cannot be shown again')
    .argument('<name>', "the caller's name in policies and in the audit log, such as ci")
    .option('--repositories <patterns>', 'full names or patterns with commas, such as docker.io/**,local/ci/**', '**')
    .option('--actions <list>', `with commas: ${actions.join(', ')}`, 'pull')
    .option('--expires <duration>', 'how long it is valid, such as 90d (default: until it is removed)')
    .option('--json', 'as one JSON object')
    .action(async (name: string, flags: CreateFlags, command: Command) => {
      const parameters = readFlags(name, flags);
      await withOperations(command, { ...io, makesCache: true }, async ({ operations, context }) => {
        for await (const made of operations.keyCreate(parameters, context)) {
          io.stdout.write(flags.json ? `${JSON.stringify(made)}\n` : `${made.key}\n`);
          if (!flags.json) io.stderr.write(`${line(made)}\nUse it as a password, with any user name.\n`);
        }
      });
    });
  addConfigFlags(key.command('ls'))
    .description('list the keys, without their secrets')
    .option('--json', 'one JSON object per line for each key')
    .action(async (flags: JsonFlag, command: Command) => {
      await withOperations(command, io, async ({ operations, context }) => {
        for await (const event of operations.keyList({}, context)) show(event, { io, isJson: flags.json === true });
      });
    });
  addConfigFlags(key.command('rm'))
    .description('remove keys; tokens made with them stop working at once')
    .argument('<key...>', 'ids as "key ls" shows them, or names')
    .option('--json', 'one JSON object per line for each key')
    .action(async (keys: readonly string[], flags: JsonFlag, command: Command) => {
      await withOperations(command, io, async ({ operations, context }) => {
        for await (const event of operations.keyRemove({ keys }, context)) {
          show(event, { io, isJson: flags.json === true });
        }
      });
    });
}

function readFlags(name: string, flags: CreateFlags): KeyParameters {
  if (!/^[^\s:]{1,100}$/.test(name))
    throw new UsageError(`"${name}" is no name: no spaces, no colons, at most 100 characters`);
  const list = (text: string): string[] => text.split(',').map((part) => part.trim());
  const repositories = list(flags.repositories);
  const odd = repositories.find((one) => !/^[a-z0-9._*:[\]-]+(?:\/[a-z0-9._*-]+)*$/.test(one));
  if (odd !== undefined) throw new UsageError(`--repositories: "${odd}" is no pattern of full repository names`);
  const wanted = list(flags.actions).map((text) => {
    const action = actions.find((one) => one === text);
    if (action === undefined) throw new UsageError(`--actions: found "${text}"; accepted: ${actions.join(', ')}`);
    return action;
  });
  const lifeMs = flags.expires === undefined ? undefined : parseDurationMs(flags.expires);
  if (flags.expires !== undefined && !lifeMs) {
    throw new UsageError(`--expires: found "${flags.expires}"; accepted: ${acceptedDurations}`);
  }
  return { name, repositories, actions: wanted, lifeMs };
}

function show(event: KeyEvent, { io, isJson }: { readonly io: CommandIo; readonly isJson: boolean }): void {
  io.stdout.write(`${isJson ? JSON.stringify(event) : line(event)}\n`);
}

function line({ id, name, repositories, actions: allowed, expiresAt }: KeyEvent): string {
  const end = expiresAt === null ? 'never expires' : `expires ${expiresAt}`;
  return `${id}  ${name}  ${allowed.join(',')}  ${repositories.join(',')}  ${end}`;
}
