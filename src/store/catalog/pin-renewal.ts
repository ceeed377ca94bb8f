import { type Digest, isDigest } from '../../oci/digest.ts';
import type { Database } from './database.ts';
import type { ImageGraph } from './image-graph.ts';
import { digestIn, number, text } from './row.ts';

export interface PinRenewalOptions {
  readonly graph: ImageGraph;
  readonly pins: {
    /** Whether a tag or digest of a repository is pinned. */
    isPinned(repository: string, reference: string): boolean;
    /** Whether a pin stands for a manifest or for what needs it, or something that is marked needs a blob. */
    isHeld(digest: Digest): boolean;
  };
}

/** What is gone through, in this order: nothing is freed before all is marked that has come to be pinned. */
const phases = ['pins', 'tags', 'manifests', 'blobs'] as const;
type Phase = (typeof phases)[number];
type Key = readonly (string | number)[];

/** Comes before every row. */
const beginning: Readonly<Record<Phase, Key>> = {
  pins: ['', ''],
  tags: [-1, '', ''],
  manifests: [''],
  blobs: [''],
};

/** Where it is, as the catalog notes it. */
interface Position {
  readonly phase: Phase;
  /** The row that was looked at last. */
  readonly after: Key;
}

const noteName = 'pins anew';
/** For how long it goes on in one go, in milliseconds: others have their turn then. */
const stepMs = 4;
/** How many rows are looked at between two looks at the time. */
const rowsAtOnce = 8;

/** Marks what is pinned now and nothing else, step by step, after the pins have changed. A restart goes on where it was. */
export class PinRenewal {
  readonly #database: Database;
  readonly #options: PinRenewalOptions;

  constructor(database: Database, options: PinRenewalOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Begins, or begins anew. To be called within a write of the database. */
  begin(): void {
    this.#note({ phase: 'pins', after: beginning.pins });
  }

  /**
   * Does some of it, at once.
   * @returns whether there is more
   * @throws Error where the catalog cannot be read or written: it is where it was
   */
  step(): boolean {
    const position = this.#position();
    if (position === undefined) return false;
    this.#database.writeNow(() => {
      const startMs = performance.now();
      const { faults } = this.#database;
      let at: Position | undefined = position;
      while (at !== undefined && performance.now() - startMs < stepMs) at = this.#advance(at);
      // What could not be read is not pinned by nobody.
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

  /** @returns the last row that was looked at; `undefined`: there are none left */
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

  /** Manifests first: what is no manifest is held by those that are marked. */
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
