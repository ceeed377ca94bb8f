import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { Turns } from '../waiting/turns.ts';

/** Rows of the catalog that are looked at in one go. */
const rowsPerLook = 100;

export interface RepositoryListOptions {
  readonly catalog: Catalog;
  /** Absent: no repository lives here alone. */
  readonly hosted: HostedRegistry | undefined;
  /** Whether a cached repository may be pulled from, as configured now. @param key as the cache names it */
  readonly isReachable: (key: string) => boolean;
}

/** Hosted repositories that another replica keeps. */
export interface HostedElsewhere {
  isHosted(repository: string): boolean;
  /** Those behind a name that the caller may know of, in byte order. */
  names(after: string): AsyncIterable<string>;
}

/** The page of repositories that is requested. */
export interface RepositoryPageQuery {
  /** Only names that begin with it, such as `docker.io/`; '' for all. */
  readonly prefix: string;
  /** The page begins behind this name, the prefix included. */
  readonly after: string;
  /** Most names. */
  readonly limit: number;
  /** Whether the caller may know of a repository. */
  readonly mayRead: (repository: string) => boolean;
  /** Absent: they are here, or there are none. */
  readonly elsewhere?: HostedElsewhere | undefined;
  /** Leaves out what is only cached (default: false). */
  readonly onlyHosted?: boolean;
  readonly signal: AbortSignal;
}

/** The repositories of which something can be pulled from here: cached ones under their upstream's name, and hosted ones. */
export class RepositoryList {
  readonly #options: RepositoryListOptions;

  constructor(options: RepositoryListOptions) {
    this.#options = options;
  }

  /**
   * A page in byte order. A name that is there throughout is on exactly one page, whatever changes between the pages.
   * @returns the names, and whether there are more
   * @throws Error of the file system; the signal's reason
   */
  async page(query: RepositoryPageQuery): Promise<{ names: string[]; more: boolean }> {
    const names: string[] = [];
    for await (const name of merged(this.#cached(query), this.#hosted(query))) {
      if (!query.mayRead(name)) continue;
      if (names.length === query.limit) return { names, more: true };
      names.push(name);
    }
    return { names, more: false };
  }

  async *#cached({
    prefix,
    after,
    elsewhere,
    onlyHosted = false,
    signal,
  }: RepositoryPageQuery): AsyncGenerator<string> {
    const { catalog, isReachable } = this.#options;
    if (onlyHosted) return;
    const rules = elsewhere ?? this.#options.hosted?.rules;
    const turns = new Turns();
    for (let from: string | undefined = after; from !== undefined; ) {
      const { names, next } = catalog.images.listed({ prefix, after: from, limit: rowsPerLook });
      // A hosted repository hides what was cached under its name before it was configured.
      yield* names.filter((name) => isReachable(name) && rules?.isHosted(name) !== true);
      await turns.next(signal);
      from = next;
    }
  }

  async *#hosted({ prefix, after, elsewhere, signal }: RepositoryPageQuery): AsyncGenerator<string> {
    const { hosted } = this.#options;
    const rules = elsewhere ?? hosted?.rules;
    const from = after > prefix ? after : prefix;
    for await (const name of elsewhere?.names(from) ?? hosted?.repositories.all(from) ?? []) {
      signal.throwIfAborted();
      if (!name.startsWith(prefix)) return;
      if (rules?.isHosted(name) === true) yield name;
    }
  }
}

/** Two lists in byte order as one. */
async function* merged(one: AsyncGenerator<string>, other: AsyncGenerator<string>): AsyncGenerator<string> {
  let [left, right] = await Promise.all([one.next(), other.next()]);
  try {
    while (left.done !== true || right.done !== true) {
      if (right.done === true || (left.done !== true && left.value < right.value)) {
        yield left.value as string;
        left = await one.next();
      } else {
        yield right.value;
        right = await other.next();
      }
    }
  } finally {
    await Promise.all([one.return(undefined), other.return(undefined)]);
  }
}
