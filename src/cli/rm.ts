import { shownBytes } from '../config/units.ts';
import type { RemovalEvent } from '../operations/protocol/administration.ts';
import { addConfigFlags, type Command, type CommandIo } from './command.ts';
import { requireSelections } from './input.ts';
import { withOperations } from './operation-command.ts';
import { plural } from './terminal.ts';

interface RemoveFlags {
  readonly force?: true;
  readonly dryRun?: true;
  readonly json?: true;
}

/** `millpond rm`: takes images out of the cache. */
export function registerRm(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('rm'))
    .description('remove images from the cache, with their signatures and what no other image needs')
    .argument(
      '<image...>',
      "such as nginx:1.27, nginx@sha256:… or 'ghcr.io/org/*:v1.*'; without a tag latest is meant, 'nginx:*' is every tag",
    )
    .option('--force', 'pinned ones too; their pins stay in force')
    .option('--dry-run', 'only say what would be removed')
    .option('--json', 'one JSON object a line for each image, and one for the total')
    .action(async (images: readonly string[], flags: RemoveFlags, command: Command) => {
      requireSelections(images, 'latest');
      const { force = false, dryRun = false } = flags;
      await withOperations(command, io, async ({ operations, context }) => {
        const total = { removed: 0, blobs: 0, bytes: 0, kept: 0, refused: 0 };
        for await (const event of operations.remove({ images, force, dryRun }, context)) {
          if (event.kind === 'removed') {
            total.removed += 1;
            total.blobs += event.blobs;
            total.bytes += event.bytes;
          } else total[event.isRefused ? 'refused' : 'kept'] += 1;
          if (flags.json) io.stdout.write(`${JSON.stringify(event)}\n`);
          else (refuses(event) ? io.stderr : io.stdout).write(`${eventText(event, dryRun)}\n`);
        }
        if (flags.json) io.stdout.write(`${JSON.stringify({ kind: 'total', dryRun, ...total })}\n`);
        else if (total.removed > 1) io.stdout.write(`${totalText(total, dryRun)}\n`);
        if (total.refused > 0) {
          throw new Error(`${total.refused} of what was asked for ${total.refused === 1 ? 'was' : 'were'} not removed`);
        }
      });
    });
}

function refuses(event: RemovalEvent): boolean {
  return event.kind === 'kept' && event.isRefused;
}

function eventText(event: RemovalEvent, dryRun: boolean): string {
  if (event.kind === 'kept') {
    return event.isRefused ? `millpond: ${event.name}: ${event.reason}` : `kept ${event.name}: ${event.reason}`;
  }
  const { name, blobs, bytes, keptBytes, pinnedByDigest } = event;
  const shared = keptBytes === 0 ? '' : `, ${shownBytes(keptBytes)} shared with others`;
  const pinned = pinnedByDigest ? '; the image stays, pinned by its digest' : '';
  return `${dryRun ? 'would remove' : 'removed'} ${name}: ${figures({ blobs, bytes })}${shared}${pinned}`;
}

function totalText({ removed, ...freed }: { removed: number; blobs: number; bytes: number }, dryRun: boolean): string {
  return `${removed} images: ${figures(freed)} ${dryRun ? 'would come free' : 'came free'}`;
}

function figures({ blobs, bytes }: { blobs: number; bytes: number }): string {
  return `${blobs} ${plural(blobs, 'blob')}, ${shownBytes(bytes)}`;
}
