import type { Config } from '../config/config.ts';
import type { OperationContext } from '../http/operations.ts';
import { type Cache, type CacheOptions, openCache } from '../site/cache.ts';
import { Health } from '../site/health.ts';
import { type Operations, operationsOf } from '../site/operations.ts';
import { createLogger, Metrics } from '../telemetry.ts';
import { controlListens, runOnControl } from './control-client.ts';

/** The operations of a cache, wherever its owner is. */
export interface OpenOperations extends AsyncDisposable {
  readonly operations: Operations;
  /** Whether a running mirror does them; else this process does, and has the directory to itself. */
  readonly isBesideMirror: boolean;
}

/**
 * The operations of the cache that a configuration names: done by the mirror that runs on it, or, where none runs, by
 * this process on the directory.
 * @throws Error in one sentence where the directory cannot be had
 */
export async function openOperations(config: Config): Promise<OpenOperations> {
  const { dir } = config.cache;
  if (await controlListens(dir)) {
    return {
      isBesideMirror: true,
      operations: operationsOver((name, parameters, context) => runOnControl(dir, name, parameters, context)),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
  }
  // Standard output is the command's; what goes wrong on the way is told as its failure.
  const log = createLogger({ ...config.log, level: 'silent' });
  const cache = await openAlone(config, {
    purpose: 'command',
    log,
    metrics: new Metrics(),
    health: new Health({ now: Date.now }),
    now: Date.now,
  });
  return {
    isBesideMirror: false,
    operations: operationsOf(cache),
    [Symbol.asyncDispose]: () => cache[Symbol.asyncDispose](),
  };
}

async function openAlone(config: Config, options: CacheOptions): Promise<Cache> {
  try {
    return await openCache(config, options);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (!message.startsWith('another Millpond')) throw error;
    throw new Error(`${message}, and it has no control socket on which it could be asked`, { cause: error });
  }
}

/** Operations that are carried out elsewhere, all in the same way. */
function operationsOver(
  run: (name: string, parameters: object, context: OperationContext) => AsyncIterable<unknown>,
): Operations {
  return new Proxy({} as Operations, {
    get: (_, name) => (parameters: object, context: OperationContext) => run(String(name), parameters, context),
  });
}
