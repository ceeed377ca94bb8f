import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ArchiveError, withFileName } from '../archive/archive-error.ts';
import { listBeside, openArchive } from '../archive/parts.ts';
import { spool } from '../archive/spooled-file.ts';
import { openSpooled } from '../archive/tar-archive.ts';
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { shownBytes } from '../config/units.ts';
import { NoRoom } from '../operations/command/asking.ts';
import { importArchive } from '../operations/command/import-archive.ts';
import { isCache, layoutOf } from '../store/files/layout.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags, UsageError } from './command.ts';
import { ImportReport } from './import-report.ts';
import { interruption } from './interruption.ts';
import { openOperations } from './open-operations.ts';

interface ImportFlags {
  readonly name?: string;
  readonly dryRun?: true;
  readonly json?: true;
}

/** `millpond import`: loads the images of an archive into the cache. */
export function registerImport(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('import'))
    .description(
      'verify an archive and load its images: OCI image layouts, docker save, and what other tools make of these',
    )
    .argument(
      '<archive...>',
      'a tar archive (plain, gzip, zstd), its parts in any order, or a folder; "-" is standard input',
    )
    .option('--name <image>', 'the name of the image, or the repository of the images, where the archive has none')
    .option('--dry-run', 'say what would change, image by image, and change nothing')
    .option('--json', 'one JSON object a line for each event')
    .action(async (paths: readonly string[], options: ImportFlags, command: Command) => {
      const { config } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      using interrupted = interruption();
      const { signal } = interrupted;
      const dryRun = options.dryRun === true;
      try {
        await using owned = new AsyncDisposableStack();
        const isStream = paths[0] === '-';
        if (isStream && paths.length > 1)
          throw new UsageError('standard input is the whole archive: name nothing else');
        const opened = isStream ? undefined : owned.use(await openArchive(paths, signal));
        const used = dryRun ? owned.use(await seenOnly(config)) : { config };
        const { operations } = owned.use(await openOperations(used.config, 'import'));
        const { ingest } = layoutOf(used.config.cache.dir);
        const archive =
          opened ?? owned.use(await openSpooled(await spool(io.stdin, { folder: ingest, signal }), signal));
        using report = new ImportReport(io, { isJson: options.json === true, dryRun });
        const onBytes = (bytes: number): void => report.received(bytes);
        const listed = isStream ? undefined : (await listBeside(paths[0]!))?.id;
        const importing = { name: options.name, listed, dryRun, onBytes, signal };
        for await (const event of importArchive(archive, operations, importing)) report.take(event);
        report.end();
      } catch (error) {
        signal.throwIfAborted();
        throw inWords(error, paths);
      }
    });
}

/** Where there is no cache yet, a dry run looks at an empty one elsewhere. */
async function seenOnly(config: Config): Promise<AsyncDisposable & { readonly config: Config }> {
  if (await isCache(layoutOf(config.cache.dir))) return { config, [Symbol.asyncDispose]: async () => undefined };
  const dir = await mkdtemp(join(tmpdir(), 'millpond-'));
  return {
    config: { ...config, cache: { ...config.cache, dir } },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

/** The error, in words for the terminal. */
function inWords(error: unknown, paths: readonly string[]): unknown {
  if (!(error instanceof NoRoom)) return withFileName(error, paths);
  const { bytes, room } = error;
  const pinned = room.pinnedBytes === 0 ? '' : ` beside ${shownBytes(room.pinnedBytes)} that are pinned`;
  const maxSize = shownBytes(room.maxSizeBytes);
  return withFileName(
    new ArchiveError(`it brings ${shownBytes(bytes)}${pinned}, more than cache.maxSize (${maxSize}) has room for`),
    paths,
  );
}
