import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { Config, UpstreamConfig } from './config.ts';
import type { ConfigSources } from './load.ts';
import { ConfigError } from './problems.ts';
import { Secret } from './secret.ts';

/** How many upstreams are handed over at a time: as many as hold up nothing else. */
export const upstreamsInPart = 100;

/** The message of the thread that loads a configuration. Secrets are shown: between threads they would be lost. */
export type ConfigPart =
  | { readonly kind: 'rest'; readonly rest: Omit<Config, 'upstreams'>; readonly file: string | undefined }
  | { readonly kind: 'upstreams'; readonly upstreams: readonly UpstreamConfig[] }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }
  | { readonly kind: 'end' };

const secretKey = 'a secret';

/**
 * As {@link loadConfig}, in a thread of its own, so that a mirror serves on meanwhile however long the configuration is.
 * @throws ConfigError with every problem found
 */
export async function loadConfigApart(
  sources: ConfigSources,
): Promise<{ readonly config: Config; readonly file: string | undefined }> {
  const { flags, environment, workingDirectory } = sources;
  const workerData: ConfigSources = { flags: { ...flags }, environment: { ...environment }, workingDirectory };
  const worker = new Worker(new URL('./load-worker.ts', import.meta.url), { workerData });
  try {
    const upstreams: UpstreamConfig[] = [];
    let found: Extract<ConfigPart, { kind: 'rest' }> | undefined;
    for (;;) {
      worker.postMessage('next');
      const [part] = (await once(worker, 'message')) as [ConfigPart];
      switch (part.kind) {
        case 'rest':
          found = { ...part, rest: withSecretsHidden(part.rest) as typeof part.rest };
          break;
        case 'upstreams':
          upstreams.push(...(withSecretsHidden(part.upstreams) as typeof part.upstreams));
          break;
        case 'refused':
          throw new ConfigError(part.problems);
        case 'end':
          return { config: { ...found!.rest, upstreams }, file: found!.file };
        default:
          part satisfies never;
      }
    }
  } finally {
    await worker.terminate();
  }
}

/** Plain data in which each secret stands as text, to be handed to another thread. */
export function withSecretsShown(value: unknown): unknown {
  return map(value, (one) => (one instanceof Secret ? { [secretKey]: one.reveal() } : undefined));
}

function withSecretsHidden(value: unknown): unknown {
  return map(value, (one) => (secretKey in one ? new Secret(String(one[secretKey])) : undefined));
}

/** @param change what an object becomes; `undefined`: what is in it is looked at */
function map(value: unknown, change: (one: Readonly<Record<string, unknown>>) => unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((entry) => map(entry, change));
  const changed = change(value as Record<string, unknown>);
  if (changed !== undefined) return changed;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, map(entry, change)]));
}
