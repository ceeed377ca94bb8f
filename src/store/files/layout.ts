import { access, constants, mkdir, open, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '../../oci/digest.ts';
import { causeOf, keepPrivate, privateFolder, requireOneFileSystem } from './private-folders.ts';

/** Version of everything below the cache directory; another version is refused, never misread. */
const layoutVersion = 1;

const versionFileName = 'millpond.json';

/** The journal of names; its format version is in its name, so that another one is never misread. */
export const nameJournalFile = 'names-1.journal';

/** Where things are in a cache directory. `blobs/` is that of an OCI image layout, so standard tools can read it. */
export interface Layout {
  readonly dir: string;
  readonly blobs: string;
  readonly ingest: string;
  /** Blobs that were found altered. */
  readonly quarantine: string;
  readonly catalog: string;
  /** Whether blobs can only be read: what changes is elsewhere, and lasts as long as this process. */
  readonly isReadOnly: boolean;
  blob(digest: Digest): string;
  partial(digest: Digest): string;
}

/** The paths below a cache directory; touches no file. */
export function layoutOf(dir: string): Layout {
  const blobs = join(dir, 'blobs');
  const ingest = join(dir, 'ingest');
  return {
    dir,
    blobs,
    ingest,
    quarantine: join(dir, 'quarantine'),
    catalog: join(dir, 'catalog.sqlite'),
    isReadOnly: false,
    blob: (digest) => join(blobs, digestAlgorithm(digest), digestHex(digest)),
    partial: (digest) => join(ingest, `${digestAlgorithm(digest)}-${digestHex(digest)}`),
  };
}

// https://bford.info/cachedir/: backup programs leave such a directory out.
const cacheDirTag = `Signature: 8a477f597d28d172789f06886806bc55
# This file marks a cache directory of Millpond. Its content can be fetched again.
`;

/**
 * Prepares a cache directory, or checks an existing one.
 * @throws Error in one sentence if the directory belongs to another version of the layout or to another program, or
 *   cannot be
 *   created, read or written
 */
export async function prepareLayout(layout: Layout): Promise<void> {
  await makeFolder(layout.dir);
  await access(layout.dir, constants.W_OK).catch((error: NodeJS.ErrnoException) => {
    throw new Error(`the cache directory ${layout.dir} cannot be written to: ${error.code}`, { cause: error });
  });
  // SQLite would report an I/O error.
  await access(layout.catalog, constants.R_OK | constants.W_OK).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT')
      throw new Error(`cannot read and write ${layout.catalog}: ${reasonOf(error)}`, { cause: error });
  });
  const found = await requireOurs(layout);
  await makeFolder(join(layout.blobs, 'sha256'));
  await makeFolder(join(layout.blobs, 'sha512'));
  await makeFolder(layout.ingest);
  await keepPrivate(layout);
  await requireOneFileSystem(layout);
  await keepFile(join(layout.dir, 'CACHEDIR.TAG'), cacheDirTag);
  await keepFile(join(layout.dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}\n');
  if (found === undefined) {
    await keepFile(join(layout.dir, versionFileName), `${JSON.stringify({ layout: layoutVersion })}\n`);
  }
}

/**
 * Checks that a cache directory has this version's layout, and belongs to no other program.
 * @returns its version; `undefined` if it does not say
 * @throws Error in one sentence
 */
export async function requireOurs(layout: Layout): Promise<number | undefined> {
  const versionFile = join(layout.dir, versionFileName);
  const found = await readVersion(versionFile);
  if (found === 'unknown') {
    throw new Error(
      `the cache directory ${layout.dir} does not say what layout it has, and this version reads layout ${layoutVersion}: use another cache.dir, or remove ${versionFile} if no other version has made it`,
    );
  }
  if (found !== undefined && found !== layoutVersion) {
    throw new Error(
      `the cache directory ${layout.dir} has layout ${found} and this version reads layout ${layoutVersion}: use another cache.dir, or empty this one`,
    );
  }
  if (found === undefined && (await isForeign(layout))) {
    throw new Error(
      `the cache directory ${layout.dir} has blobs that are not from a cache: use another cache.dir, because content of a cache is evicted`,
    );
  }
  return found;
}

/**
 * Does something below the cache directory; a missing directory there, removed under a running mirror, is created again
 * first. The cache directory itself is not. @throws the system's error
 */
export async function withFolders<Result>(layout: Layout, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  for (const folder of [layout.ingest, layout.blobs, join(layout.blobs, 'sha256'), join(layout.blobs, 'sha512')]) {
    await mkdir(folder, { mode: privateFolder }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
  return await work();
}

/** Creates a directory and its missing parents. */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: privateFolder });
  } catch (error) {
    throw new Error(`cannot make the folder ${path}: ${reasonOf(await causeOf(path, error))}`, { cause: error });
  }
}

async function readVersion(file: string): Promise<number | 'unknown' | undefined> {
  const text = await readText(file);
  if (text === undefined) return undefined;
  try {
    const { layout } = JSON.parse(text) as { layout?: unknown };
    return typeof layout === 'number' ? layout : 'unknown';
  } catch {
    return 'unknown';
  }
}

/** Whether a directory is a cache, even if its catalog is lost; touches no file. @throws Error in one sentence */
export async function isCache({ dir, catalog }: Layout): Promise<boolean> {
  const names = await namesIn(dir);
  return [basename(catalog), nameJournalFile, versionFileName].some((name) => names.includes(name));
}

/** Whether there are blobs but none of the files that every cache has: it is another program's OCI image layout. */
async function isForeign(layout: Layout): Promise<boolean> {
  const names = await namesIn(layout.dir);
  if (names.includes(basename(layout.catalog)) || names.includes(nameJournalFile)) return false;
  // One after the other: a folder that cannot be listed is always named by the same sentence.
  for (const algorithm of ['sha256', 'sha512']) {
    if ((await namesIn(join(layout.blobs, algorithm))).length > 0) return true;
  }
  return false;
}

async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new Error(`cannot list the folder ${folder}: ${reasonOf(error)}`, { cause: error });
  });
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`cannot read ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

/**
 * Makes sure that a small file has a certain content; a crash leaves the old or the new content. A correct file is not
 * written again: a mirror on a full disk has to start, or it would never make space.
 */
async function keepFile(path: string, content: string): Promise<void> {
  if ((await readText(path)) === content) return;
  try {
    await writeFile(`${path}.new`, content);
    await rename(`${path}.new`, path);
  } catch (error) {
    throw new Error(`cannot write ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Why the system has refused something with a path, for people. */
export function reasonOf(error: unknown): string {
  const { code = 'unknown' } = error as NodeJS.ErrnoException;
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return `this user may not (${code})`;
    case 'EEXIST':
    case 'ENOTDIR':
      return `something that is no folder is in its place or on its way (${code})`;
    case 'EROFS':
      return `its file system is read-only (${code})`;
    case 'EISDIR':
      return `it is a folder (${code})`;
    case 'ENOENT':
      return `a link on its way leads nowhere (${code})`;
    default:
      return code;
  }
}

/** Makes a rename inside `dir` survive a power loss. */
export async function syncDirectory(dir: string): Promise<void> {
  await using handle = await open(dir, 'r');
  await handle.sync();
}
