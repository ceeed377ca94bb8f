import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { type Archive, readDocuments } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { readDockerSave, readManifestFile } from './docker-save.ts';
import type { FoundImages } from './found-images.ts';
import { readImageFolder } from './image-folder.ts';
import { readIndexFile } from './index-file.ts';
import { maxListBytes } from './limits.ts';
import type { Root } from './roots.ts';

/**
 * Reads the lists of an archive, wherever they are in it.
 * @returns what they lead to, and the digest of the lists
 * @throws ArchiveError where one cannot be read
 */
export async function readLists(
  archive: Archive,
  roots: readonly Root[],
): Promise<FoundImages & { readonly digest: Digest }> {
  const names = roots.map(({ prefix, list }) => `${prefix}${list}`);
  const lists = await readDocuments(archive, names, { maxBytes: maxListBytes });
  const isAtTop = roots.every(({ prefix }) => prefix === '');
  const folders = isAtTop ? new Map<string, string[]>() : Map.groupBy(archive.files.keys(), folderOf);
  const found: FoundImages[] = isAtTop ? [] : [blobsIn(archive)];
  for (const { prefix, list } of roots) {
    const bytes = lists.get(`${prefix}${list}`);
    if (bytes === undefined) throw new ArchiveError(`it is cut short: it lacks ${shownName(`${prefix}${list}`)}`);
    found.push(
      await readList(archive, { prefix, list, bytes, names: folders.get(prefix) ?? [...archive.files.keys()] }),
    );
  }
  const digests = names.map((name) => digestOf(lists.get(name)!));
  return {
    images: found.flatMap(({ images }) => images),
    unreadable: found.flatMap(({ unreadable }) => unreadable),
    made: new Map(found.flatMap(({ made }) => [...made])),
    files: new Map(found.flatMap(({ files }) => [...files])),
    digest: digests.length === 1 ? digests[0]! : digestOf(Buffer.from(digests.join('\n'))),
  };
}

async function readList(
  archive: Archive,
  { prefix, list, bytes, names }: Root & { readonly bytes: Buffer; readonly names: readonly string[] },
): Promise<FoundImages> {
  if (list === 'index.json') return { ...readIndexFile(bytes), made: new Map(), files: new Map() };
  const entries = readManifestFile(bytes, 'manifest.json');
  if (entries !== undefined) return await readDockerSave(archive, prefix, entries);
  return readImageFolder(bytes, { prefix, names });
}

/** Blobs of image layouts that are not at the archive's top. */
function blobsIn(archive: Archive): FoundImages {
  const files = new Map<Digest, string>();
  for (const name of archive.files.keys()) {
    const [, algorithm, hex] = /\/blobs\/(sha256|sha512)\/([0-9a-f]+)$/.exec(name) ?? [];
    const digest = `${algorithm}:${hex}`;
    if (isDigest(digest)) files.set(digest, name);
  }
  return { images: [], unreadable: [], made: new Map(), files };
}

function folderOf(name: string): string {
  return name.slice(0, name.lastIndexOf('/') + 1);
}
