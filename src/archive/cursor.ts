/** Goes forward through the bytes of an archive. */
export interface Cursor extends AsyncDisposable {
  /** Bytes from the beginning. */
  readonly position: number;
  /** The next bytes: as many as asked for, fewer only at the end. They are the caller's to keep. */
  read(length: number): Promise<Buffer>;
  /**
   * Goes on to a position.
   * @param within what lies before it, for the error
   * @throws ArchiveError where the archive ends before that
   */
  skipTo(position: number, within: string): Promise<void>;
}

/** How much is read at a time: larger pieces are given back to the system each time, which costs more than it saves. */
const chunkBytes = 64 * 1024;

/**
 * The next bytes, chunk by chunk.
 * @param length at least so many have to be there
 * @throws what `cut` makes where the archive ends before that
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
