import { createHash } from 'node:crypto';
import type { Digest } from '../../oci/digest.ts';
import { entryName, type GivenEntry, type IndexChange } from './entry.ts';
import type { IndexFile, IndexRow } from './index-file.ts';
import { type ManifestFacts, readFacts } from './manifest-facts.ts';
import { isRelease, versionKey } from './version-key.ts';
import { digestFacet, facet, repositoryFacets, wordsOf } from './words.ts';

/** Brings the index in line with what the mirror has. */
export class IndexWriter {
  readonly #file: IndexFile;
  readonly #now: () => number;
  /** Repositories and types whose newest entry may be another one by now. */
  readonly #touched = new Map<string, readonly [repository: string, type: string]>();

  constructor(file: IndexFile, now: () => number) {
    this.#file = file;
    this.#now = now;
  }

  /** Applies changes, all or none. @throws what SQLite throws */
  apply(changes: readonly IndexChange[]): void {
    this.#touched.clear();
    this.#file.transaction(() => {
      for (const change of changes) this.#apply(change);
      for (const [repository, type] of this.#touched.values()) this.#settleLatest(repository, type);
    });
  }

  /** Begins a pass over everything there is: what no change of the pass names is removed at its {@link endPass}. */
  beginPass(): void {
    this.#file.run('UPDATE state SET pass = pass + 1');
  }

  /** Removes what the pass has not found. @returns whether there is more to remove */
  endPass(limit: number): boolean {
    const rows = this.#file.all(
      'SELECT id, repository, type FROM entries WHERE pass <> (SELECT pass FROM state) LIMIT ?',
      limit,
    );
    this.#touched.clear();
    this.#file.transaction(() => {
      for (const row of rows) this.#remove(row);
      for (const [repository, type] of this.#touched.values()) this.#settleLatest(repository, type);
      if (rows.length < limit) {
        this.#file.run('DELETE FROM pulls WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.name = pulls.name)');
      }
    });
    return rows.length === limit;
  }

  #apply(change: IndexChange): void {
    switch (change.kind) {
      case 'cached':
        return this.#replaceCached(change.digest, change.entries);
      case 'put':
        return this.#put(change.entry);
      case 'gone':
        return this.#gone(change);
      case 'pulled':
        return this.#pulled(change);
      default:
        return change satisfies never;
    }
  }

  #replaceCached(digest: Digest, entries: readonly GivenEntry[]): void {
    const kept = new Set(entries.map((entry) => entryName(entry.repository, entry)));
    const rows = this.#file.all(
      'SELECT id, name, repository, type FROM entries WHERE digest = ? AND hosted = 0',
      digest,
    );
    for (const row of rows) if (!kept.has(String(row['name']))) this.#remove(row);
    for (const entry of entries) this.#put(entry);
  }

  #put(entry: GivenEntry): void {
    const name = entryName(entry.repository, entry);
    const given = fingerprint(entry);
    const before = this.#file.get('SELECT id, digest, given, type, changed FROM entries WHERE name = ?', name);
    if (before?.['given'] === given) {
      this.#file.run('UPDATE entries SET pass = (SELECT pass FROM state) WHERE id = ?', Number(before['id']));
      return;
    }
    const facts = factsOf(entry);
    if (facts === undefined) {
      if (before) this.#remove({ ...before, repository: entry.repository });
      return;
    }
    if (before) this.#touch(entry.repository, String(before['type']));
    if (entry.isHosted && entry.tag === '') this.#noteChildren(entry, facts.children);
    this.#write({ entry, facts, name, given, before });
    if (entry.isHosted) this.#settleHidden(entry.repository, [entry.digest, ...facts.children]);
    if (entry.isHosted && before && before['digest'] !== entry.digest) {
      this.#settleHidden(entry.repository, [String(before['digest'])]);
    }
  }

  #write(one: {
    readonly entry: GivenEntry;
    readonly facts: ManifestFacts;
    readonly name: string;
    readonly given: string;
    readonly before: IndexRow | undefined;
  }): void {
    const { entry, facts, name, given, before } = one;
    const { repository, tag, digest, isHosted, cachedAtMs, changedAtMs } = entry;
    const words = wordsOf(repository, tag, ...Object.values(facts.annotations));
    const facets = ` ${facetsOf(entry, facts).join(' ')} `;
    const pulls = this.#file.get('SELECT pulls, pulled FROM pulls WHERE name = ?', name);
    const detail = {
      artifactType: facts.artifactType ?? null,
      mediaType: facts.mediaType,
      platforms: facts.platforms,
      annotations: facts.annotations,
      subject: facts.subject ?? null,
    };
    this.#file.run(
      `INSERT INTO entries (name, repository, tag, digest, hosted, type, hidden, version, size, created, changed, cached, pulled,
         pulls, pass, given)
       VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, (SELECT pass FROM state), ?)
       ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, hosted = excluded.hosted, type = excluded.type,
         size = excluded.size, created = excluded.created, changed = excluded.changed, cached = excluded.cached,
         pass = excluded.pass, given = excluded.given`,
      name,
      repository,
      tag,
      digest,
      isHosted ? 1 : 0,
      facts.type,
      versionKey(tag),
      facts.sizeBytes,
      facts.createdAtMs,
      changedAtMs ?? changedBefore(before, { digest, cachedAtMs, nowMs: this.#now() }),
      cachedAtMs,
      Number(pulls?.['pulled'] ?? 0),
      Number(pulls?.['pulls'] ?? 0),
      given,
    );
    const id = Number(this.#file.get('SELECT id FROM entries WHERE name = ?', name)?.['id']);
    this.#file.run('INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)', id, words, facets, JSON.stringify(detail));
    this.#file.run('INSERT OR REPLACE INTO texts (rowid, words, facets) VALUES (?, ?, ?)', id, words, facets);
    this.#touch(repository, facts.type);
  }

  #gone({ repository, tag, digest }: IndexChange & { readonly kind: 'gone' }): void {
    const name = tag === '' ? `${repository} @${digest}` : `${repository} ${tag}`;
    const row = this.#file.get('SELECT id, repository, type, digest FROM entries WHERE name = ? AND hosted = 1', name);
    const children: IndexRow[] =
      tag === '' && digest !== undefined
        ? this.#file.all('SELECT child FROM children WHERE repository = ? AND parent = ?', repository, digest)
        : [];
    if (children.length > 0) {
      this.#file.run('DELETE FROM children WHERE repository = ? AND parent = ?', repository, digest!);
    }
    if (row) this.#remove(row);
    const others = [...children.map((child) => String(child['child'])), ...(row ? [String(row['digest'])] : [])];
    this.#settleHidden(repository, others);
  }

  #pulled({ name: { repository, reference }, count, atMs }: IndexChange & { readonly kind: 'pulled' }): void {
    const isDigest = reference.includes(':');
    const names = isDigest
      ? this.#file
          .all('SELECT name FROM entries WHERE digest = ? AND repository = ?', reference, repository)
          .map((row) => String(row['name']))
      : [`${repository} ${reference}`];
    for (const name of names) {
      this.#file.run(
        `INSERT INTO pulls VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET pulls = pulls + ?2, pulled = MAX(pulled, ?3)`,
        name,
        count,
        atMs,
      );
      this.#file.run(
        'UPDATE entries SET pulls = pulls + ?2, pulled = MAX(pulled, ?3) WHERE name = ?1',
        name,
        count,
        atMs,
      );
    }
  }

  #noteChildren({ repository, digest }: GivenEntry, children: readonly Digest[]): void {
    for (const child of children) {
      this.#file.run('INSERT OR IGNORE INTO children VALUES (?, ?, ?)', repository, child, digest);
    }
  }

  /** Shows manifests of a hosted repository by digest only where neither a tag nor an index leads to them. */
  #settleHidden(repository: string, digests: readonly string[]): void {
    for (const digest of digests) {
      this.#file.run(
        `UPDATE entries SET hidden = EXISTS (SELECT 1 FROM entries t WHERE t.digest = ?2 AND t.repository = ?1 AND t.tag <> '')
           OR EXISTS (SELECT 1 FROM children c WHERE c.repository = ?1 AND c.child = ?2) WHERE name = ?1 || ' @' || ?2`,
        repository,
        digest,
      );
    }
  }

  #remove(row: IndexRow): void {
    this.#file.run('DELETE FROM texts WHERE rowid = ?', Number(row['id']));
    this.#file.run('DELETE FROM documents WHERE id = ?', Number(row['id']));
    this.#file.run('DELETE FROM entries WHERE id = ?', Number(row['id']));
    this.#touch(String(row['repository']), String(row['type']));
  }

  #touch(repository: string, type: string): void {
    this.#touched.set(`${repository} ${type}`, [repository, type]);
  }

  /** The newest is the highest released version, else the highest one, else what was changed last. */
  #settleLatest(repository: string, type: string): void {
    const rows = this.#file.all(
      `SELECT id, version, latest FROM entries WHERE repository = ? AND type = ? AND hidden = 0
       ORDER BY version DESC, changed DESC, id LIMIT 200`,
      repository,
      type,
    );
    const best = rows.find((row) => isRelease(String(row['version']))) ?? rows[0];
    this.#file.run('UPDATE entries SET latest = 0 WHERE repository = ? AND type = ? AND latest = 1', repository, type);
    if (best) this.#file.run('UPDATE entries SET latest = 1 WHERE id = ?', Number(best['id']));
  }
}

