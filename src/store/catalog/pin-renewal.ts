import { type Digest, isDigest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import type { ImageGraph } from './image-graph.ts';
import { digestIn, number, text } from './row.ts';

export interface PinRenewalOptions {
  readonly graph: ImageGraph;
  readonly pins: {
    /** Whether a tag or digest of a repository is pinned. */
    isPinned(repository: string, reference: string): boolean;
    /** Whether a pin stands for a manifest or what needs it, or something marked needs a blob. */
    isHeld(digest: Digest): boolean;
  };
}

/** The phases, in order: nothing is unpinned before everything newly pinned is marked. */
const phases = ['pins', 'tags', 'manifests', 'blobs'] as const;
type Phase = (typeof phases)[number];
type Key = readonly (string | number)[];

/** Sorts before every row. */
const beginning: Readonly<Record<Phase, Key>> = {
  pins: ['', ''],
  tags: [-1, '', ''],
  manifests: [''],
  blobs: [''],
};

/** The position, as noted in the catalog. */
interface Position {
  readonly phase: Phase;
  /** The last row that was examined. */
  readonly after: Key;
}

const noteName = 'pins anew';
/** Duration of one step, in milliseconds, before other work has its turn. */
const stepMs = 4;
/** Rows examined between two looks at the time. */
const rowsAtOnce = 8;

/** Marks exactly what is pinned now, step by step, after the pins have changed. Continues after a restart. */
export class PinRenewal {
  readonly #database: Database;
  readonly #options: PinRenewalOptions;

  constructor(database: Database, options: PinRenewalOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Starts, or starts again. Call it within a write of the database. */
  begin(): void {
    this.#note({ phase: 'pins', after: beginning.pins });
  }

  /**
   * Does one step, at once.
   * @returns whether there is more
   * @throws Error if the catalog cannot be read or written; the position is unchanged then
   */
  step(): boolean {
    const position = this.#position();
    if (position === undefined) return false;
    this.#database.writeNow(() => {
      const startMs = performance.now();
      const { faults } = this.#database;
      let at: Position | undefined = position;
      while (at !== undefined && performance.now() - startMs < stepMs) at = this.#advance(at);
      // A row that could not be read must not count as unpinned.
      if (this.#database.faults > faults) throw new Error('the catalog cannot be read');
      this.#note(at);
    });
    return this.#position() !== undefined;
  }

  #advance({ phase, after }: Position): Position | undefined {
    const last = this.#look(phase, after);
    if (last !== undefined) return { phase, after: last };
    const next = phases[phases.indexOf(phase) + 1];
    return next && { phase: next, after: beginning[next] };
  }

  /** @returns the last row that was examined; `undefined`: there are none left */
  #look(phase: Phase, after: Key): Key | undefined {
    switch (phase) {
      case 'pins':
        return this.#pinDigests(after);
      case 'tags':
        return this.#pinTags(after);
      case 'manifests':
      case 'blobs':
        return this.#free(phase === 'manifests', after);
      default:
        return phase satisfies never;
    }
  }

  #pinDigests(after: Key): Key | undefined {
    const rows = this.#database.all(
      `SELECT repository, reference FROM pins WHERE (repository, reference) > (?, ?)
       ORDER BY repository, reference LIMIT ${rowsAtOnce}`,
      ...after,
    );
    const pins = rows.map((row) => [text(row, 'repository'), text(row, 'reference')] as const);
    for (const [repository, reference] of pins) if (isDigest(reference)) this.#options.graph.pin(reference, repository);
    return pins.at(-1);
  }

  #pinTags(after: Key): Key | undefined {
    const { pins, graph } = this.#options;
    const rows = this.#database.all(
      `SELECT t.repository, r.name, t.tag, t.variant, t.digest FROM tags t CROSS JOIN repositories r ON r.id = t.repository
       WHERE (t.repository, t.tag, t.variant) > (?, ?, ?) ORDER BY t.repository, t.tag, t.variant LIMIT ${rowsAtOnce}`,
      ...after,
    );
    for (const row of rows) {
      const repository = text(row, 'name');
      if (pins.isPinned(repository, text(row, 'tag'))) graph.pin(digestIn(row), repository);
    }
    const last = rows.at(-1);
    return last && [number(last, 'repository'), text(last, 'tag'), text(last, 'variant')];
  }

  /** Manifests first: other blobs are held by the marked ones. */
  #free(isOfManifests: boolean, after: Key): Key | undefined {
    const { pins, graph } = this.#options;
    const rows = this.#database.all(
      `SELECT digest FROM blobs WHERE pinned = 1 AND digest > ? ORDER BY digest LIMIT ${rowsAtOnce}`,
      ...after,
    );
    const digests = rows.map((row) => digestIn(row));
    for (const digest of digests) {
      if (graph.isManifest(digest) === isOfManifests && !pins.isHeld(digest)) graph.unpin(digest);
    }
    const last = digests.at(-1);
    return last && [last];
  }

  #position(): Position | undefined {
    const row = this.#database.get('SELECT value FROM notes WHERE name = ?', noteName);
    return row === undefined ? undefined : (JSON.parse(text(row, 'value')) as Position);
  }

  #note(position: Position | undefined): void {
    if (position === undefined) this.#database.run('DELETE FROM notes WHERE name = ?', noteName);
    else this.#database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', noteName, JSON.stringify(position));
  }
}
