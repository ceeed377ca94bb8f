import { ArchiveError, withFileName } from '../archive/archive-error.ts';
import { listBeside, openArchive } from '../archive/parts.ts';
import { loadConfig } from '../config/load.ts';
import { shownBytes } from '../config/units.ts';
import type { OperationContext } from '../http/operations.ts';
import { noInput } from '../http/operations.ts';
import { type ImportEvent, type ImportTarget, importArchive } from '../operations/command/import-archive.ts';
import type { Operations } from '../site/operations.ts';
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
        const target = importTarget(cache.operations, signal);
        using shown = new ShownImport(io, { isJson: options.json === true });
        const onBytes = (bytes: number): void => shown.received(bytes);
        const listed = (await listBeside(paths[0]!))?.id;
        for await (const event of importArchive(archive, target, { name: options.name, listed, onBytes, signal })) {
          shown.take(event);
        }
        shown.end();
        const { refused, damaged } = shown;
        if (refused.length > 0) throw new ArchiveError(refusal(refused));
        if (damaged.length > 0) throw new ArchiveError(damage(damaged));
      } catch (error) {
        signal.throwIfAborted();
        throw withFileName(error, paths);
      }
    });
}

/** A cache that is brought something by its operations. */
export function importTarget(operations: Operations, signal: AbortSignal): ImportTarget {
  const context = (input: OperationContext['input'] = noInput()): OperationContext => ({ signal, input });
  return {
    names: async (names) => await first(operations.importNames({ names }, context())),
    async hold(blobs, archive) {
      const events = operations.importHold({ blobs, archive }, context())[Symbol.asyncIterator]();
      const { value, done } = await events.next();
      if (done === true) throw unanswered();
      return {
        ...value,
        async [Symbol.asyncDispose]() {
          await events.return?.();
        },
      };
    },
    async requireRoom(bytes) {
      await first(operations.importRoom({ bytes }, context()));
    },
    async receive(blob, { name, body }) {
      return await first(operations.importBlob({ ...blob, name }, context(body)));
    },
    async delivered(digests, { archive, base }) {
      await first(operations.importDelivered({ digests, archive, base }, context()));
    },
    adopt: (images, archive) => operations.importImages({ images, archive }, context()),
  };
}

async function first<Event>(events: AsyncIterable<Event>): Promise<Event> {
  const found: Event[] = [];
  for await (const event of events) found.push(event);
  if (found.length === 0) throw unanswered();
  return found[0]!;
}

function unanswered(): Error {
  return new Error('the mirror has not answered');
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
