import { basename } from 'node:path';

/** Something about an archive is not as it has to be, or cannot be read: one sentence for whoever gave it. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError';
}

/** What is wrong with an archive, with the name of its file unless it says that. @param paths where it is, at least one */
export function withFileName(error: unknown, paths: readonly string[]): unknown {
  if (!(error instanceof ArchiveError) || paths.some((path) => error.message.includes(path))) return error;
  return new ArchiveError(`${basename(paths[0] ?? '')}: ${error.message}`, { cause: error });
}

/** A name out of an archive, fit for one line of a terminal. */
export function shownName(name: string): string {
  const shown = name.replaceAll(/[^\x20-\x7e]/g, '?');
  return `"${shown.length > 120 ? `${shown.slice(0, 117)}...` : shown}"`;
}
