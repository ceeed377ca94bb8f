import type { Config } from '../config/config.ts';
import { changedKeys, withoutRestart } from '../config/restart.ts';
import type { Generations } from '../front/generations.ts';
import { Turns } from '../waiting/turns.ts';
import type { LiveAccess } from './access.ts';
import type { Cache } from './cache.ts';
import { upstreamFiles } from './configured-files.ts';
import type { LiveEvents } from './events.ts';
import type { ClientListener } from './open-listener.ts';
import type { Parts } from './parts.ts';
import type { Prefetcher } from './prefetcher.ts';
import type { startScrub } from './scrub.ts';
import { signaturePolicies } from './signature-policies.ts';
import { policyFiles } from './signatures.ts';

/** A running mirror. */
export interface Site {
  /** `host:port` it listens on. */
  readonly address: string;
  /** Closes the listener at once, lets transfers end within the configured time, gives everything back. */
  stop(): Promise<void>;
  /**
   * Puts another configuration in force for requests that come from now on; those under way end with what they began. Files
   * that it names are read again where they have changed.
   * @throws Error where an upstream cannot be made of it; nothing has changed then
   */
  reload(config: Config): Promise<Reload>;
}

/** The result of another configuration: keys, such as `cache.tagTtl`. */
export interface Reload {
  /** In force now. */
  readonly changed: readonly string[];
  /** Of files that hold something else than before, which is in force now. */
  readonly files: readonly string[];
  /** They differ and need a restart: they stay as they were. */
  readonly restart: readonly string[];
}

/** The parts of a running mirror that take a new configuration, or that end before the others. */
export interface RunningParts extends Pick<Parts, 'files' | 'health' | 'log' | 'audit'> {
  readonly cache: Cache;
  readonly access: LiveAccess;
  readonly events: LiveEvents;
  readonly listener: ClientListener;
  readonly prefetcher: Prefetcher;
  readonly scrub: ReturnType<typeof startScrub>;
  readonly generations: Generations;
  /** Everything else, given back at the end. */
  readonly rest: AsyncDisposableStack;
}

/** A mirror that answers clients, and whose files are watched. */
export function runningSite(parts: RunningParts): Site {
  const { cache, events, listener, prefetcher, health, rest } = parts;
  return {
    address: listener.address,
    async stop() {
      health.drain();
      events.end();
      await Promise.all([listener.close(cache.config.timeouts.drainMs), prefetcher[Symbol.asyncDispose]()]);
      await rest.disposeAsync();
    },
    reload: (wanted) => reload(wanted, parts),
  };
}

/** Watches the files that upstreams and the policies for signatures name, as far as the configuration in force names them. */
export async function watchUpstreamFiles({
  cache,
  files,
  generations,
}: Pick<RunningParts, 'cache' | 'files' | 'generations'>): Promise<void> {
  const { config, upstreams, signatures } = cache;
  const uses = await upstreamFiles(config, { renew: (name) => upstreams.renew(cache.config, name) });
  const takeKeys = async (): Promise<void> => {
    signatures.use(await signaturePolicies(cache.config));
    generations.changedAll();
  };
  files.replace('upstreams', [...uses, ...policyFiles(config, takeKeys)]);
}

async function reload(wanted: Config, parts: RunningParts): Promise<Reload> {
  const { cache, access, prefetcher, scrub, listener, files, log, audit } = parts;
  const { config, left } = withoutRestart(cache.config, wanted);
  const changed = await changesOf(cache.config, config);

  // First what can fail.
  const policies = await signaturePolicies(config);
  // Callers have to be known as soon as they are distinguished.
  const taken = await access.prepare(config);
  try {
    await cache.replaceConfig(config, () => cache.signatures.use(policies));
  } catch (error) {
    await access.prepare(cache.config);
    throw error;
  }

  // From here on it is in force.
  access.settle();
  if (changed.length > 0) audit('configuration changed', { changed });
  prefetcher.replace(config);
  scrub.look();
  log.level = config.log.level;
  listener.look();
  await watchUpstreamFiles(parts);
  return { changed, files: [...taken, ...(await files.look())], restart: left };
}

/** The keys that differ. A large configuration is compared in several turns, so that requests do not wait for it. */
async function changesOf(before: Config, after: Config): Promise<string[]> {
  const changed: string[] = [];
  const turns = new Turns();
  for (const key of changedKeys(before, after)) {
    if (key !== undefined) changed.push(key);
    await turns.next();
  }
  return changed;
}
