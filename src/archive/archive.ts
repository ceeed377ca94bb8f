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
  /** Names without readable content, with the reason in words that follow the name. */
  readonly unreadable: ReadonlyMap<string, string>;
  /** The name of the file that a name refers to, following links; `undefined` if there is none. */
  resolve(name: string): string | undefined;
  /** Whether a file can be read directly, without reading what comes before it. */
  isNear(name: string): boolean;
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
  const found = new Map<string, Buffer>();
  const limits = { maxBytes, maxTotalBytes: maxDocumentsBytes };
  for await (const [name, bytes] of documents(archive, names, limits)) found.set(name, Buffer.from(bytes));
  return found;
}

/**
 * Reads whole files, one at a time; those that are not there are left out. The bytes are the caller's until it asks for
 * the next ones.
 * @param limits the most that one of them, and all together, may have
 * @throws ArchiveError where there is more, before any is read
 */
export async function* documents(
  archive: Archive,
  names: Iterable<string>,
  { maxBytes, maxTotalBytes }: { maxBytes: number; maxTotalBytes: number },
): AsyncGenerator<[name: string, bytes: Buffer]> {
  const sizes = new Map<string, number>();
  for (const name of names) {
    const size = archive.files.get(name);
    if (size === undefined) continue;
    if (size > maxBytes) throw new ArchiveError(`${shownName(name)} in it has ${size} bytes, more than it may`);
    sizes.set(name, size);
  }
  const totalBytes = sizes.values().reduce((sum, size) => sum + size, 0);
  if (totalBytes > maxTotalBytes) throw new ArchiveError(`its manifests have ${totalBytes} bytes, more than they may`);
  if (sizes.size === 0) return;
  const buffer = Buffer.allocUnsafe(sizes.values().reduce((most, size) => Math.max(most, size), 0));
  for await (const { name, body } of archive.visit(new Set(sizes.keys()))) {
    let length = 0;
    for await (const chunk of body) length += chunk.copy(buffer, length);
    yield [name, buffer.subarray(0, length)];
  }
}

/** Where a blob lies in an image layout (image-spec, "OCI Image Layout": blobs). */
export function blobName(digest: Digest): string {
  return `blobs/${digestAlgorithm(digest)}/${digestHex(digest)}`;
}
