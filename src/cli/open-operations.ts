import type { Config } from '../config/config.ts';
import { operationsOf } from '../operations/owner/operations.ts';
import type { OperationContext } from '../operations/protocol/operation.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import { type Cache, openCache } from '../site/cache.ts';
import { Health } from '../site/health.ts';
import { hostedAlone } from '../site/hosted.ts';
import { isKeptElsewhere } from '../site/hosted-owner.ts';
import { hostedRules } from '../site/hosted-rules.ts';
import type { RebuildFirst } from '../site/opening.ts';
import { DirectoryTaken } from '../site/owner.ts';
import { openSearch } from '../site/search.ts';
import { AuditLog } from '../telemetry/audit.ts';
import { createLogger } from '../telemetry/logger.ts';
import { Metrics } from '../telemetry/metrics.ts';
import { controlListens, runOnControl } from './control-client.ts';

/** The operations of a cache, wherever its owner is. */
export interface OpenOperations extends AsyncDisposable {
  readonly operations: Operations;
  /** Whether a running mirror does them; else this process does, and has the directory to itself. */
  readonly isBesideMirror: boolean;
}

/**
 * The operations of the cache that a configuration names: performed by the mirror that runs on it or, if none runs, by
 * this process, after other commands have released the directory.
 * @param command name of the calling command
 * @param options `rebuildFirst`: for commands that only read the catalog, which may have been lost
 * @throws Error in one sentence if the directory is not available; the signal's reason
 */
export async function openOperations(
  config: Config,
  command: string,
  { rebuildFirst }: { readonly rebuildFirst?: RebuildFirst } = {},
): Promise<OpenOperations> {
  const { dir } = config.cache;
  if (await controlListens(dir)) return besideMirror(dir);
  // Standard output belongs to the command; faults are reported as its failure.
  const log = createLogger({ ...config.log, level: 'silent' });
  const health = new Health({ now: Date.now });
  await using owned = new AsyncDisposableStack();
  const audit = owned.use(new AuditLog({ log, file: config.log.auditFile })).write;
  const options = { command, log, metrics: new Metrics(), health, rebuildFirst, now: Date.now, audit };
  let cache: Cache;
  try {
    cache = await openCache(config, options);
  } catch (error) {
    // A mirror may have started meanwhile.
    if (error instanceof DirectoryTaken && (await controlListens(dir))) return besideMirror(dir);
    throw withoutSocket(error);
  }
  owned.use(cache);
  const registry = hostedAlone(() => config, cache.holds);
  const search = owned.use(openSearch(cache, { log, now: Date.now, hosted: registry }));
  const hosted = { registry: isKeptElsewhere(config) ? undefined : registry, rules: hostedRules(() => config) };
  const held = owned.move();
  return {
    isBesideMirror: false,
    operations: operationsOf(cache, { search, hosted }),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function besideMirror(dir: string): OpenOperations {
  return {
    isBesideMirror: true,
    operations: operationsOver((name, parameters, context) => runOnControl(dir, name, parameters, context)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** For a directory owned by a mirror: why that mirror cannot be asked. Other errors are passed through. */
export function withoutSocket(error: unknown): unknown {
  if (!(error instanceof DirectoryTaken) || (error.owner !== undefined && error.owner.command !== 'serve'))
    return error;
  return new Error(`${error.message}, and it has no control socket on which it could be asked`, { cause: error });
}

/** Operations that are carried out elsewhere, all in the same way. */
function operationsOver(
  run: (name: string, parameters: object, context: OperationContext) => AsyncIterable<unknown>,
): Operations {
  return new Proxy({} as Operations, {
    get: (_, name) => (parameters: object, context: OperationContext) => run(String(name), parameters, context),
  });
}
