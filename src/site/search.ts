import { join } from 'node:path';
import { inMemory } from '../discovery/search/index-file.ts';
import { Search } from '../discovery/search/search.ts';
import type { KeptAnswer } from '../front/kept-answer.ts';
import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import type { EndedExchange } from '../http/middleware.ts';
import type { Report } from '../oci/report.ts';
import { findRepository } from '../upstream/repository.ts';
import type { Cache } from './cache.ts';
import { described } from './described.ts';
import type { Parts } from './parts.ts';

/** Opens the search of a cache; its index is a file of its own beside the catalog. */
export function openSearch(
  { catalog, layout, upstreams }: Pick<Cache, 'catalog' | 'layout' | 'upstreams'>,
  { hosted, log, now }: Pick<Parts, 'log' | 'now'> & { readonly hosted: HostedRegistry | undefined },
): Search {
  return new Search({
    path: layout.isReadOnly ? inMemory : join(layout.dir, 'search.sqlite'),
    catalog,
    layout,
    hosted,
    now,
    isReachable: (key) => findRepository(upstreams.table, key) !== undefined,
    onError: (error) => log.error({ error: described(error) }, 'the search index cannot be brought up to date'),
  });
}

/** Counts the pulls of manifests: by tag, or by digest, whole. */
export function countPulls(search: Search): Report<EndedExchange> {
  return ({ exchange, method, status, complete }) => {
    const { request, selection, hosted } = exchange;
    if (request?.kind !== 'manifest' || method !== 'GET' || status !== 200 || !complete) return;
    const repository = hosted ?? (selection && `${selection.upstream.name}/${selection.repository}`);
    if (repository === undefined) return;
    const { reference } = request;
    search.pulled(repository, reference.kind === 'tag' ? reference.tag : reference.digest);
  };
}

/** As {@link countPulls}, for requests that were answered the short way. */
export function countServed(
  search: Search,
): (served: {
  readonly answer: Pick<KeptAnswer, 'status' | 'about' | 'digest'>;
  readonly isComplete: boolean;
}) => void {
  return ({ answer: { status, about, digest }, isComplete }) => {
    const { kind, method, upstream, repository, path } = about;
    if (kind !== 'manifest' || digest === undefined || method !== 'GET' || status !== 200 || !isComplete) return;
    const reference = path.slice(path.lastIndexOf('/') + 1);
    search.pulled(`${upstream}/${repository}`, /^sha\d+(?::|%3a)/i.test(reference) ? digest : reference);
  };
}
