import type { ShownEntry } from '../discovery/search/entry.ts';
import type { FoundPage } from '../discovery/search/search.ts';
import { writePosition } from '../discovery/search/search-parameters.ts';
import type { SearchQuery } from '../discovery/search/search-query.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import { parseJson } from '../oci/json.ts';
import { readBounded, transferBody } from '../transport/body.ts';
import type { Exchange } from './exchange.ts';
import type { ExtensionRequest } from './extension-request.ts';
import type { HostedOwner } from './hosted-owner.ts';
import { writeCaller } from './passed-on.ts';

/** Largest page of the owner that is read, in bytes. */
const maxPageBytes = 8 * 1024 * 1024;
const limits = { maxValues: 500_000, maxDepth: 20 };

/** Results in the order of a search, as they are shown, each with the token of the page that begins behind it. */
export interface ShownPage {
  /** Each a {@link ShownEntry} as JSON. */
  readonly results: readonly string[];
  readonly tokens: readonly string[];
  /** The token of the next page; `undefined` at the end. */
  readonly next: string | undefined;
  readonly complete: boolean;
}

/** A page of what two places have found. */
export interface JointPage extends ShownPage {
  /** Whether the owner of the hosted repositories could not be asked. */
  readonly isAway: boolean;
}

/** The caller that searches, and its query. */
export interface JointRequest extends Pick<ExtensionRequest, 'parameters' | 'mayRead'> {
  readonly exchange: Pick<Exchange, 'caller' | 'grants' | 'signal'>;
}

/** Where each of the two continues; `null`: it has given everything. */
interface Places {
  readonly own: string | null | undefined;
  readonly hosted: string | null | undefined;
}

const nothing: ShownPage = { results: [], tokens: [], next: undefined, complete: true };

/** The results found here, as they are shown. */
export function shownPage({ entries, positions, next, isComplete }: FoundPage, query: SearchQuery): ShownPage {
  return {
    results: entries.map(({ json }) => json),
    tokens: positions.map((position) => writePosition(position, query)),
    next: next && query.limit > 0 ? writePosition(next, query) : undefined,
    complete: isComplete,
  };
}

/**
 * Searches here and, for hosted repositories, at the replica that keeps them, and gives one page in the order of the search.
 * @param options `own`: searches here; `limit`: most results
 * @throws RegistryError for a parameter that cannot be read; the signal's reason
 */
export async function searchJointly(
  request: JointRequest,
  options: {
    readonly owner: HostedOwner;
    readonly own: (parameters: URLSearchParams) => Promise<ShownPage>;
    readonly limit: number;
    readonly descending: boolean;
  },
): Promise<JointPage> {
  const { own, limit, descending } = options;
  const places = readPlaces(request.parameters.get('next'));
  const [here, there] = await Promise.all([
    places.own === null ? nothing : own(withNext(request.parameters, places.own)),
    places.hosted === null ? nothing : askOwner(request, { ...options, next: places.hosted }),
  ]);
  const hosted = there ?? { ...nothing, complete: false };
  const [one, other] = [new Taking(here), new Taking(hosted)];
  const results: string[] = [];
  while (results.length < limit) {
    // An entry that a replica has not given yet may come first.
    if (there !== undefined && (one.isShort || other.isShort)) break;
    const from = one.isFirst(other, descending) ? one : other;
    if (from.result === undefined) break;
    results.push(from.result);
    from.take();
  }
  const after: Places = {
    own: one.rest(places.own),
    hosted: there === undefined ? places.hosted : other.rest(places.hosted),
  };
  // While the owner is away, its part is not waited for.
  const isMore = after.own !== null || (there !== undefined && after.hosted !== null);
  return {
    results,
    tokens: [],
    next: isMore && limit > 0 ? Buffer.from(JSON.stringify(after)).toString('base64url') : undefined,
    complete: here.complete && hosted.complete,
    isAway: there === undefined,
  };
}

