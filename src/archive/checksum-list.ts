import { readFile } from 'node:fs/promises';
import { type Digest, isDigest } from '../oci/digest.ts';
import { ArchiveError } from './archive-error.ts';

/** The base of an archive: another archive, and what is stored after that one has been imported. */
export interface Base {
  readonly id: Digest;
  readonly complete: readonly Digest[];
}

/** The list beside an archive: checksums of its files for sha256sum, and its contents in comments. */
export interface ChecksumList extends Base {
  readonly since: Digest | undefined;
  readonly files: readonly { readonly name: string; readonly sha256: string }[];
}

const idLine = '# archive ';
const sinceLine = '# since ';
const holdsLine = '# holds ';

/** The path of an archive's list. */
export function checksumListPath(archive: string): string {
  return `${archive}.sha256`;
}

/** The text of a list. `sha256sum --check` skips the comments. */
export function formatChecksumList({ id, since, complete, files }: ChecksumList): string {
  const lines = [
    `${idLine}${id}`,
    ...(since ? [`${sinceLine}${since}`] : []),
    ...complete.toSorted().map((digest) => `${holdsLine}${digest}`),
    ...files.map(({ name, sha256 }) => `${sha256}  ${name}`),
  ];
  return `${lines.join('\n')}\n`;
}

/** @returns `undefined` if a text is not a list of Millpond */
function parseChecksumList(text: string): ChecksumList | undefined {
  const lines = text.split('\n');
  const id = text.startsWith(idLine) ? lines[0]!.slice(idLine.length) : '';
  if (!isDigest(id)) return undefined;
  const after = (start: string): Digest[] =>
    lines.filter((line) => line.startsWith(start)).map((line) => line.slice(start.length) as Digest);
  const files = [...text.matchAll(/^([0-9a-f]{64}) {2}(.+)$/gm)].map(([, sha256, name]) => ({
    sha256: sha256!,
    name: name!,
  }));
  return { id, since: after(sinceLine)[0], complete: after(holdsLine).filter(isDigest), files };
}

/** The list at a path, if it is one of Millpond. */
export async function findChecksumList(path: string): Promise<ChecksumList | undefined> {
  return parseChecksumList(await readFile(path, 'utf8').catch(() => ''));
}

/** Reads a file as a list. @returns `undefined` if it is something else, such as an archive. @throws ArchiveError */
export async function readChecksumList(path: string): Promise<ChecksumList | undefined> {
  if (!path.endsWith('.sha256')) return undefined;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new ArchiveError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
  const list = parseChecksumList(text);
  if (!list) throw new ArchiveError(`${path} is not the list of an archive of Millpond`);
  return list;
}
