import { basename } from 'node:path';

/** Something in an archive is invalid or unreadable: one sentence for the user. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError';
}

/** The error of an archive, prefixed with the name of its file. @param paths of the archive, at least one */
export function withFileName(error: unknown, paths: readonly string[]): unknown {
  if (!(error instanceof ArchiveError) || paths.some((path) => error.message.includes(path))) return error;
  return new ArchiveError(`${basename(paths[0] ?? '')}: ${error.message}`, { cause: error });
}

/** A name from an archive, made safe for one line of a terminal. */
export function shownName(name: string): string {
  const shown = name.replaceAll(/[^\x20-\x7e]/g, '?');
  return `"${shown.length > 120 ? `${shown.slice(0, 117)}...` : shown}"`;
}
