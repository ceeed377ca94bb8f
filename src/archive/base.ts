import { digestOf } from '../oci/digest.ts';
import { readDocuments } from './archive.ts';
import { readContent } from './archived-content.ts';
import { type Base, readChecksumList } from './checksum-list.ts';
import { openArchive } from './parts.ts';

/**
 * What an archive to be written need not have again.
 * @param path of an earlier archive, of one of its parts, or of its list
 * @throws ArchiveError
 */
export async function readBase(path: string): Promise<Base> {
  const list = await readChecksumList(path);
  if (list) return list;
  await using archive = await openArchive([path]);
  const { description, blobs, manifests } = await readContent(archive);
  if (description) return { id: description.id, complete: description.complete };
  // Another program's archive is called by its list of images.
  const lists = await readDocuments(archive, ['index.json', 'manifest.json'], { maxBytes: Number.MAX_SAFE_INTEGER });
  const id = digestOf(lists.get('index.json') ?? lists.get('manifest.json') ?? Buffer.alloc(0));
  return { id, complete: [...manifests.keys(), ...blobs.map(({ digest }) => digest)] };
}
