import { posix } from 'node:path';
import type { Archive, ArchivedFile } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { ArchiveFile } from './archive-file.ts';
import { type Cursor, readThrough } from './cursor.ts';
import { plainName, type TarEntry, tarEntries } from './tar-reader.ts';

/** Most links that are followed one after another. */
const maxLinks = 8;

/**
 * Opens a tar archive, plain or compressed with gzip or zstd, and looks at all its headers.
 * @param paths the file, or its parts in their order
 * @throws ArchiveError where it is none, is cut short, or has something in it that has no business there
 */
export async function openTar(paths: readonly string[]): Promise<Archive> {
  await using owned = new AsyncDisposableStack();
  const file = owned.use(await ArchiveFile.open(paths));
  await using cursor = file.cursor();
  const entries = new Map<string, TarEntry>();
  const links = new Map<string, string>();
  let isEmpty = true;
  for await (const entry of tarEntries(cursor)) {
    isEmpty = false;
    if (entry.link) {
      links.set(entry.name, linkTarget(entry.name, entry.link));
      continue;
    }
    const earlier = entries.get(entry.name);
    // A blob's digest tells whether it is the right one; of anything else nobody could.
    if (earlier && (earlier.size !== entry.size || !entry.name.startsWith('blobs/'))) {
      throw new ArchiveError(`it has ${shownName(entry.name)} twice`);
    }
    if (!earlier) entries.set(entry.name, entry);
  }
  if (isEmpty) throw new ArchiveError('it is no tar archive, or an empty one');
  for (const name of links.keys()) {
    if (entries.has(name)) throw new ArchiveError(`it has ${shownName(name)} twice`);
  }
  owned.move();
  return new TarArchive(file, { entries, links });
}

class TarArchive implements Archive {
  readonly files: ReadonlyMap<string, number>;
  readonly #file: ArchiveFile;
  readonly #entries: ReadonlyMap<string, TarEntry>;
  readonly #links: ReadonlyMap<string, string>;

  constructor(
    file: ArchiveFile,
    { entries, links }: { entries: ReadonlyMap<string, TarEntry>; links: ReadonlyMap<string, string> },
  ) {
    this.#file = file;
    this.#entries = entries;
    this.#links = links;
    this.files = new Map([...entries].map(([name, { size }]) => [name, size]));
  }

  resolve(name: string): string | undefined {
    let found = name;
    for (let count = 0; count <= maxLinks; count += 1) {
      if (this.#entries.has(found)) return found;
      const target = this.#links.get(found);
      if (target === undefined) return undefined;
      found = target;
    }
    throw new ArchiveError(`the link ${shownName(name)} in it leads nowhere`);
  }

  async *visit(names: ReadonlySet<string>): AsyncGenerator<ArchivedFile> {
    if (!this.#file.isSeekable) {
      await using cursor = this.#file.cursor();
      const done = new Set<string>();
      for await (const entry of tarEntries(cursor)) {
        if (entry.link || !names.has(entry.name) || done.has(entry.name)) continue;
        done.add(entry.name);
        yield archivedFile(cursor, entry);
      }
      return;
    }
    const wanted = [...this.#entries.values()].filter(({ name }) => names.has(name));
    for (const entry of wanted.toSorted((one, other) => one.position - other.position)) {
      await using cursor = this.#file.cursor(entry.position);
      yield archivedFile(cursor, entry);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file[Symbol.asyncDispose]();
  }
}

function archivedFile(cursor: Cursor, { name, size }: TarEntry): ArchivedFile {
  const cut = () => new ArchiveError(`it is cut short within ${shownName(name)}`);
  return { name, size, body: readThrough(cursor, size, cut) };
}

/** The name that a link leads to. @throws ArchiveError where that is outside of the archive */
function linkTarget(name: string, { kind, target }: NonNullable<TarEntry['link']>): string {
  const from = kind === 'symbolic' && !target.startsWith('/') ? posix.dirname(name) : '';
  const joined = posix.join(from, target);
  if (target === '' || joined.startsWith('/') || joined.startsWith('..')) {
    throw new ArchiveError(`the link ${shownName(name)} in it leads out of it`);
  }
  return plainName(joined);
}
