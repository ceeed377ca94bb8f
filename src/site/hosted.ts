import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { HostedObserver } from '../hosted/changes.ts';
import { HostedRegistry } from '../hosted/hosted-registry.ts';
import { hostedLayout } from '../hosted/layout.ts';
import { HostedScrub } from '../hosted/scrub.ts';
import { type Layout, layoutOf } from '../store/files/layout.ts';
import { changeObserver } from './content-events.ts';
import { described } from './described.ts';
import { hostedRules } from './hosted-rules.ts';
import type { Parts } from './parts.ts';

/** How often sessions that nothing was sent to are looked for, in milliseconds. */
const sweepEveryMs = 10 * 60_000;
/** How often blobs that nothing names are looked for, in milliseconds. */
const collectEveryMs = 24 * 3_600_000;
/** How often it is looked whether hosted content is to be read again, in milliseconds. */
const scrubLookEveryMs = 3_600_000;
/** Largest blob where nothing else is configured, in bytes. */
const maxBlobBytes = 50 * 2 ** 30;

/** Repositories that live here alone, and what is done for them in the background. */
export interface Hosted extends AsyncDisposable {
  readonly registry: HostedRegistry;
  /** For those who watch. */
  status(): Promise<HostedStatus>;
}

/** Hosted content, for those who watch. */
export interface HostedStatus {
  /** Whether this replica keeps it. */
  readonly role: 'owner' | 'replica';
  /** The replica that keeps it, where that is another one. */
  readonly owner: string | null;
  /** Why the owner is not reached; `null`: it is. */
  readonly away: string | null;
  readonly repositories: number;
  readonly bytes: number;
  /** Files found damaged since the start. */
  readonly damaged: number;
}

/** @returns `undefined` where none are configured. @param config read each time: it may be replaced while the mirror runs */
export function openHosted(
  config: () => Config,
  { log, now, health, observer }: Parts & { readonly observer: HostedObserver },
): Hosted | undefined {
  const started = config().hosted;
  if (started === undefined) return undefined;
  const registry = registryOf(config, { started, now, observer });
  let sweeping: Promise<void> = Promise.resolve();
  const sweep = (): void => {
    sweeping = registry.uploads.sweep().then(
      (removed) => {
        if (removed > 0) log.info({ uploads: removed }, 'uploads expired');
      },
      (error: unknown) => log.error({ error: String(error) }, 'uploads cannot be looked through'),
    );
  };
  sweep();
  const timer = setInterval(sweep, sweepEveryMs).unref();
  const stopping = new AbortController();
  let collecting: Promise<void> = Promise.resolve();
  const collect = (): void => {
    // One that takes longer than a day goes first.
    collecting = collecting.then(() => collectOnce(registry, { log, signal: stopping.signal }));
  };
  collect();
  const collectTimer = setInterval(collect, collectEveryMs).unref();
  let damaged = 0;
  const { layout, blobs, repositories: names, usage } = registry;
  const scrub = new HostedScrub({
    layout,
    blobs,
    repositories: names,
    usage,
    bytesPerSecond: () => config().cache.scrub.rateBytesPerSecond,
    onDamage(digest, { repositories, error }) {
      damaged += 1;
      const text = `hosted content was found damaged and set aside in hosted/damaged: push ${digest} again`;
      health.fault({ code: 'disk-fault', text });
      log.error(
        { digest, repositories, error: error === undefined ? undefined : described(error) },
        'hosted blob damaged',
      );
    },
  });
  let scrubbing: Promise<void> = Promise.resolve();
  const note = join(config().cache.dir, 'hosted', 'scrubbed');
  const scrubAll = (): void => {
    const { everyMs } = config().cache.scrub;
    scrubbing = scrubbing.then(() => scrubIfDue(scrub, { log, signal: stopping.signal, note, everyMs, now }));
  };
  const scrubTimer = setInterval(scrubAll, scrubLookEveryMs).unref();
  return {
    registry,
    async status() {
      let [repositories, bytes] = [0, 0];
      for await (const name of registry.repositories.all()) {
        repositories += 1;
        bytes += await registry.usage.bytes(name);
      }
      return { role: 'owner', owner: null, away: null, repositories, bytes, damaged };
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      clearInterval(collectTimer);
      clearInterval(scrubTimer);
      stopping.abort();
      await Promise.all([sweeping, collecting, scrubbing]);
    },
  };
}

/**
 * The hosted repositories for a command that has the cache directory to itself: it holds what is new.
 * @returns `undefined` where none are configured
 */
export function hostedAlone(config: () => Config, holds: HoldStore): HostedRegistry | undefined {
  const started = config().hosted;
  const observer = changeObserver(() => undefined, holds);
  return started && registryOf(config, { started, now: Date.now, observer });
}

/** Where the blobs of a cache directory are: those that are cached, then those of hosted repositories. */
export function blobPlaces(dir: string): readonly Pick<Layout, 'blob'>[] {
  return [layoutOf(dir), hostedLayout(join(dir, 'hosted'))];
}

function registryOf(
  config: () => Config,
  {
    started,
    now,
    observer,
  }: Pick<Parts, 'now'> & {
    readonly started: NonNullable<Config['hosted']>;
    readonly observer: HostedObserver;
  },
): HostedRegistry {
  return new HostedRegistry({
    folder: join(config().cache.dir, 'hosted'),
    rules: hostedRules(config),
    maxBlobBytes,
    maxManifestBytes: config().cache.maxManifestSizeBytes,
    uploadExpiryMs: started.uploadExpiryMs,
    graceMs: () => (config().hosted ?? started).unusedBlobGraceMs,
    now,
    observer,
  });
}

/** @param options `note`: a file that is as old as the last round */
async function scrubIfDue(
  scrub: HostedScrub,
  options: Pick<Parts, 'log' | 'now'> & {
    readonly signal: AbortSignal;
    readonly note: string;
    readonly everyMs: number;
  },
): Promise<void> {
  const { log, signal, note, everyMs, now } = options;
  try {
    const last = await readFile(note, 'utf8').catch(() => '');
    if (everyMs === 0 || now() - Date.parse(last) < everyMs) return;
    const read = last === '' ? undefined : await scrub.run(signal);
    await mkdir(dirname(note), { recursive: true, mode: 0o700 });
    await writeFile(note, new Date(now()).toISOString());
    if (read) log.info({ ...read }, 'hosted content scrubbed');
  } catch (error) {
    if (!signal.aborted) log.error({ error: String(error) }, 'hosted content cannot be scrubbed');
  }
}

async function collectOnce(
  registry: HostedRegistry,
  { log, signal }: Pick<Parts, 'log'> & { readonly signal: AbortSignal },
): Promise<void> {
  try {
    const { blobs, unlinkedBytes, leftovers, skipped } = await registry.collector.collect(signal);
    for (const fields of skipped) log.error(fields, 'hosted blobs cannot be collected');
    if (blobs + unlinkedBytes + leftovers > 0) {
      log.info({ blobs, bytes: unlinkedBytes, leftovers }, 'hosted blobs collected');
    }
  } catch (error) {
    if (!signal.aborted) log.error({ error: String(error) }, 'hosted blobs cannot be collected');
  }
}
