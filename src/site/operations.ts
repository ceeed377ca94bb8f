import type { OperationContext } from '../http/operations.ts';
import { type WarmUpDependencies, warmUp } from '../operations/owner/fetch/fetch.ts';
import type { WarmUpEvent, WarmUpParameters } from '../operations/owner/fetch/fetch-events.ts';
import { type AdministrationOperations, administrationOperationsOf } from './administration-operations.ts';
import { type ArchiveOperations, archiveOperationsOf } from './archive-operations.ts';
import type { Cache } from './cache.ts';

/**
 * What a command can have done to a cache, beside a running mirror or alone: parameters in, events out, all of it JSON.
 * One entry for each; it is made in {@link operationsOf}. @throws Error in one sentence
 */
export interface Operations extends ArchiveOperations, AdministrationOperations {
  /** Brings images here, whole. */
  fetch(parameters: WarmUpParameters, context: OperationContext): AsyncIterable<WarmUpEvent>;
}

/** The operations of a cache that this process owns. */
export function operationsOf(cache: Cache): Operations {
  return {
    ...archiveOperationsOf(cache),
    ...administrationOperationsOf(cache),
    fetch: (parameters, { signal }) => warmUp(parameters, warmUpDependencies(cache), { signal }),
  };
}

/** What bringing images here needs of a cache, by the configuration in force now. */
export function warmUpDependencies({ mirror, store, catalog, upstreams, config, now }: Cache): WarmUpDependencies {
  const { offline, cache } = config;
  return { mirror, store, catalog, upstreams: upstreams.table, offline, maxFills: cache.maxFills, now };
}
