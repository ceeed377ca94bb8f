import type { HeldEvent } from '../operations/protocol/holds.ts';
import { addConfigFlags, type Command, type CommandIo, UsageError } from './command.ts';
import { withOperations } from './operation-command.ts';
import { plural } from './terminal.ts';

interface DecisionFlags {
  readonly list?: true;
  readonly reason?: string;
  readonly json?: true;
}

/** `millpond approve`: lets images be pulled that are held for a scanner. */
export function registerApprove(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('approve'))
    .description('let images be pulled that are held for scanning, with all that their indexes list')
    .argument('[image...]', 'such as docker.io/library/nginx:1.27 or local/app@sha256:…')
    .option('--list', 'list what is held, and what was rejected')
    .option('--json', 'one JSON object per line')
    .action(async (images: readonly string[], flags: DecisionFlags, command: Command) => {
      if (flags.list === true) return await list(command, { io, isJson: flags.json === true });
      await decide(images, 'approved', { io, flags, command });
    });
}

/** `millpond reject`: keeps images from being pulled. */
export function registerReject(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('reject'))
    .description('keep images from being pulled, with all that their indexes list, until they are approved')
    .argument('<image...>', 'such as docker.io/library/nginx:1.27 or local/app@sha256:…')
    .option('--reason <text>', 'shown to clients that pull it')
    .option('--json', 'one JSON object per line')
    .action(async (images: readonly string[], flags: DecisionFlags, command: Command) => {
      await decide(images, 'rejected', { io, flags, command });
    });
}

async function decide(
  images: readonly string[],
  verdict: 'approved' | 'rejected',
  { io, flags, command }: { readonly io: CommandIo; readonly flags: DecisionFlags; readonly command: Command },
): Promise<void> {
  if (images.length === 0) throw new UsageError('no image is named');
  const { reason } = flags;
  await withOperations(command, { ...io, makesCache: true }, async ({ operations, context }) => {
    for await (const event of operations.decide(
      { images, verdict, ...(reason !== undefined && { reason }) },
      context,
    )) {
      const { name, digest, manifests } = event;
      const parts = manifests === 1 ? '' : ` (${manifests} ${plural(manifests, 'manifest')})`;
      io.stdout.write(flags.json ? `${JSON.stringify(event)}\n` : `${verdict} ${name} ${digest}${parts}\n`);
    }
  });
}

async function list(
  command: Command,
  { io, isJson }: { readonly io: CommandIo; readonly isJson: boolean },
): Promise<void> {
  await withOperations(command, io, async ({ operations, context }) => {
    for await (const event of operations.listHeld({}, context)) {
      io.stdout.write(isJson ? `${JSON.stringify(event)}\n` : `${line(event)}\n`);
    }
  });
}

function line({ repository, digest, state, heldAt, reason }: HeldEvent): string {
  return `${state} ${repository}@${digest} since ${heldAt}${reason === null ? '' : `: ${reason}`}`;
}
