/** Something about an archive is not as it has to be, or cannot be read: one sentence for whoever gave it. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError';
}

/** A name out of an archive, fit for one line of a terminal. */
export function shownName(name: string): string {
  const shown = name.replaceAll(/[^\x20-\x7e]/g, '?');
  return `"${shown.length > 120 ? `${shown.slice(0, 117)}...` : shown}"`;
}
