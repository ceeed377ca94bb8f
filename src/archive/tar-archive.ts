import { posix } from 'node:path';
import type { Archive, ArchivedFile } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { ArchiveFile } from './archive-file.ts';
import { type Cursor, readThrough } from './cursor.ts';
import type { SpooledFile } from './spooled-file.ts';
import { plainName, type TarEntry, tarEntries } from './tar-reader.ts';

/** Most links that are followed one after another. */
const maxLinks = 8;
/** Files of a compressed archive that are kept in memory, so that it is not gone through again for each of them. */
const keptBytes = 64 * 1024;
const maxKeptBytes = 8 * 1024 * 1024;
/** Bytes of memory that an entry costs beside its content. */
const keptOverhead = 300;

/**
 * Opens a tar archive, plain or compressed with gzip or zstd, and looks at all its headers.
 * @param paths the file, or its parts in their order
 * @param signal ends all that is read of it
 * @throws ArchiveError where it is none, or is cut short; the signal's reason
 */
export async function openTar(paths: readonly string[], signal?: AbortSignal): Promise<Archive> {
  return await readTar(await ArchiveFile.open(paths, signal));
}

/** As {@link openTar}, of a file that has no name, which is closed with the archive. */
export async function openSpooled(spooled: SpooledFile, signal?: AbortSignal): Promise<Archive> {
  return await readTar(await ArchiveFile.spooled(spooled, signal));
}

async function readTar(opened: ArchiveFile): Promise<Archive> {
  await using owned = new AsyncDisposableStack();
  const file = owned.use(opened);
  await using cursor = file.cursor();
  const entries = new Map<string, TarEntry>();
  const links = new Map<string, string>();
  const kept = new Map<string, Buffer>();
  const unreadable = new Map<string, string>();
  let leftToKeep = maxKeptBytes;
  let isEmpty = true;
  for await (const entry of tarEntries(cursor)) {
    isEmpty = false;
    if (entry.unreadable !== undefined) {
      unreadable.set(entry.name, entry.unreadable);
      continue;
    }
    if (entry.link) {
      const target = linkTarget(entry.name, entry.link);
      if (target === undefined) unreadable.set(entry.name, 'is a link that leads out of it');
      else links.set(entry.name, target);
      continue;
    }
    const earlier = entries.get(entry.name);
    // A blob's digest tells whether it is the right one; for anything else nothing could.
    if (earlier && (earlier.size !== entry.size || !isBlob(entry.name))) unreadable.set(entry.name, 'is there twice');
    if (earlier) continue;
    entries.set(entry.name, entry);
    const cost = entry.size + keptOverhead;
    if (file.isSeekable || entry.size > keptBytes || cost > leftToKeep) continue;
    leftToKeep -= cost;
    kept.set(entry.name, await contentOf(archivedFile(cursor, entry)));
  }
  if (isEmpty) throw new ArchiveError('it is not a tar archive, or it is empty');
  for (const name of links.keys()) {
    if (entries.has(name)) unreadable.set(name, 'is there twice');
  }
  for (const name of unreadable.keys()) {
    for (const known of [entries, links, kept]) known.delete(name);
  }
  owned.move();
  return new TarArchive(file, { entries, links, kept, unreadable });
}

class TarArchive implements Archive {
  readonly files: ReadonlyMap<string, number>;
  readonly unreadable: ReadonlyMap<string, string>;
  readonly #file: ArchiveFile;
  readonly #entries: ReadonlyMap<string, TarEntry>;
  readonly #links: ReadonlyMap<string, string>;
  readonly #kept: ReadonlyMap<string, Buffer>;

  constructor(
    file: ArchiveFile,
    {
      entries,
      links,
      kept,
      unreadable,
    }: {
      entries: ReadonlyMap<string, TarEntry>;
      links: ReadonlyMap<string, string>;
      kept: ReadonlyMap<string, Buffer>;
      unreadable: ReadonlyMap<string, string>;
    },
  ) {
    this.#file = file;
    this.#kept = kept;
    this.unreadable = unreadable;
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
    return undefined;
  }

  isNear(name: string): boolean {
    return this.#file.isSeekable || this.#kept.has(name);
  }

  async *visit(names: ReadonlySet<string>): AsyncGenerator<ArchivedFile> {
    if (!this.#file.isSeekable) {
      yield* this.#visitStream(names);
      return;
    }
    for (const [name, entry] of this.#entries) {
      if (!names.has(name)) continue;
      await using cursor = this.#file.cursor(entry.position);
      yield archivedFile(cursor, entry);
    }
  }

  async *#visitStream(names: ReadonlySet<string>): AsyncGenerator<ArchivedFile> {
    const left = new Set<string>();
    for (const name of names) {
      const bytes = this.#kept.get(name);
      if (bytes) yield { name, size: bytes.length, body: chunksOf(bytes) };
      else if (this.#entries.has(name)) left.add(name);
    }
    if (left.size === 0) return;
    await using cursor = this.#file.cursor();
    for await (const entry of tarEntries(cursor)) {
      // The entries have each name once: the first of a name counts.
      if (!left.delete(entry.name)) continue;
      yield archivedFile(cursor, entry);
      if (left.size === 0) return;
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

async function contentOf({ body }: ArchivedFile): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(body));
}

/** The bytes are copied: chunks are the reader's. */
async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  yield Buffer.from(bytes);
}

/** The names of blobs in an image layout, wherever that lies in the archive. */
function isBlob(name: string): boolean {
  return /(?:^|\/)blobs\/[^/]+\/[^/]+$/.test(name);
}

/** The name that a link leads to; `undefined` where that is outside of the archive. */
function linkTarget(name: string, { kind, target }: NonNullable<TarEntry['link']>): string | undefined {
  const from = kind === 'symbolic' && !target.startsWith('/') ? posix.dirname(name) : '';
  return plainName(posix.join(from, target));
}
