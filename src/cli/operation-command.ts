import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import type { ConditionCode } from '../http/operator-routes.ts';
import type { OperationContext } from '../operations/protocol/operation.ts';
import { noInput } from '../operations/protocol/operation.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import type { SiteStatus } from '../site/site-status.ts';
import type { RebuildCounts } from '../store/catalog/rebuild.ts';
import { isCache, type Layout, layoutOf } from '../store/files/layout.ts';
import { type Command, type CommandIo, configFlags } from './command.ts';
import { askControl } from './control-client.ts';
import { interruption } from './interruption.ts';
import { openOperations } from './open-operations.ts';

/** The operations and context of a command. */
export interface OperationRun {
  readonly config: Config;
  readonly operations: Operations;
  /** Attaches no data. */
  readonly context: OperationContext;
}

/**
 * Runs the operations of a command on its cache until it is interrupted.
 * @param io with `makesCache`: creates a missing cache directory
 * @returns the result of the work, after releasing the cache
 * @throws Error if there is no cache; what the operations throw
 */
export async function withOperations<Result>(
  command: Command,
  io: CommandIo & { readonly makesCache?: boolean },
  work: (run: OperationRun) => Promise<Result>,
): Promise<Result> {
  const { config } = await loadConfig({
    flags: configFlags(command),
    environment: io.environment,
    workingDirectory: io.workingDirectory,
  });
  const layout = layoutOf(config.cache.dir);
  if (io.makesCache !== true && !(await isCache(layout))) throw new Error(`there is no cache in ${layout.dir}`);
  using interrupted = interruption();
  const { signal } = interrupted;
  const say = (text: string): void => void io.stderr.write(`millpond: ${text}\n`);
  const onProgress = (found: RebuildCounts): void => say(rebuildText(found));
  await using cache = await openOperations(config, command.name(), { rebuildFirst: { signal, onProgress } });
  if (cache.isBesideMirror) for (const reason of await doubtsOf(layout)) say(reason);
  const context = { signal, input: noInput() };
  return await work({ config, operations: cache.operations, context });
}

function rebuildText({ names, manifests, files }: RebuildCounts): string {
  const found = names === 0 ? '' : `: ${names} names, ${manifests} manifests and ${files} other files so far`;
  return `the catalog was lost and is being rebuilt from the disk first${found}`;
}

const doubts: readonly ConditionCode[] = ['catalog-fault', 'catalog-lost'];

/** Why the catalog of a running mirror may be incomplete, in the mirror's own words. */
async function doubtsOf({ dir }: Layout): Promise<string[]> {
  const status = (await askControl(dir, '/status')) as SiteStatus | undefined;
  const { conditions = [] } = status?.readiness ?? {};
  return conditions.filter(({ code }) => doubts.includes(code)).map(({ text }) => text);
}