/** How far a page has been taken. */
class Taking {
  readonly #page: ShownPage;
  #taken = 0;

  constructor(page: ShownPage) {
    this.#page = page;
  }

  get result(): string | undefined {
    return this.#page.results[this.#taken];
  }

  /** Whether all of it is taken and more would follow. */
  get isShort(): boolean {
    return this.result === undefined && this.#page.next !== undefined;
  }

  take(): void {
    this.#taken += 1;
  }

  /** Whether its next result comes before that of another page. */
  isFirst(other: Taking, descending: boolean): boolean {
    if (this.result === undefined || other.result === undefined) return this.result !== undefined;
    const [one, two] = [this.#key, other.#key];
    return one === two || (descending ? one > two : one < two);
  }

  /** Where it continues. @param before where it began */
  rest(before: string | null | undefined): string | null | undefined {
    const { tokens, next } = this.#page;
    if (this.result === undefined) return next ?? null;
    return this.#taken === 0 ? before : tokens[this.#taken - 1];
  }

  /** The sort position of its next result. */
  get #key(): string | number {
    const [, key] = JSON.parse(Buffer.from(this.#page.tokens[this.#taken] ?? '', 'base64url').toString()) as [
      string,
      string | number,
    ];
    return key;
  }
}

/** @returns `undefined` where the owner cannot be asked */
async function askOwner(
  { exchange, parameters, mayRead }: JointRequest,
  { owner, next }: { readonly owner: HostedOwner; readonly next: string | undefined },
): Promise<ShownPage | undefined> {
  const { signal } = exchange;
  try {
    const answer = await owner.send({
      method: 'GET',
      path: `/v2/_millpond/search?${withNext(parameters, next).toString()}`,
      headers: {},
      body: undefined,
      isPush: false,
      caller: writeCaller(exchange),
      signal,
    });
    const translate = (cause: unknown): unknown => (signal.aborted ? signal.reason : unreadable(cause));
    const body = transferBody(answer, { idleMs: 10_000, expectedBytes: undefined, translate });
    const bytes = await readBounded(body, maxPageBytes);
    if (answer.status !== 200 || bytes === undefined) throw unreadable();
    const page = parseJson(bytes, limits) as Omit<ShownPage, 'results'> & { readonly results: readonly ShownEntry[] };
    if (!Array.isArray(page.results) || page.tokens?.length !== page.results.length) throw unreadable();
    const isShown = page.results.map(({ repository }) => owner.rules.isHosted(repository) && mayRead(repository));
    const shown = <Value>(values: readonly Value[]): Value[] => values.filter((_, index) => isShown[index]);
    const results = shown(page.results).map((result) => JSON.stringify(result));
    return { results, tokens: shown(page.tokens), next: page.next, complete: page.complete };
  } catch (error) {
    if (!isTransient(error)) throw error;
    return undefined;
  }
}

function withNext(parameters: URLSearchParams, next: string | undefined): URLSearchParams {
  const own = new URLSearchParams(parameters);
  own.delete('next');
  if (next !== undefined) own.set('next', next);
  return own;
}

function readPlaces(text: string | null): Places {
  if (text === null) return { own: undefined, hosted: undefined };
  try {
    const said = JSON.parse(Buffer.from(text, 'base64url').toString()) as Partial<Places>;
    const isPlace = (place: unknown): boolean => place === null || place === undefined || typeof place === 'string';
    if (isPlace(said.own) && isPlace(said.hosted) && !Array.isArray(said))
      return { own: said.own, hosted: said.hosted };
  } catch {
    // Refused below.
  }
  const sentence = 'the parameter next has to be what an answer to the same search gave';
  throw new RegistryError('bad-parameter', sentence, { detail: { parameter: 'next' } });
}

function unreadable(cause?: unknown): RegistryError {
  return new RegistryError('owner-away', 'the replica that keeps the hosted repositories has not searched them', {
    cause,
  });
}
