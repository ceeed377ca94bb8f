import { withFileName } from './archive-error.ts';
import { readContent } from './archived-content.ts';
import { type Base, readChecksumList } from './checksum-list.ts';
import { openArchive } from './parts.ts';

/**
 * The content that a new archive need not repeat.
 * @param path of an earlier archive, one of its parts, or its list
 * @throws ArchiveError
 */
export async function readBase(path: string): Promise<Base> {
  const list = await readChecksumList(path);
  if (list) return list;
  try {
    await using archive = await openArchive([path]);
    const { id, description, blobs, manifests } = await readContent(archive);
    return { id, complete: description?.complete ?? [...manifests, ...blobs].map(({ digest }) => digest) };
  } catch (error) {
    throw withFileName(error, [path]);
  }
}
