import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { HostedObserver } from '../hosted/changes.ts';
import { HostedRegistry } from '../hosted/hosted-registry.ts';
import { hostedRules } from './hosted-rules.ts';
import type { Parts } from './parts.ts';

/** How often sessions that nothing was sent to are looked for, in milliseconds. */
const sweepEveryMs = 10 * 60_000;
/** How often blobs that nothing names are looked for, in milliseconds. */
const collectEveryMs = 24 * 3_600_000;
/** Largest blob where nothing else is configured, in bytes. */
const maxBlobBytes = 50 * 2 ** 30;

/** Repositories that live here alone, and what is done for them in the background. */
export interface Hosted extends AsyncDisposable {
  readonly registry: HostedRegistry;
}

/** @returns `undefined` where none are configured. @param config read each time: it may be replaced while the mirror runs */
export function openHosted(
  config: () => Config,
  { log, now, observer }: Parts & { readonly observer: HostedObserver },
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
  return {
    registry,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      clearInterval(collectTimer);
      stopping.abort();
      await Promise.all([sweeping, collecting]);
    },
  };
}

/** The hosted repositories for a command that only looks at them. @returns `undefined` where none are configured */
export function hostedAlone(config: () => Config): HostedRegistry | undefined {
  const started = config().hosted;
  return started && registryOf(config, { started, now: Date.now, observer: () => undefined });
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