/** The values by which an entry is found, beside its words. */
function facetsOf({ repository, digest }: GivenEntry, facts: ManifestFacts): string[] {
  const platforms = facts.platforms.flatMap((platform) => {
    const parts = platform.split('/');
    return parts.map((_, at) => facet('p', parts.slice(0, at + 1).join('/')));
  });
  const types = [facts.artifactType, ...facts.mediaTypes].filter((type) => type !== undefined);
  const all = [
    ...facts.types.map((type) => facet('t', type)),
    ...types.map((type) => facet('a', type)),
    ...platforms,
    ...repositoryFacets(repository),
    ...[digest, ...facts.parts.slice(0, 200)].map(digestFacet),
  ];
  return [...new Set(all)];
}

/** @returns `undefined` where the manifest is gone by now, or cannot be read */
function factsOf(entry: GivenEntry): ManifestFacts | undefined {
  try {
    return readFacts(entry);
  } catch {
    return undefined;
  }
}

function changedBefore(
  before: IndexRow | undefined,
  { digest, cachedAtMs, nowMs }: { readonly digest: Digest; readonly cachedAtMs: number; readonly nowMs: number },
): number {
  if (before === undefined) return cachedAtMs;
  return before['digest'] === digest ? Number(before['changed']) : nowMs;
}

function fingerprint({ digest, isHosted, sizeBytes, cachedAtMs, changedAtMs, readable }: GivenEntry): string {
  const parts = [digest, isHosted, sizeBytes, cachedAtMs, changedAtMs, Object.keys(readable).toSorted()];
  return createHash('sha1').update(JSON.stringify(parts)).digest('base64');
}
