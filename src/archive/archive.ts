import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { ArchiveError, shownName } from './archive-error.ts';

/** A file of an archive, while it is being gone through. */
export interface ArchivedFile {
  readonly name: string;
  readonly size: number;
  /** Its content, once; the chunks are the reader's to keep. @throws ArchiveError where it is cut short */
  readonly body: AsyncIterable<Buffer>;
}

/** Files by name, in a tar archive or a folder. Nothing is ever unpacked. */
export interface Archive extends AsyncDisposable {
  /** Sizes in bytes of all files by their names. */
  readonly files: ReadonlyMap<string, number>;
  /** The name of the file that a name stands for, links followed; `undefined` where there is none. */
  resolve(name: string): string | undefined;
  /** Goes once through the files that are wanted, in the order in which they come. @throws ArchiveError */
  visit(names: ReadonlySet<string>): AsyncGenerator<ArchivedFile>;
}

/** Most bytes of documents that are read into memory together. */
const maxDocumentsBytes = 32 * 1024 * 1024;

/**
 * Reads whole files into memory; those that are not there are left out.
 * @param maxBytes the most that one of them may have
 * @throws ArchiveError where one has more, or all together too many
 */
export async function readDocuments(
  archive: Archive,
  names: Iterable<string>,
  { maxBytes }: { maxBytes: number },
): Promise<Map<string, Buffer>> {
  const wanted = new Set<string>();
  let totalBytes = 0;
  for (const name of new Set(names)) {
    const size = archive.files.get(name);
    if (size === undefined) continue;
    if (size > maxBytes) throw new ArchiveError(`${shownName(name)} in it has ${size} bytes, more than it may`);
    totalBytes += size;
    wanted.add(name);
  }
  if (totalBytes > maxDocumentsBytes)
    throw new ArchiveError(`its manifests have ${totalBytes} bytes, more than they may`);
  const documents = new Map<string, Buffer>();
  if (wanted.size === 0) return documents;
  for await (const { name, body } of archive.visit(wanted)) {
    const chunks: Buffer[] = [];
    for await (const chunk of body) chunks.push(chunk);
    documents.set(name, Buffer.concat(chunks));
  }
  return documents;
}

/** Where a blob lies in an image layout (image-spec, "OCI Image Layout": blobs). */
export function blobName(digest: Digest): string {
  return `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}
