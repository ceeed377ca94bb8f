import type { FileHandle } from 'node:fs/promises';

/** Writes all of the chunks from a position on, however little the system accepts at a time. @throws the system's error */
export async function writeAt(handle: FileHandle, chunks: readonly Buffer[], start: number): Promise<void> {
  let rest = chunks;
  let position = start;
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, position);
    if (bytesWritten === 0) throw Object.assign(new Error('nothing could be written'), { code: 'EIO' });
    position += bytesWritten;
    rest = skip(rest, bytesWritten);
  }
}

function skip(chunks: readonly Buffer[], count: number): readonly Buffer[] {
  let left = count;
  let index = 0;
  for (; index < chunks.length; index += 1) {
    const length = chunks[index]!.length;
    if (left < length) break;
    left -= length;
  }
  const rest = chunks.slice(index);
  if (left > 0) rest[0] = rest[0]!.subarray(left);
  return rest;
}
