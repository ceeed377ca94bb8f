import { shownBytes } from '../config/units.ts';
import { shownEntry } from '../discovery/search/entry.ts';
import { maxResults } from '../discovery/search/search-parameters.ts';
import type { SearchEvent } from '../operations/protocol/search.ts';
import { addConfigFlags, type Command, type CommandIo, UsageError } from './command.ts';
import { withOperations } from './operation-command.ts';
import { counted, shownAge, table } from './terminal.ts';

const ownerAway = 'hosted repositories are not searched: the replica that keeps them cannot be reached';

type Found = Extract<SearchEvent, { kind: 'found' }>;

interface SearchFlags {
  readonly type?: string;
  readonly mediaType?: string;
  readonly platform?: string;
  readonly digest?: string;
  readonly repository?: string;
  readonly minSize?: string;
  readonly maxSize?: string;
  readonly time?: string;
  readonly since?: string;
  readonly until?: string;
  readonly sort?: string;
  readonly limit: string;
  readonly versions?: string | true;
  readonly all?: true;
  readonly json?: true;
}

/** `millpond search`: what is here, found by what is known of it. */
export function registerSearch(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('search'))
    .description('find images and artifacts by name, annotation, type, platform, time or size; the newest of each')
    .argument('[words...]', 'words, or beginnings of words, of repositories, tags and annotations')
    .option('--type <names>', 'only these types, such as helm or signature,sbom')
    .option('--media-type <types>', 'only these media types of the artifact, its config or layers')
    .option('--platform <platform>', 'only this platform, such as linux/arm64')
    .option('--digest <digest>', 'only what has this digest or names it; 6 digits of it are enough')
    .option('--repository <name>', 'only this repository, or all that end so: charts/app')
    .option('--min-size <size>', 'at least this large, such as 100MiB')
    .option('--max-size <size>', 'at most this large')
    .option('--time <which>', 'what --since and --until are about: created, changed, cached, pulled (default: changed)')
    .option('--since <time>', 'not before this, such as 7d or 2026-11-30')
    .option('--until <time>', 'not after this')
    .option(
      '--sort <order>',
      'name, version, date, created, changed, cached, pulled, size, pulls; -date: the latest first',
    )
    .option('--limit <count>', `maximum number of results`, '100')
    .option('--versions [repository]', 'all versions, the highest first, instead of the newest')
    .option('--all', 'all tags instead of the newest')
    .option('--json', 'one JSON object per line')
    .action(async (words: readonly string[], flags: SearchFlags, command: Command) => {
      const limit = Number(flags.limit);
      if (!(Number.isSafeInteger(limit) && limit > 0)) {
        throw new UsageError(`--limit ${flags.limit}: accepted: a whole number from 1 on`);
      }
      const query = queryOf(words, flags).toString();
      await withOperations(command, io, async ({ operations, context }) => {
        const found: Found[] = [];
        let isMore = false;
        for await (const event of operations.search({ query, limit }, context)) {
          if (event.kind === 'end') {
            isMore = event.more;
            if (event.ownerAway === true) io.stderr.write(`millpond: ${ownerAway}\n`);
          } else if (flags.json) io.stdout.write(`${JSON.stringify(shownEntry(event))}\n`);
          else found.push(event);
        }
        if (flags.json) return;
        if (found.length === 0) io.stderr.write('millpond: nothing matches\n');
        else io.stdout.write(`${foundText(found, Date.now()).join('\n')}\n`);
        if (isMore) io.stderr.write(`millpond: there are more than ${counted(limit, 'result')}: see --limit\n`);
      });
    });
}

/** The parameters of the extension, from words and options. */
function queryOf(words: readonly string[], flags: SearchFlags): URLSearchParams {
  const parameters = new URLSearchParams();
  // `--versions charts/app` and `charts/app --versions` mean the same.
  const named = typeof flags.versions === 'string' ? flags.versions : undefined;
  const isOfOne = flags.versions === true && words.length === 1 && flags.repository === undefined;
  const repository = named ?? flags.repository ?? (isOfOne ? words[0] : undefined);
  if (!isOfOne && words.length > 0) parameters.set('q', words.join(' '));
  const given: readonly (readonly [string, string | undefined])[] = [
    ['type', flags.type],
    ['mediaType', flags.mediaType],
    ['platform', flags.platform],
    ['digest', flags.digest],
    ['repository', repository],
    ['minSize', flags.minSize],
    ['maxSize', flags.maxSize],
    ['time', flags.time],
    ['since', flags.since],
    ['until', flags.until],
    ['sort', flags.sort ?? (flags.versions === undefined ? undefined : '-version')],
    ['latest', flags.versions === undefined && flags.all === undefined ? 'true' : undefined],
    ['n', String(Math.min(Number(flags.limit), maxResults))],
  ];
  for (const [name, value] of given) if (value !== undefined) parameters.set(name, value);
  return parameters;
}

function foundText(found: readonly Found[], nowMs: number): string[] {
  const rows = found.map((entry) => [
    entry.tag === null ? `${entry.repository}@${entry.digest.slice(0, 19)}` : `${entry.repository}:${entry.tag}`,
    entry.type,
    shownBytes(entry.sizeBytes),
    entry.changedAtMs === 0 ? '–' : shownAge(nowMs - entry.changedAtMs),
    String(entry.pulls),
    entry.annotations['org.opencontainers.image.description']?.replaceAll(/\s+/g, ' ').slice(0, 60) ?? '',
  ]);
  return table([['NAME', 'TYPE', 'SIZE', 'CHANGED', 'PULLS', 'DESCRIPTION'], ...rows]);
}
