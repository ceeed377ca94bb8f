import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import { HostedRegistry } from '../hosted/hosted-registry.ts';
import { HostedRules } from '../hosted/rules.ts';
import type { Parts } from './parts.ts';

/** How often sessions that nothing was sent to are looked for, in milliseconds. */
const sweepEveryMs = 10 * 60_000;
/** Largest blob where nothing else is configured, in bytes. */
const maxBlobBytes = 50 * 2 ** 30;

/** Repositories that live here alone, and what is done for them in the background. */
export interface Hosted extends AsyncDisposable {
  readonly registry: HostedRegistry;
}

/** @returns `undefined` where none are configured. @param config read each time: it may be replaced while the mirror runs */
export function openHosted(config: () => Config, { log, now }: Parts): Hosted | undefined {
  const started = config().hosted;
  if (started === undefined) return undefined;
  const registry = new HostedRegistry({
    folder: join(config().cache.dir, 'hosted'),
    rules: rulesOf(config),
    maxBlobBytes,
    maxManifestBytes: config().cache.maxManifestSizeBytes,
    uploadExpiryMs: started.uploadExpiryMs,
    now,
  });
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
  return {
    registry,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await sweeping;
    },
  };
}

/** The rules of the configuration in effect, compiled once for each. */
function rulesOf(config: () => Config): () => HostedRules {
  let from: Config | undefined;
  let rules: HostedRules | undefined;
  return () => {
    const current = config();
    if (rules === undefined || from !== current) {
      const { repositories = [], immutableTags = [], mediaTypes = [], quota = [] } = current.hosted ?? {};
      rules = new HostedRules({ repositories, immutableTags, mediaTypes, quotas: quota });
      from = current;
    }
    return rules;
  };
}
