import { opendir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { type BlobStore, DiskFault } from '../files/blob-store.ts';
import type { Layout } from '../files/layout.ts';
import type { Catalog } from './catalog.ts';
import { rebuildNote } from './catalog-schema.ts';
import type { NameBatch } from './name-journal.ts';
import { recallManifest } from './remembered-manifest.ts';

/** The sources of a rebuild, in this order. */
export type RebuildStage = 'names' | 'manifests' | 'files';

/** The findings of a rebuild. */
export interface RebuildCounts {
  readonly names: number;
  readonly manifests: number;
  readonly files: number;
}

/** The steps of a rebuild, for the log, the metrics and the health of the replica. */
export type RebuildEvent =
  | { readonly kind: 'rebuilding'; readonly stage: RebuildStage }
  | { readonly kind: 'rebuilt'; readonly counts: RebuildCounts }
  /** The disk did not allow it to continue: the next start tries again. */
  | { readonly kind: 'rebuild-fault'; readonly fault: DiskFault };

export interface RebuildOptions {
  readonly layout: Layout;
  readonly catalog: Catalog;
  readonly store: BlobStore;
  readonly report: (event: RebuildEvent) => void;
}

/** Files or manifests examined at a time, and the pause after them, in which others have the disk. */
const stepSize = 20;
const pauseMs = 5;

/**
 * Restores a catalog that was lost, or is older than the journal of names, from disk: the journal of names, the manifests in it, and the files under `blobs/`. It starts
 * with each such catalog, continues after a restart, and can be repeated: newer knowledge is kept.
 */
export class Rebuild {
  readonly #options: RebuildOptions;
  #counts = { names: 0, manifests: 0, files: 0 };

  constructor(options: RebuildOptions) {
    this.#options = options;
  }

  /** The current or next phase; `undefined`: none. */
  get stage(): RebuildStage | undefined {
    const note = this.#options.catalog.notes.get(rebuildNote);
    if (note === undefined) return undefined;
    return note === 'manifests' || note === 'files' ? note : 'names';
  }

  /** The findings of the current rebuild so far. */
  get counts(): RebuildCounts {
    return this.#counts;
  }

  /** If there is nothing to rebuild from, the catalog is complete. Call it before {@link run}. */
  async skipIfEmpty(): Promise<void> {
    const { catalog, layout } = this.#options;
    if (this.stage === undefined || catalog.names.journalBytes > 0) return;
    for (const algorithm of ['sha256', 'sha512']) {
      for await (const _ of namesIn(join(layout.blobs, algorithm))) return;
    }
    catalog.notes.remove(rebuildNote);
    catalog.names.noteWhole();
  }

  /** Reads the names: after that, an offline mirror can answer as before. @throws the signal's reason */
  async readNames(signal: AbortSignal): Promise<void> {
    const { catalog, report } = this.#options;
    if (this.stage !== 'names') return;
    report({ kind: 'rebuilding', stage: 'names' });
    const note = catalog.notes.get(rebuildNote);
    for await (const batch of catalog.names.journal(Number(note?.split(' ')[1] ?? 0))) {
      signal.throwIfAborted();
      this.#take(batch);
      await new Promise(setImmediate);
    }
    catalog.together(() => {
      catalog.notes.set(rebuildNote, 'manifests');
      catalog.names.mark.note();
    });
  }

  /** Does the remaining phases. A failing disk ends it until the next start. @throws the signal's reason */
  async run(signal: AbortSignal): Promise<void> {
    const { catalog, report } = this.#options;
    if (this.stage === undefined) return;
    try {
      await this.readNames(signal);
      if (this.stage === 'manifests') await this.#readManifests(signal);
      await this.#findFiles(signal);
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      report({ kind: 'rebuild-fault', fault: error });
      return;
    }
    catalog.together(() => {
      catalog.names.forgetAllRemembered();
      catalog.notes.remove(rebuildNote);
    });
    report({ kind: 'rebuilt', counts: this.#counts });
    this.#counts = { names: 0, manifests: 0, files: 0 };
  }

  #take({ entries, end }: NameBatch): void {
    const { catalog } = this.#options;
    catalog.together(() => {
      for (const entry of entries) catalog.names.restore(entry);
      catalog.notes.set(rebuildNote, `names ${end}`);
    });
    this.#counts.names += entries.length;
  }

  async #readManifests(signal: AbortSignal): Promise<void> {
    const { catalog, report } = this.#options;
    report({ kind: 'rebuilding', stage: 'manifests' });
    let last = '';
    while (true) {
      const some = catalog.names.rememberedPage({ after: last, limit: stepSize });
      for (const digest of some) if (await recallManifest(digest, this.#options)) this.#counts.manifests += 1;
      last = some.at(-1) ?? '';
      if (last === '') break;
      await delay(pauseMs, undefined, { signal });
    }
    catalog.notes.set(rebuildNote, 'files');
  }

  async #findFiles(signal: AbortSignal): Promise<void> {
    const { layout, report } = this.#options;
    report({ kind: 'rebuilding', stage: 'files' });
    for (const algorithm of ['sha256', 'sha512']) {
      let step: Digest[] = [];
      for await (const name of namesIn(join(layout.blobs, algorithm))) {
        const digest = `${algorithm}:${name}`;
        if (isDigest(digest)) step.push(digest);
        if (step.length < stepSize) continue;
        await this.#adopt(step);
        step = [];
        await delay(pauseMs, undefined, { signal });
      }
      await this.#adopt(step);
    }
  }

  async #adopt(digests: readonly Digest[]): Promise<void> {
    const { catalog, store } = this.#options;
    const unknown = digests.filter((digest) => !catalog.blobs.has(digest));
    const found = await Promise.all(unknown.map(async (digest) => ({ digest, file: await store.stat(digest) })));
    catalog.together(() => {
      for (const { digest, file } of found) {
        // It has not been hashed: no modification time is one at which it was right.
        if (file) catalog.blobs.adopt(digest, { size: file.size, usedAtMs: file.usedAtMs });
      }
    });
    this.#counts.files += found.length;
  }
}

/** The names in a directory, of which only some are held at a time. @throws DiskFault */
async function* namesIn(folder: string): AsyncGenerator<string> {
  try {
    for await (const { name } of await opendir(folder, { bufferSize: stepSize })) yield name;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new DiskFault('list the blobs', error);
  }
}
