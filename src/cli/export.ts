import { resolve } from 'node:path';
import { ArchiveOutput, type WrittenFile } from '../archive/archive-output.ts';
import { type ArchivePlan, type ExportedImage, planArchive, writeArchive } from '../archive/archive-writer.ts';
import { readBase } from '../archive/base.ts';
import { checksumListPath } from '../archive/checksum-list.ts';
import type { BlobSize } from '../archive/description.ts';
import { StreamOutput } from '../archive/stream-output.ts';
import { readImageList } from '../config/image-list.ts';
import { parseBytes, shownBytes } from '../config/units.ts';
import type { Platform } from '../oci/platform.ts';
import { holdAll } from '../operations/command/asking.ts';
import type { ExportEvent } from '../operations/protocol/export.ts';
import { blobPlaces } from '../site/hosted.ts';
import { wantedImages } from '../site/prefetcher.ts';
import { readVerified } from '../store/files/verified-read.ts';
import { addConfigFlags, type Command, type CommandIo, UsageError } from './command.ts';
import { readInput, readPlatforms, requireImage } from './input.ts';
import { type OperationRun, withOperations } from './operation-command.ts';
import { Progress, type ProgressOutput } from './progress.ts';
import { counted, shownDigest } from './terminal.ts';

interface ExportFlags {
  readonly output?: string;
  readonly dryRun?: true;
  readonly file?: string;
  readonly since?: string;
  readonly split?: string;
  readonly platform?: string;
  readonly referrers: boolean;
  readonly nondistributable?: true;
  readonly json?: true;
}

type WantedExport = ReturnType<typeof wantedImages>;

/** Parts with fewer bytes would be too many. */
const minSplitBytes = 4096;

/** `millpond export`: writes stored images into an archive. */
export function registerExport(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('export'))
    .description('write stored images, with their signatures and referrers, into a tar archive (OCI image layout)')
    .argument('[images...]', 'such as docker.io/library/nginx:1.27 or ghcr.io/org/app@sha256:…')
    .option('--output <file>', 'the archive; a list of checksums is written next to it; "-" is standard output')
    .option('--dry-run', 'list what would be written, image by image, and write nothing')
    .option('--file <file>', 'a list of images, as for millpond fetch')
    .option('--since <archive>', 'only what this earlier archive, or its list, does not contain')
    .option('--split <size>', 'write parts of at most this size, such as 4GB')
    .option('--platform <platforms>', 'only these, such as linux/amd64,linux/arm64 (default: all that are stored)')
    .option('--no-referrers', 'without signatures and other referrers')
    .option('--nondistributable', 'include layers that registries need not store')
    .option('--json', 'one JSON object per line for each event')
    .action(async (names: readonly string[], options: ExportFlags, command: Command) => {
      const platforms = readPlatforms(options.platform);
      for (const name of names) requireImage(name);
      const wanted: WantedExport[] = names.map((image) => ({ image }));
      if (options.file !== undefined) {
        const text = await readInput(options.file, io);
        wanted.push(...readImageList(text, options.file).map(wantedImages));
      }
      if (wanted.length === 0) throw new UsageError('no image is named: give names, or --file');
      const { output, dryRun = false } = options;
      if (output === undefined && !dryRun) throw new UsageError('no archive is named: give --output');
      const splitBytes = readSplit(options.split);
      const isStream = output === '-' && !dryRun;
      if (isStream && splitBytes !== undefined) throw new UsageError('--split makes files: give --output a name');
      if (isStream && io.stdout.isTTY)
        throw new UsageError('an archive cannot be written to a terminal: redirect it, or use --output FILE');
      // Until all is written nothing of it is evicted, whatever process reads it and however slowly.
      await withOperations(command, io, async (run) => {
        const found = await findImages(wanted, { run, platforms, options, io });
        const plan = planArchive(found.images, options.since === undefined ? undefined : await readBase(options.since));
        await using held = new AsyncDisposableStack();
        if (!dryRun) await hold(plan, found, { run, held });
        using shown = new ShownExport(plan, {
          isJson: options.json === true,
          output: isStream ? io.stderr : io.stdout,
          progress: io.stderr,
        });
        shown.begin(found, { isDryRun: dryRun });
        if (output === undefined || dryRun) return;
        const places = blobPlaces(run.config.cache.dir);
        const writing = {
          signal: run.context.signal,
          read: (blob: BlobSize) => readVerified(places, blob),
          onWritten: (bytes: number) => shown.written(bytes),
        };
        if (isStream) {
          shown.end(await writeArchive(plan, new StreamOutput(io.stdout), writing), undefined);
          return;
        }
        const path = resolve(io.workingDirectory, output);
        await using archive = await ArchiveOutput.open(path, { bytes: plan.size, splitBytes });
        shown.end(await writeArchive(plan, archive, writing), checksumListPath(output));
      });
    });
}

