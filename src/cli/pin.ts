import type { PinEvent } from '../operations/protocol/administration.ts';
import { addConfigFlags, type Command, type CommandIo } from './command.ts';
import { requireSelections } from './input.ts';
import { withOperations } from './operation-command.ts';

const names =
  "such as nginx:1.27, nginx@sha256:… or 'ghcr.io/org/*:v1.*'; without a tag: latest; 'nginx:*' is every tag";

/** `millpond pin`: keeps images. */
export function registerPin(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('pin'))
    .description('exempt images from eviction; a tag stays pinned when it moves')
    .argument('<image...>', `${names} stored now`)
    .option('--json', 'one JSON object per line for each image')
    .action(async (images: readonly string[], flags: { readonly json?: true }, command: Command) => {
      requireSelections(images, 'latest');
      await withOperations(command, { ...io, makesCache: true }, async ({ operations, context }) => {
        let missed = 0;
        for await (const event of operations.pin({ images }, context)) {
          const isRefused = event.kind === 'unchanged' && event.reason === 'matches nothing here';
          if (isRefused) missed += 1;
          show(event, { io, isJson: flags.json === true, isRefused });
        }
        if (missed > 0) throw new Error('nothing to pin: to pin future images, put a pattern under cache.pins');
      });
    });
}

/** `millpond unpin`: lets images be evicted again. */
export function registerUnpin(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('unpin'))
    .description('remove pins: the images stay until space is needed')
    .argument('<image...>', names)
    .option('--json', 'one JSON object per line for each image')
    .action(async (images: readonly string[], flags: { readonly json?: true }, command: Command) => {
      requireSelections(images, 'latest');
      await withOperations(command, io, async ({ operations, context }) => {
        let unchanged = 0;
        for await (const event of operations.unpin({ images }, context)) {
          const isRefused = event.kind === 'unchanged';
          if (isRefused) unchanged += 1;
          show(event, { io, isJson: flags.json === true, isRefused });
        }
        if (unchanged > 0)
          throw new Error(`${unchanged} of what was asked for ${unchanged === 1 ? 'was' : 'were'} not unpinned`);
      });
    });
}

function show(
  event: PinEvent,
  { io, isJson, isRefused }: { readonly io: CommandIo; readonly isJson: boolean; readonly isRefused: boolean },
): void {
  if (isJson) io.stdout.write(`${JSON.stringify(event)}\n`);
  else if (isRefused) io.stderr.write(`millpond: ${event.name}: ${event.reason}\n`);
  else if (event.kind === 'unchanged') io.stdout.write(`${event.name} ${event.reason}\n`);
  else io.stdout.write(`${event.kind} ${event.name}${event.reason === null ? '' : ` (${event.reason})`}\n`);
}
