import type { SQLInputValue } from 'node:sqlite';
import type { Digest } from '../../oci/digest.ts';
import { type FoundEntry, type ListedEntry, shownJson } from './entry.ts';
import type { IndexFile, IndexRow } from './index-file.ts';
import type { SearchPosition, SearchQuery } from './search-query.ts';
import { digestFacet, facet } from './words.ts';

/** Up to so many matches are sorted; more are found by going through the order that is asked for. */
const maxSorted = 3_000;

/** How long and for how many conditions it is remembered that they match more; in milliseconds. */
const rememberMs = 60_000;
const maxRemembered = 1_000;

/** An entry with its place in the order of the query. */
export interface PlacedEntry {
  readonly entry: ListedEntry;
  readonly position: SearchPosition;
}

/** A condition on the text of an entry: for the full-text index, and for a scan. */
interface TextCondition {
  readonly match: string;
  readonly sql: string;
  readonly values: readonly string[];
}

interface Conditions {
  readonly sql: readonly string[];
  readonly values: readonly SQLInputValue[];
}

/** Answers queries from the index. */
export class IndexReader {
  readonly #file: IndexFile;
  /** Conditions that were found to match more than can be sorted: to find that out takes longer than the search itself. */
  readonly #denseUntilMs = new Map<string, number>();

  constructor(file: IndexFile) {
    this.#file = file;
  }

  /** The entries that fit, in the order of the query, but those of some repositories. @throws what SQLite throws */
  search(query: SearchQuery, excluded: readonly string[]): PlacedEntry[] {
    const texts = textConditions(query);
    const conditions = entryConditions(query, excluded);
    const order = orderOf(query);
    const match = texts.map((text) => text.match).join(' AND ');
    const sparse = this.#sparse(match);
    const columns = `e.id, e.${query.sort} AS key, e.repository, e.tag, e.digest, e.hosted, e.type, e.size, e.created, e.changed,
      e.cached, e.pulled, e.pulls, d.detail`;
    // The long rows of documents are read for what is shown alone.
    const rows =
      sparse === undefined
        ? this.#file.all(
            `SELECT ${columns} FROM entries e INDEXED BY ${this.#indexFor(query)} CROSS JOIN documents d ON d.id = e.id
             WHERE ${[...conditions.sql, ...texts.map((text) => text.sql)].join(' AND ')} ORDER BY ${order} LIMIT ?`,
            ...conditions.values,
            ...texts.flatMap((text) => text.values),
            query.limit,
          )
        : this.#file.all(
            `SELECT ${columns} FROM (
               SELECT e.* FROM json_each(?) AS found CROSS JOIN entries e ON e.id = found.value
               WHERE ${conditions.sql.join(' AND ')} ORDER BY ${order} LIMIT ?
             ) e CROSS JOIN documents d ON d.id = e.id ORDER BY ${order}`,
            sparse,
            ...conditions.values,
            query.limit,
          );
    return rows.map(placed);
  }

  /** The entries of a manifest in a repository. */
  named(repository: string, digest: Digest): FoundEntry[] {
    return this.#file
      .all(
        'SELECT e.*, d.detail, e.name AS key FROM entries e JOIN documents d ON d.id = e.id WHERE e.digest = ? AND e.repository = ? ORDER BY e.name',
        digest,
        repository,
      )
      .map(whole);
  }

  /** The ids of what matches, as JSON; `undefined` where they are too many to be sorted, or everything matches. */
  #sparse(match: string): string | undefined {
    const nowMs = performance.now();
    if (match === '' || (this.#denseUntilMs.get(match) ?? 0) > nowMs) return undefined;
    const row = this.#file.get(
      `SELECT COUNT(*) AS found, json_group_array(id) AS ids
       FROM (SELECT rowid AS id FROM texts WHERE texts MATCH ? LIMIT ${maxSorted + 1})`,
      match,
    );
    if (Number(row?.['found']) <= maxSorted) return String(row?.['ids']);
    if (this.#denseUntilMs.size >= maxRemembered) this.#denseUntilMs.clear();
    this.#denseUntilMs.set(match, nowMs + rememberMs);
    return undefined;
  }

  /** The index of the order; that of a time or size where it leaves only a few. */
  #indexFor({ sort, time, sinceMs, untilMs, minSizeBytes, maxSizeBytes }: SearchQuery): string {
    const ranges = [
      { column: time, from: sinceMs, to: untilMs },
      { column: 'size', from: minSizeBytes, to: maxSizeBytes },
    ].filter(({ column, from, to }) => column !== sort && (from !== undefined || to !== undefined));
    const narrow = ranges.find(({ column, from, to }) => {
      const row = this.#file.get(
        `SELECT COUNT(*) AS found FROM (SELECT 1 FROM entries WHERE hidden = 0 AND ${column} BETWEEN ? AND ? LIMIT ${maxSorted + 1})`,
        from ?? 0,
        to ?? Number.MAX_SAFE_INTEGER,
      );
      return Number(row?.['found']) <= maxSorted;
    });
    return `entries_by_${narrow?.column ?? sort}`;
  }
}