/** Has the cache keep what is to be written. @throws Error with the name of the image, where something of it has gone */
async function hold(
  plan: ArchivePlan,
  { images }: FoundImages,
  { run: { operations, context }, held }: { run: OperationRun; held: AsyncDisposableStack },
): Promise<void> {
  const blobs = plan.files.flatMap((file) => ('digest' in file ? [file] : []));
  for await (const { lacking } of holdAll((some) => operations.exportHold({ blobs: some }, context), blobs, held)) {
    const [gone] = lacking;
    if (gone === undefined) continue;
    const of = images.find((image) => [...image.manifests, ...image.blobs].some(({ digest }) => digest === gone));
    throw new Error(`${of?.name ?? 'an image'} has lost ${gone} since it was looked at: fetch it again`);
  }
}

/** The images to write, and attachments that are incomplete here. */
interface FoundImages {
  readonly images: readonly ExportedImage[];
  readonly leftOut: readonly LeftOut[];
}

type LeftOut = Extract<ExportEvent, { kind: 'left-out' }>;

/** @throws Error if an image is not here; nothing is written then */
async function findImages(
  wanted: readonly WantedExport[],
  {
    run: { operations, context },
    platforms,
    options,
    io,
  }: { run: OperationRun; platforms: readonly Platform[]; options: ExportFlags; io: CommandIo },
): Promise<FoundImages> {
  const found = new Map<string, ExportedImage>();
  const leftOut = new Map<string, LeftOut>();
  const failures: string[] = [];
  for (const { platforms: own, referrers = true, ...image } of wanted) {
    const choice = {
      platforms: own === undefined ? platforms : readPlatforms(own.join(',')),
      referrers: referrers && options.referrers,
      nondistributable: options.nondistributable === true,
    };
    try {
      for await (const event of operations.exportImages({ ...image, ...choice }, context)) {
        if (event.kind === 'warned') {
          io.stderr.write(`millpond: warning: ${event.warning}\n`);
          continue;
        }
        if (event.kind === 'left-out') {
          leftOut.set(event.name, event);
          continue;
        }
        const part = event.image;
        found.set(part.name, joined(found.get(part.name), part));
      }
    } catch (error) {
      context.signal.throwIfAborted();
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  if (failures.length === 0) return { images: [...found.values()], leftOut: [...leftOut.values()] };
  if (failures.length === 1) throw new Error(failures[0]);
  for (const failure of failures) io.stderr.write(`millpond: ${failure}\n`);
  throw new Error(`${failures.length} of ${wanted.length} cannot be exported, nothing was written`);
}

/** An image with the requests of two lines combined. */
function joined(one: ExportedImage | undefined, other: ExportedImage): ExportedImage {
  // The meaning of its tag may have changed in between.
  if (one?.digest !== other.digest) return one?.isAttachment === false ? one : other;
  const union = (key: 'manifests' | 'blobs') => [
    ...new Map([...one[key], ...other[key]].map((blob) => [blob.digest, blob])).values(),
  ];
  const names = (key: 'lacks' | 'absent') => [...new Set([...one[key], ...other[key]])];
  return {
    ...one,
    isAttachment: one.isAttachment && other.isAttachment,
    lacks: names('lacks'),
    absent: names('absent'),
    container: one.container ?? other.container,
    manifests: union('manifests'),
    blobs: union('blobs'),
  };
}

/** The terminal output of an export. */
class ShownExport implements Disposable {
  readonly #plan: ArchivePlan;
  readonly #isJson: boolean;
  readonly #output: ProgressOutput;
  readonly #progress: Progress;
  #doneBytes = 0;

  /** @param options `output`: where results go; `progress`: where progress is shown */
  constructor(
    plan: ArchivePlan,
    { isJson, output, progress }: { isJson: boolean; output: ProgressOutput; progress: ProgressOutput },
  ) {
    this.#plan = plan;
    this.#isJson = isJson;
    this.#output = output;
    this.#progress = new Progress(progress, { now: () => performance.now(), lines: output });
  }

  begin({ images, leftOut }: FoundImages, { isDryRun }: { isDryRun: boolean }): void {
    const { id, base, size, blobs, leftOut: leftToBase } = this.#plan;
    const written = new Set(this.#plan.files.map((file) => ('digest' in file ? file.digest : undefined)));
    for (const { isAttachment, name, digest, lacks, absent, ...parts } of images) {
      const all = [...parts.manifests, ...parts.blobs];
      const bytes = bytesOf(all);
      const newBytes = bytesOf(all.filter((blob) => written.has(blob.digest)));
      if (this.#isJson) this.#say({ kind: 'image', isAttachment, name, digest, lacks, absent, bytes, newBytes });
      else if (isDryRun && !isAttachment) {
        this.#progress.line(
          `${name} ${shownDigest(digest)} ${shownBytes(bytes)}, ${shownBytes(newBytes)} to be written`,
        );
      }
      if (this.#isJson) continue;
      if (lacks.length > 0) this.#progress.line(`${name} without ${lacks.join(', ')}`);
      if (absent.length > 0) this.#progress.line(`${name} without ${absent.join(', ')}: not in the cache`);
    }
    for (const event of leftOut) {
      if (this.#isJson) this.#say(event);
      else this.#progress.line(`left out ${event.name}: ${event.reason}`);
    }
    if (this.#isJson)
      this.#say({ kind: 'plan', archive: id, since: base ?? null, bytes: size, blobs, leftOut: leftToBase });
    else if (isDryRun) this.#progress.line(`${this.#summary()}, ${shownBytes(size)}`);
  }

  written(bytes: number): void {
    this.#doneBytes += bytes;
    const total = { label: 'in all', doneBytes: this.#doneBytes, totalBytes: this.#plan.size };
    this.#progress.update(() => ({ rows: [], total }));
  }

  /** @param list path of the checksums; `undefined` if there is no list beside the archive */
  end(files: readonly WrittenFile[], list: string | undefined): void {
    if (this.#isJson) {
      this.#say({ kind: 'end', archive: this.#plan.id, files, list: list ?? null });
      return;
    }
    for (const file of files) this.#progress.line(`${file.name} ${shownBytes(file.size)}`);
    this.#progress.line(list === undefined ? this.#summary() : `${this.#summary()}; checksums in ${list}`);
  }

  [Symbol.dispose](): void {
    this.#progress[Symbol.dispose]();
  }

  #summary(): string {
    const { id, base, blobs, leftOut } = this.#plan;
    const since = base === undefined ? '' : `, since ${shownDigest(base)} (${counted(leftOut, 'blob')} left out)`;
    return `archive ${id}: ${counted(blobs, 'blob')}${since}`;
  }

  #say(event: object): void {
    this.#output.write(`${JSON.stringify(event)}\n`);
  }
}

function bytesOf(blobs: readonly BlobSize[]): number {
  return blobs.reduce((sum, { size }) => sum + size, 0);
}

function readSplit(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseBytes(text);
  if (bytes === undefined || bytes < minSplitBytes) {
    throw new UsageError(`--split ${text}: not a size of at least ${minSplitBytes} bytes, such as 4GB`);
  }
  return bytes;
}
