import { readImageList } from '../config/image-list.ts';
import { loadConfig } from '../config/load.ts';
import { acceptedDurations, parseDurationMs } from '../config/units.ts';
import { workloadImages } from '../config/workload-images.ts';
import { formatPlatform } from '../oci/platform.ts';
import type { FetchEvent, FetchParameters } from '../operations/protocol/fetch.ts';
import { noInput } from '../operations/protocol/operation.ts';
import { wantedImages } from '../site/prefetcher.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags, UsageError } from './command.ts';
import { FetchReport } from './fetch-report.ts';
import { readInput, readPlatforms, requireImage } from './input.ts';
import { interruption } from './interruption.ts';
import { openOperations } from './open-operations.ts';
import { counted } from './terminal.ts';

interface FetchFlags {
  readonly file?: string;
  readonly fromManifests?: string;
  readonly platform?: string;
  readonly referrers: boolean;
  readonly nondistributable?: true;
  readonly concurrency?: string;
  readonly maxWait?: string;
  readonly json?: true;
}

/** `millpond fetch`: brings complete images into the cache. */
export function registerFetch(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('fetch'))
    .description('fetch complete images into the cache: every platform, with signatures and other referrers')
    .argument('[images...]', 'such as docker.io/library/ubuntu:24.04 or ghcr.io/org/app@sha256:…')
    .option('--file <file>', 'a list of images, with tag patterns, version ranges and platforms (YAML)')
    .option('--from-manifests <file>', 'every image in Kubernetes manifests; "-" reads standard input')
    .option('--platform <list>', 'only these images of an index, such as linux/amd64,linux/arm64 (default: all)')
    .option('--no-referrers', 'without signatures and other referrers')
    .option('--nondistributable', 'include layers that registries need not store')
    .option('--concurrency <count>', 'concurrent blob downloads (default: 6)')
    .option('--max-wait <duration>', 'longest time to wait for pauses that an upstream asks for (default: 15m)')
    .option('--json', 'one JSON object per line for each event')
    .action(async (names: string[], flags: FetchFlags, command: Command) => {
      const parameters = await readParameters(names, flags, io);
      const { config } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      using interrupted = interruption();
      await using opened = await openOperations(config, 'fetch');
      const events = opened.operations.fetch(parameters, { signal: interrupted.signal, input: noInput() });
      await report(events, { json: flags.json === true, io });
    });
}

async function report(
  events: AsyncIterable<FetchEvent>,
  { json, io }: { readonly json: boolean; readonly io: CommandIo },
): Promise<void> {
  using people = json ? undefined : new FetchReport(io, { now: () => performance.now() });
  let end: Extract<FetchEvent, { kind: 'end' }> | undefined;
  for await (const event of events) {
    if (people) people.take(event);
    else io.stdout.write(`${JSON.stringify(event)}\n`);
    if (event.kind === 'end') end = event;
  }
  if (end === undefined || end.failed === 0) return;
  const [first] = end.failures;
  // Several failures have been reported one by one.
  if (end.failed > 1) throw new Error(`${end.failed} of ${counted(end.images, 'image')} could not be fetched`);
  throw new Error(`${first?.image} could not be fetched: ${first?.error}`);
}

/** @throws UsageError, ConfigError */
async function readParameters(names: readonly string[], flags: FetchFlags, io: CommandIo): Promise<FetchParameters> {
  for (const name of names) requireImage(name);
  const images: FetchParameters['images'][number][] = names.map((image) => ({ image }));
  if (flags.file !== undefined) {
    images.push(...readImageList(await readInput(flags.file, io), flags.file).map(wantedImages));
  }
  if (flags.fromManifests !== undefined) {
    const found = workloadImages(await readInput(flags.fromManifests, io), flags.fromManifests);
    images.push(...found.map((image) => ({ image })));
  }
  if (images.length === 0) {
    const from = flags.file ?? flags.fromManifests;
    if (from !== undefined) throw new Error(`${from} names no image`);
    throw new UsageError('no image is named: give names, --file or --from-manifests');
  }
  return {
    images,
    platforms: flags.platform === undefined ? undefined : readPlatforms(flags.platform).map(formatPlatform),
    referrers: flags.referrers,
    nondistributable: flags.nondistributable,
    concurrency: flags.concurrency === undefined ? undefined : readCount(flags.concurrency),
    longestPauseMs: flags.maxWait === undefined ? undefined : readDuration(flags.maxWait),
  };
}

function readCount(found: string): number {
  if (/^[1-9]\d{0,3}$/.test(found)) return Number(found);
  throw new UsageError(`--concurrency: found "${found}"; accepted: a whole number from 1 to 9999`);
}

function readDuration(found: string): number {
  const durationMs = parseDurationMs(found);
  if (durationMs !== undefined) return durationMs;
  throw new UsageError(`--max-wait: found "${found}"; accepted: ${acceptedDurations}`);
}
