/** Moves forward through the bytes of an archive. */
export interface Cursor extends AsyncDisposable {
  /** Position in bytes from the start. */
  readonly position: number;
  /** The next bytes: as many as requested, fewer only at the end. They belong to the caller. */
  read(length: number): Promise<Buffer>;
  /**
   * Skips to a position.
   * @param within the file before that position, for the error
   * @throws ArchiveError if the archive ends before it
   */
  skipTo(position: number, within: string): Promise<void>;
}

/** Bytes read at a time: larger buffers are returned to the system each time, which costs more than it saves. */
const chunkBytes = 64 * 1024;

/**
 * The next bytes, chunk by chunk.
 * @param length minimum number of bytes that must follow
 * @throws what `cut` creates if the archive ends earlier
 */
export async function* readThrough(
  cursor: Cursor,
  length: number,
  cut: () => Error,
): AsyncGenerator<Buffer, void, undefined> {
  for (let left = length; left > 0; ) {
    const chunk = await cursor.read(Math.min(left, chunkBytes));
    if (chunk.length === 0) throw cut();
    left -= chunk.length;
    yield chunk;
  }
}
