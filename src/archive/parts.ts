import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Archive } from './archive.ts';
import { ArchiveError } from './archive-error.ts';
import { type ChecksumList, checksumListPath, findChecksumList } from './checksum-list.ts';
import { openDirectory } from './directory-archive.ts';
import { openTar } from './tar-archive.ts';

const partName = /^(.*)\.(\d{3,4})$/;
/** As many as four digits can count. */
const maxParts = 9999;

/**
 * Opens an archive: a tar archive, its parts in any order, or a directory. If only one part is named, or the whole that
 * the parts belong to, the others are found beside it.
 * @param signal aborts all reads
 * @throws ArchiveError; the signal's reason
 */
export async function openArchive(paths: readonly string[], signal?: AbortSignal): Promise<Archive> {
  const [first, ...others] = paths;
  if (first === undefined) throw new ArchiveError('no archive is named');
  const found = await stat(first).catch(() => undefined);
  if (others.length === 0 && found?.isDirectory()) return await openDirectory(first);
  if (others.length > 0) return await openTar(inOrder(paths), signal);
  if (found && !partName.test(first)) return await openTar([first], signal);
  const whole = partName.exec(first)?.[1] ?? first;
  const parts = await partsOf(whole);
  // A name may end in digits for other reasons.
  const hasFirst = parts.some((path) => Number(partName.exec(path)?.[2]) === 1);
  return await openTar(hasFirst || !found ? inOrderOr(parts, first) : [first], signal);
}

/** The list beside an archive, if there is one. @param path of the archive, or of one of its parts */
export async function listBeside(path: string): Promise<ChecksumList | undefined> {
  const whole = partName.exec(path)?.[1];
  const own = await findChecksumList(checksumListPath(path));
  return own ?? (whole === undefined ? undefined : await findChecksumList(checksumListPath(whole)));
}

/** Whether a name is that of an archive or of one of its parts. */
export function isFileOf(whole: string, name: string): boolean {
  return name === whole || partName.exec(name)?.[1] === whole;
}

/**
 * The names of a number of parts: all of one length, so that sorting by name gives their order.
 * @throws ArchiveError if there are too many
 */
export function partPaths(whole: string, count: number): string[] {
  if (count > maxParts) {
    throw new ArchiveError(`${whole} would come in ${count} parts, and ${maxParts} are the most: choose larger ones`);
  }
  const digits = Math.max(3, String(count).length);
  return Array.from({ length: count }, (_, index) => `${whole}.${String(index + 1).padStart(digits, '0')}`);
}

/** The parts of an archive that are stored together. */
export async function partsOf(whole: string): Promise<string[]> {
  const names = await readdir(dirname(whole)).catch((): string[] => []);
  const wanted = basename(whole);
  return names.filter((name) => partName.exec(name)?.[1] === wanted).map((name) => join(dirname(whole), name));
}

function inOrderOr(parts: readonly string[], path: string): string[] {
  return parts.length > 0 ? inOrder(parts) : [path];
}

/** @throws ArchiveError if one is missing or named twice */
function inOrder(paths: readonly string[]): string[] {
  const byNumber = new Map<number, string>();
  for (const path of paths) {
    const [, whole, digits] = partName.exec(basename(path)) ?? [];
    if (digits === undefined) throw new ArchiveError(`${path} is not a part: parts end in .001, .002 and so on`);
    const before = byNumber.get(Number(digits));
    if (before !== undefined && before !== path) throw new ArchiveError(`${before} and ${path} are the same part`);
    const [sibling] = byNumber.values();
    if (sibling !== undefined && partName.exec(basename(sibling))?.[1] !== whole) {
      throw new ArchiveError(`${sibling} and ${path} are not parts of one archive`);
    }
    byNumber.set(Number(digits), path);
  }
  const last = Math.max(...byNumber.keys());
  for (let number = 1; number <= last; number += 1) {
    if (!byNumber.has(number)) throw new ArchiveError(`part ${String(number).padStart(3, '0')} is missing`);
  }
  return [...byNumber].toSorted(([one], [other]) => one - other).map(([, path]) => path);
}