function orderOf({ sort, descending }: SearchQuery): string {
  const direction = descending ? 'DESC' : 'ASC';
  return `e.${sort} ${direction}, e.id ${direction}`;
}

function textConditions(query: SearchQuery): TextCondition[] {
  const { phrases, types, mediaTypes, platform, digest, repository, exactRepository } = query;
  const facets = (...words: readonly string[]): TextCondition => ({
    match: `facets : (${words.map((word) => `"${word}"`).join(' OR ')})`,
    sql: `(${words.map(() => 'instr(d.facets, ?) > 0').join(' OR ')})`,
    values: words.map((word) => ` ${word} `),
  });
  return [
    // Words as `words.ts` gives them have no quotation marks.
    ...phrases.map((phrase) => ({
      match: `words : "${phrase}" *`,
      sql: 'instr(d.words, ?) > 0',
      values: [` ${phrase}`],
    })),
    ...(types.length > 0 ? [facets(...types.map((type) => facet('t', type)))] : []),
    ...(mediaTypes.length > 0 ? [facets(...mediaTypes.map((type) => facet('a', type)))] : []),
    ...(platform === undefined ? [] : [facets(facet('p', platform))]),
    ...(repository === undefined ? [] : [facets(facet('r', repository))]),
    ...(exactRepository === undefined ? [] : [facets(facet('r', exactRepository))]),
    ...(digest === undefined ? [] : [digestCondition(digest)]),
  ];
}

function digestCondition(digest: string): TextCondition {
  const word = digestFacet(digest);
  return { match: `facets : "${word}" *`, sql: 'instr(d.facets, ?) > 0', values: [` ${word}`] };
}

function entryConditions(query: SearchQuery, excluded: readonly string[]): Conditions {
  const { exactRepository, minSizeBytes, maxSizeBytes, time, sinceMs, untilMs, latest, sort, descending, after } =
    query;
  const conditions: (readonly [sql: string, ...values: SQLInputValue[]])[] = [['e.hidden = 0']];
  if (exactRepository !== undefined) conditions.push(['e.repository = ?', exactRepository]);
  if (query.isHosted === true) conditions.push(['e.hosted = 1']);
  if (minSizeBytes !== undefined) conditions.push(['e.size >= ?', minSizeBytes]);
  if (maxSizeBytes !== undefined) conditions.push(['e.size <= ?', maxSizeBytes]);
  if (sinceMs !== undefined) conditions.push([`e.${time} >= ?`, sinceMs]);
  if (untilMs !== undefined) conditions.push([`e.${time} <= ?`, untilMs]);
  if (latest) conditions.push(['e.latest = 1']);
  if (after !== undefined) {
    conditions.push([`(e.${sort}, e.id) ${descending ? '<' : '>'} (?, ?)`, after.key, after.id]);
  }
  if (excluded.length > 0) {
    conditions.push(['e.repository NOT IN (SELECT value FROM json_each(?))', JSON.stringify(excluded)]);
  }
  return { sql: conditions.map(([sql]) => sql), values: conditions.flatMap(([, ...values]) => values) };
}

function placed(row: IndexRow): PlacedEntry {
  const key = row['key'];
  const columns = columnsOf(row);
  const { repository, tag, digest, isHosted } = columns;
  return {
    position: { key: typeof key === 'string' ? key : Number(key), id: Number(row['id']) },
    entry: { repository, tag, digest, isHosted, json: shownJson(columns, String(row['detail'])) },
  };
}

type Detail = Pick<FoundEntry, 'artifactType' | 'mediaType' | 'platforms' | 'annotations' | 'subject'>;

function whole(row: IndexRow): FoundEntry {
  return { ...columnsOf(row), ...(JSON.parse(String(row['detail'])) as Detail) };
}

function columnsOf(row: IndexRow): Omit<FoundEntry, keyof Detail> {
  const tag = String(row['tag']);
  return {
    repository: String(row['repository']),
    tag: tag === '' ? null : tag,
    digest: row['digest'] as Digest,
    isHosted: row['hosted'] === 1,
    type: String(row['type']),
    sizeBytes: Number(row['size']),
    createdAtMs: Number(row['created']),
    changedAtMs: Number(row['changed']),
    cachedAtMs: Number(row['cached']),
    pulledAtMs: Number(row['pulled']),
    pulls: Number(row['pulls']),
  };
}
