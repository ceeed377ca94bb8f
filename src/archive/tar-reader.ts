import { ArchiveError, shownName } from './archive-error.ts';
import type { Cursor } from './cursor.ts';
import { maxEntries, maxNamesLength } from './limits.ts';
import { blockBytes, decodeAttributes, decodeHeader, padded, type TarHeader } from './tar-header.ts';

/** Longest extra header that is read, in bytes: they hold names. */
const maxExtraBytes = 64 * 1024;
/** Most of them before one entry. */
const maxExtras = 8;

/** A file, a link, or something that is neither, in a tar archive. */
export interface TarEntry {
  /** As {@link plainName} has it. */
  readonly name: string;
  readonly size: number;
  /** Where its content begins. */
  readonly position: number;
  /** For a link: its target, as written. */
  readonly link: { readonly kind: 'hard' | 'symbolic'; readonly target: string } | undefined;
  /** Why its content cannot be read, in words that follow its name; `undefined`: it can. */
  readonly unreadable: string | undefined;
}

/**
 * The entries of a tar archive, in its order, each while the cursor stands at its content, to be read there. Directories
 * are left out, and so is what no image could name: an entry whose name leads out of the archive or is no name at all.
 * @throws ArchiveError where the archive is cut short or a header is damaged, has too many entries, or too long names
 */
export async function* tarEntries(cursor: Cursor): AsyncGenerator<TarEntry> {
  let attributes = new Map<string, string>();
  let count = 0;
  let extras = 0;
  let namesLength = 0;
  while (true) {
    const block = await cursor.read(blockBytes);
    // Blocks of zeros end an archive: one that just stops has lost something, and be it whole files.
    if (block.length === 0 && count > 0) throw new ArchiveError('it is cut short: its end is missing');
    if (block.length === 0) return;
    if (block.length < blockBytes) throw new ArchiveError('it is cut short in the middle of a header');
    const header = decodeHeader(block);
    if (header === undefined) return;
    count += 1;
    if (count > maxEntries) throw new ArchiveError(`it has more than ${maxEntries} entries`);
    if (isExtra(header)) {
      extras += 1;
      if (extras > maxExtras) throw new ArchiveError(`it has more than ${maxExtras} extra headers for one entry`);
      for (const [key, value] of await readExtra(cursor, header)) attributes.set(key, value);
      continue;
    }
    const entry = entryOf(header, attributes, cursor.position);
    attributes = new Map();
    extras = 0;
    namesLength += (entry.name?.length ?? 0) + (entry.link?.target.length ?? 0);
    if (namesLength > maxNamesLength) throw new ArchiveError('the names of its entries are too long');
    const end = cursor.position + padded(entry.size);
    const { name, isFolder, ...rest } = entry;
    if (!isFolder && name !== undefined) yield { ...rest, name };
    if (cursor.position > end) throw new Error('more was read than the entry has');
    await cursor.skipTo(end, entry.name ?? header.name);
  }
}

/**
 * A name without `.` parts and a leading `./`.
 * @returns `undefined` where it is absolute, leads upwards, or is no name at all
 */
export function plainName(name: string): string | undefined {
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  const leadsOut = name.startsWith('/') || parts.includes('..');
  if (leadsOut || parts.length === 0 || name.includes('\0') || name.length > 4096) return undefined;
  return parts.join('/');
}

type MaybeNamed = Omit<TarEntry, 'name'> & { readonly name: string | undefined; readonly isFolder: boolean };

function entryOf(header: TarHeader, attributes: ReadonlyMap<string, string>, position: number): MaybeNamed {
  const written = attributes.get('path') ?? header.name;
  // Before ustar a slash at the end said that it is a directory. The name in a header may be cut off at one.
  const isFolder = header.type === '5' || (header.type === '0' && written.endsWith('/'));
  const said = attributes.has('size') ? Number(attributes.get('size')) : header.size;
  const size = isFolder || isHeaderOnly(header) ? 0 : said;
  if (!Number.isSafeInteger(size) || size < 0) throw new ArchiveError(`the size of ${shownName(written)} is no number`);
  // A sparse file of GNU tar may be called something else in its header.
  const sparseName = attributes.get('GNU.sparse.name');
  const isSparse = header.type === 'S' || [...attributes.keys()].some((key) => key.startsWith('GNU.sparse.'));
  const name = plainName(sparseName ?? written);
  const target = attributes.get('linkpath') ?? header.linkName;
  const entry = { name, size, position, link: undefined, unreadable: undefined, isFolder };
  if (isSparse) return { ...entry, unreadable: 'is stored as a sparse file: pack it without --sparse' };
  switch (header.type) {
    case '0':
      return entry;
    case '1':
      return { ...entry, link: { kind: 'hard', target } };
    case '2':
      return { ...entry, link: { kind: 'symbolic', target } };
    default:
      return { ...entry, unreadable: 'is neither a file nor a folder nor a link' };
  }
}

/** Entries whose size, where they say one, is not that of content (POSIX.1-2001, ustar: `typeflag`). */
function isHeaderOnly({ type }: TarHeader): boolean {
  return type >= '1' && type <= '6';
}

function isExtra({ type }: TarHeader): boolean {
  return type === 'x' || type === 'g' || type === 'L' || type === 'K';
}

/** Attributes of the entry that follows: pax headers, and the long names of GNU. */
async function readExtra(cursor: Cursor, { type, size, name }: TarHeader): Promise<Map<string, string>> {
  if (size > maxExtraBytes) throw new ArchiveError(`an extra header in it has ${size} bytes`);
  const content = await cursor.read(padded(size));
  if (content.length < padded(size)) throw new ArchiveError(`it is cut short within ${shownName(name)}`);
  const bytes = content.subarray(0, size);
  if (type === 'x') return decodeAttributes(bytes);
  if (type === 'g') {
    const attributes = decodeAttributes(bytes);
    if (attributes.has('path') || attributes.has('size') || attributes.has('linkpath')) {
      throw new ArchiveError('it gives all its entries one name or size');
    }
    return new Map();
  }
  const text = bytes.toString('utf8').replaceAll('\0', '');
  return new Map([[type === 'L' ? 'path' : 'linkpath', text]]);
}
