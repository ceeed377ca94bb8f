import { ArchiveError, withFileName } from '../archive/archive-error.ts';
import { listBeside, openArchive } from '../archive/parts.ts';
import { loadConfig } from '../config/load.ts';
import { shownBytes } from '../config/units.ts';
import { NoRoom } from '../operations/command/asking.ts';
import { type ImportEvent, importArchive } from '../operations/command/import-archive.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags } from './command.ts';
import { interruption } from './interruption.ts';
import { openOperations } from './open-operations.ts';
import { Progress } from './progress.ts';
import { shownDigest } from './terminal.ts';

type RefusedEvent = Extract<ImportEvent, { kind: 'refused' }>;
type DamagedEvent = Extract<ImportEvent, { kind: 'damaged' }>;

interface ImportFlags {
  readonly name?: string;
  readonly json?: true;
}

/** `millpond import`: loads the images of an archive into the cache. */
export function registerImport(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('import'))
    .description(
      'verify an archive and load its images: of millpond export, skopeo, umoci, docker save, ctr images export',
    )
    .argument(
      '<archive...>',
      'a tar archive (plain, gzip, zstd), its parts in any order, or a folder with an image layout',
    )
    .option('--name <image>', 'what to call its image, or the repository of its images, where it does not say')
    .option('--json', 'one JSON object a line for each event')
    .action(async (paths: readonly string[], options: ImportFlags, command: Command) => {
      const { config } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      using interrupted = interruption();
      const { signal } = interrupted;
      try {
        await using archive = await openArchive(paths, signal);
        await using cache = await openOperations(config, 'import');
        using shown = new ShownImport(io, { isJson: options.json === true });
        const onBytes = (bytes: number): void => shown.received(bytes);
        const listed = (await listBeside(paths[0]!))?.id;
        for await (const event of importArchive(archive, cache.operations, {
          name: options.name,
          listed,
          onBytes,
          signal,
        })) {
          shown.take(event);
        }
        shown.end();
        const { refused, damaged } = shown;
        if (refused.length > 0) throw new ArchiveError(refusal(refused));
        if (damaged.length > 0) throw new ArchiveError(damage(damaged));
      } catch (error) {
        signal.throwIfAborted();
        throw inWords(error, paths);
      }
    });
}

/** What went wrong, in words for the terminal. */
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

/** @param images that have not been taken in, at least one. @returns one line */
function refusal([refused, ...others]: readonly RefusedEvent[]): string {
  const why = refused?.reason ?? '';
  return others.length === 0 ? why : `${others.length + 1} of its images have not been taken in; of the first: ${why}`;
}

/** @param blobs that are damaged, at least one. @returns one line */
function damage([damaged, ...others]: readonly DamagedEvent[]): string {
  const which = damaged?.reason ?? '';
  return others.length === 0 ? which : `${others.length + 1} of its blobs are damaged; of the first: ${which}`;
}

/** What of an import is seen on the terminal. */
class ShownImport implements Disposable {
  readonly #io: CommandIo;
  readonly #isJson: boolean;
  readonly #progress: Progress;
  #plan: Extract<ImportEvent, { kind: 'plan' }> | undefined;
  #receivedBytes = 0;
  #attachments = 0;
  readonly #taken = { blobs: 0, bytes: 0 };
  /** Images that have not been taken in. */
  readonly refused: RefusedEvent[] = [];
  readonly damaged: DamagedEvent[] = [];

  constructor(io: CommandIo, { isJson }: { isJson: boolean }) {
    this.#io = io;
    this.#isJson = isJson;
    this.#progress = new Progress(io.stdout, { now: () => performance.now() });
  }

  received(bytes: number): void {
    this.#receivedBytes += bytes;
    if (this.#isJson) return;
    const total = { label: 'in all', doneBytes: this.#receivedBytes, totalBytes: this.#plan?.bytes };
    this.#progress.update(() => ({ rows: [], total }));
  }

  take(event: ImportEvent): void {
    if (this.#isJson) {
      this.#io.stdout.write(`${JSON.stringify(event)}\n`);
    } else if (event.kind === 'image' && !event.isAttachment) {
      this.#progress.line(`${event.name} ${shownDigest(event.digest)}`);
      const absent = event.leftOut.filter(({ damage: damaged }) => damaged === undefined).map(({ name }) => name);
      if (absent.length > 0) this.#progress.line(`  without ${absent.join(', ')}`);
      for (const { name, damage: damaged } of event.leftOut) {
        if (damaged !== undefined) this.#progress.line(`  without ${name}: ${damaged}`);
      }
    } else if (event.kind === 'damaged') {
      this.#progress.line(`damaged: ${event.reason}`);
    } else if (event.kind === 'left-out') {
      this.#progress.line(`left out ${event.name}: ${event.reason}`);
    } else if (event.kind === 'refused') {
      this.#progress.line(`refused ${event.name}: ${event.reason}`);
    }
    if (event.kind === 'refused') this.refused.push(event);
    if (event.kind === 'damaged') this.damaged.push(event);
    if (event.kind === 'plan') this.#plan = event;
    if (event.kind === 'blob') {
      this.#taken.blobs += 1;
      this.#taken.bytes += event.size;
    }
    if (event.kind === 'image' && event.isAttachment) this.#attachments += 1;
  }

  end(): void {
    const { images: planned = 0, present = 0 } = this.#plan ?? {};
    const images = planned - this.refused.length;
    const { blobs, bytes } = this.#taken;
    const along = this.#attachments === 0 ? '' : ` with ${this.#attachments} that go with them`;
    const summary = `${images} images${along}: ${blobs} blobs taken in (${shownBytes(bytes)}), ${present} were here`;
    const end = { kind: 'end', images, blobs, bytes, present, damaged: this.damaged.length };
    if (this.#isJson) this.#io.stdout.write(`${JSON.stringify(end)}\n`);
    else this.#progress.line(summary);
  }

  [Symbol.dispose](): void {
    this.#progress[Symbol.dispose]();
  }
}
