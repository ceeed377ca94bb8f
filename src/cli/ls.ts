import { acceptedDurations, acceptedSizes, parseBytes, parseDurationMs } from '../config/units.ts';
import type { ListParameters } from '../operations/protocol/administration.ts';
import { listOrders } from '../operations/protocol/administration.ts';
import { addConfigFlags, type Command, type CommandIo, UsageError } from './command.ts';
import { ImageTable, pinText, totalText } from './image-table.ts';
import { requireSelections } from './input.ts';
import { withOperations } from './operation-command.ts';

interface ListFlags {
  readonly upstream?: string;
  readonly pinned?: true;
  readonly incomplete?: true;
  readonly unusedFor?: string;
  readonly largerThan?: string;
  readonly sort: string;
  readonly reverse?: true;
  readonly limit?: string;
  readonly digests?: true;
  readonly json?: true;
}

/** `millpond ls`: what is in the cache. */
export function registerLs(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('ls'))
    .description('list the images in the cache with their size, the size shared with others, and their last use')
    .argument('[image...]', "repositories, images or patterns, such as nginx, nginx:1.27 or 'ghcr.io/org/*:v1.*'")
    .option('--upstream <name>', 'only images of this upstream')
    .option('--pinned', 'only pinned images')
    .option('--incomplete', 'only images that cannot be pulled without their upstream')
    .option('--unused-for <duration>', 'only images not used for this long, such as 30d')
    .option('--larger-than <size>', 'only images with more stored than this, such as 1GiB')
    .option('--sort <order>', `${listOrders.join(', ')}: largest, last used, last checked first`, 'name')
    .option('--reverse', 'reverse the order')
    .option('--limit <count>', 'maximum number of images (default: 1000 if sorted or reversed, else all)')
    .option('--digests', 'show the digest of each image')
    .option('--json', 'one JSON object per line for each image, and one for the total')
    .action(async (images: readonly string[], flags: ListFlags, command: Command) => {
      requireSelections(images, 'all');
      const parameters = readFlags(images, flags);
      await withOperations(command, io, async ({ operations, context }) => {
        const table = new ImageTable({
          isTree: parameters.sort === 'name' && !flags.reverse,
          digests: flags.digests === true,
          now: Date.now,
        });
        let found = 0;
        for await (const event of operations.list(parameters, context)) {
          if (event.kind !== 'total') found += 1;
          if (flags.json) io.stdout.write(`${JSON.stringify(event)}\n`);
          else if (event.kind === 'image')
            io.stdout.write(
              table
                .lines(event)
                .map((line) => `${line}\n`)
                .join(''),
            );
          else io.stdout.write(`${event.kind === 'pin' ? pinText(event) : totalText(event)}\n`);
        }
        if (found === 0 && !flags.json && narrows(parameters)) io.stderr.write('millpond: nothing matches\n');
      });
    });
}

/** Whether the parameters can exclude an image. */
function narrows(parameters: ListParameters): boolean {
  const { images, upstream, pinned, incomplete, unusedForMs, largerThanBytes } = parameters;
  const filters = [upstream, pinned, incomplete, unusedForMs, largerThanBytes];
  return images.length > 0 || filters.some((filter) => filter !== undefined);
}

/** @throws UsageError */
function readFlags(images: readonly string[], flags: ListFlags): ListParameters {
  const { upstream, pinned, incomplete, reverse } = flags;
  const sort = listOrders.find((order) => order === flags.sort);
  if (sort === undefined) throw new UsageError(`--sort ${flags.sort}: accepted: ${listOrders.join(', ')}`);
  const limit = flags.limit === undefined ? undefined : Number(flags.limit);
  if (limit !== undefined && !(Number.isSafeInteger(limit) && limit > 0)) {
    throw new UsageError(`--limit ${flags.limit}: accepted: a whole number from 1 on`);
  }
  const unusedForMs = read(flags.unusedFor, parseDurationMs, { flag: '--unused-for', accepted: acceptedDurations });
  const largerThanBytes = read(flags.largerThan, parseBytes, { flag: '--larger-than', accepted: acceptedSizes });
  return { images, upstream, pinned, incomplete, unusedForMs, largerThanBytes, sort, reverse, limit };
}

function read(
  text: string | undefined,
  parse: (text: string) => number | undefined,
  { flag, accepted }: { readonly flag: string; readonly accepted: string },
): number | undefined {
  if (text === undefined) return undefined;
  const value = parse(text);
  if (value === undefined) throw new UsageError(`${flag} ${text}: accepted: ${accepted}`);
  return value;
}
