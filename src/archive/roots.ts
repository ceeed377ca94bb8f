import type { Archive } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { maxImages } from './limits.ts';

/** A place in an archive where images are listed. */
export interface Root {
  /** `index.json` of an image layout; `manifest.json` of `docker save`, or of a folder with one image. */
  readonly list: 'index.json' | 'manifest.json';
  /** The names of its files begin with this: nothing, or a path that ends with a slash. */
  readonly prefix: string;
}

/**
 * Finds where an archive lists its images: at its top, else in folders within it. A place with both lists, as ours and
 * Docker's have, is read as an image layout.
 * @throws ArchiveError if there is none, or the one at its root cannot be read
 */
export function rootsOf(archive: Archive): Root[] {
  for (const list of ['index.json', 'manifest.json'] as const) {
    if (archive.files.has(list)) return [{ list, prefix: '' }];
    const why = archive.unreadable.get(list);
    if (why !== undefined) throw new ArchiveError(`${shownName(list)} in it ${why}`);
  }
  const roots = new Map<string, Root>();
  for (const list of ['index.json', 'manifest.json'] as const) {
    for (const name of archive.files.keys()) {
      if (!name.endsWith(`/${list}`)) continue;
      const prefix = name.slice(0, -list.length);
      const isLayout = list === 'manifest.json' || archive.files.has(`${prefix}oci-layout`);
      if (isLayout && !isWithin(prefix, roots)) roots.set(prefix, { list, prefix });
    }
  }
  if (roots.size === 0) {
    throw new ArchiveError('it is not an archive of images: it has neither an index.json nor a manifest.json');
  }
  if (roots.size > maxImages) throw new ArchiveError(`it has more than ${maxImages} images`);
  return [...roots.values()];
}

/** Whether a folder is one of these, or in one of them. */
function isWithin(prefix: string, roots: ReadonlyMap<string, Root>): boolean {
  for (let end = prefix.indexOf('/'); end !== -1; end = prefix.indexOf('/', end + 1)) {
    if (roots.has(prefix.slice(0, end + 1))) return true;
  }
  return false;
}
