import type { HostedChange } from '../../hosted/changes.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import type { FoundEntry, ListedEntry } from './entry.ts';
import type { PlacedEntry } from './index-reader.ts';
import { IndexThread } from './index-thread.ts';
import { Indexer, type IndexerOptions } from './indexer.ts';
import type { SearchPosition, SearchQuery } from './search-query.ts';

/** How long after the start the index is first brought in line, in milliseconds, unless a search comes before. */
const firstLookMs = 10_000;
/** How long a search waits for an index that has just begun, in milliseconds; then it answers with what there is. */
const patienceMs = 1_000;
/** Most times the index is asked for one page: each time without the repositories that the caller may not read. */
const maxRounds = 60;
/**
 * Entries that are asked for beyond those that are wanted: some are not there any more, or not for the caller. Each time
 * twice as many, up to the most.
 */
const reserve = 20;
const maxReserve = 1_000;

export interface SearchOptions extends Omit<IndexerOptions, 'thread'> {
  /** Path of the database. */
  readonly path: string;
  /** Whether a cached repository may be pulled from, as configured now. */
  readonly isReachable: (key: string) => boolean;
}

/** The caller that searches. */
export interface Searcher {
  /** Whether it may know of a repository and what is in it. */
  readonly mayRead: (repository: string) => boolean;
  readonly signal: AbortSignal;
}

/** A page of results. */
export interface FoundPage {
  readonly entries: readonly ListedEntry[];
  /** Where each entry is in the order of the query. */
  readonly positions: readonly SearchPosition[];
  /** Where the next page begins; `undefined` at the end. */
  readonly next: SearchPosition | undefined;
  /** False while the index is first being built: there may be more. */
  readonly isComplete: boolean;
}

/** Finds images and artifacts by what is known of them: only what is here, and may be read, when the answer is given. */
export class Search implements AsyncDisposable {
  readonly #options: SearchOptions;
  readonly #thread: IndexThread;
  readonly #indexer: Indexer;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#thread = new IndexThread(options.path);
    this.#indexer = new Indexer({ ...options, thread: this.#thread });
  }

  /** Keeps the index in line from now on. */
  start(): void {
    this.#indexer.start(firstLookMs);
  }

  /** Waits until everything has been indexed. @throws the signal's reason */
  async ready(signal: AbortSignal): Promise<void> {
    await this.#indexer.ready(signal);
  }

  /** A tag or digest of a repository has been pulled. */
  pulled(repository: string, reference: string): void {
    this.#indexer.pulled(repository, reference);
  }

  hostedChanged(change: HostedChange): void {
    this.#indexer.hostedChanged(change);
  }

  /** A page of what fits a query. @throws Error where the index cannot be read; the signal's reason */
  async page(query: SearchQuery, { mayRead, signal }: Searcher): Promise<FoundPage> {
    await this.#waitForStart(signal);
    const { isComplete } = this.#indexer;
    const allowed = new Map<string, boolean>();
    const isAllowed = (entry: ListedEntry): boolean => {
      const key = `${entry.isHosted} ${entry.repository}`;
      let verdict = allowed.get(key);
      if (verdict === undefined) allowed.set(key, (verdict = this.#isServed(entry) && mayRead(entry.repository)));
      return verdict;
    };
    const excluded = new Set<string>();
    const found: PlacedEntry[] = [];
    let after = query.after;
    for (let round = 0; round < maxRounds && found.length <= query.limit; round += 1) {
      signal.throwIfAborted();
      const limit = query.limit + 1 - found.length + Math.min(maxReserve, reserve * 2 ** round);
      const rows = await this.#thread.ask('search', { query: { ...query, limit, after }, excluded: [...excluded] });
      for (const row of rows) {
        const { entry } = row;
        after = row.position;
        if (!isAllowed(entry)) excluded.add(entry.repository);
        else if (entry.isHosted ? await this.#isHosted(entry) : isCached(this.#options.catalog, entry)) found.push(row);
        if (found.length > query.limit) break;
      }
      if (rows.length < limit) return { ...shown(), next: nextOf(), isComplete };
    }
    // The place that was reached may be that of an entry that the caller may not know of: clients can read it.
    const next = nextOf() ?? found.at(-1)?.position;
    return { ...shown(), next, isComplete: isComplete && next !== undefined };

    function shown(): Pick<FoundPage, 'entries' | 'positions'> {
      const page = found.slice(0, query.limit);
      return { entries: page.map(({ entry }) => entry), positions: page.map(({ position }) => position) };
    }

    function nextOf(): SearchPosition | undefined {
      return found.length > query.limit ? found[query.limit - 1]?.position : undefined;
    }
  }

  /** The entries of a manifest in a repository, one for each of its tags. @throws Error where the index cannot be read */
  async named(repository: string, digest: Digest): Promise<readonly FoundEntry[]> {
    if (!this.#indexer.isComplete) void this.#indexer.look();
    return await this.#thread.ask('named', { repository, digest });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#indexer[Symbol.asyncDispose]();
    await this.#thread[Symbol.asyncDispose]();
  }

  /** The entries from before a restart are right, as far as they are still here. */
  async #waitForStart(signal: AbortSignal): Promise<void> {
    if (this.#indexer.isComplete) return;
    const patience = AbortSignal.timeout(patienceMs);
    try {
      await this.#indexer.ready(AbortSignal.any([signal, patience]));
    } catch (error) {
      if (!patience.aborted) throw error;
    }
  }

  /** Whether a pull of a repository would be answered from here as configured now. */
  #isServed({ repository, isHosted }: ListedEntry): boolean {
    const { hosted, isReachable } = this.#options;
    const isHostedNow = hosted?.rules.isHosted(repository) === true;
    return isHosted ? isHostedNow : !isHostedNow && isReachable(repository);
  }

  /** Whether an entry is still what a pull would give: the index is a moment behind. */
  async #isHosted({ repository, tag, digest }: ListedEntry): Promise<boolean> {
    const { hosted } = this.#options;
    if (hosted === undefined) return false;
    const { repositories } = hosted;
    if (tag !== null && (await repositories.tag(repository, tag))?.digest !== digest) return false;
    return (await repositories.manifest(repository, digest)) !== undefined;
  }
}

/** As for a hosted entry, of one in the cache. */
function isCached(
  { grants, blobs, tags }: Catalog,
  { repository, tag, digest }: Pick<FoundEntry, 'repository' | 'tag' | 'digest'>,
): boolean {
  if (blobs.get(digest) === undefined || !grants.isReadable(repository, digest)) return false;
  if (tag === null) return true;
  const own = tags.get({ repository, tag, variant: '' });
  return own === undefined
    ? tags.standingFor(digest).some((one) => one.repository === repository && one.tag === tag)
    : own.digest === digest;
}
