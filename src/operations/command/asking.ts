import type { BlobSize } from '../../archive/description.ts';
import type { ImportRoom } from '../protocol/import.ts';

/** Most blobs that are spoken of at once. */
export const batchSize = 20_000;

/** The cache has no room for what an archive brings. */
export class NoRoom extends Error {
  override readonly name = 'NoRoom';
  readonly bytes: number;
  readonly room: ImportRoom;

  constructor(bytes: number, room: ImportRoom) {
    super(`it brings ${bytes} bytes, more than the cache has room for`);
    this.bytes = bytes;
    this.room = room;
  }
}

/** The event that an operation yields; reads to its end. @throws Error if there is none, and what the operation throws */
export async function firstOf<Event>(events: AsyncIterable<Event>): Promise<Event> {
  const answers = events[Symbol.asyncIterator]();
  const first = await nextOf(answers);
  while ((await answers.next()).done !== true);
  return first;
}

/** The next event of an operation that continues. @throws Error if there is none, and what the operation throws */
async function nextOf<Event>(answers: AsyncIterator<Event>): Promise<Event> {
  const { value, done } = await answers.next();
  if (done === true) throw new Error('the mirror has not answered');
  return value;
}

/**
 * Has the owner of the cache hold blobs until `held` is disposed: it does for as long as its events are read.
 * @param ask the operation, for some of the blobs
 * @returns what it says of each part
 */
export async function* holdAll<Found>(
  ask: (batch: readonly BlobSize[]) => AsyncIterable<Found>,
  blobs: readonly BlobSize[],
  held: AsyncDisposableStack,
): AsyncGenerator<Found> {
  for (let start = 0; start < blobs.length; start += batchSize) {
    const batch = blobs.slice(start, start + batchSize).map(({ digest, size }) => ({ digest, size }));
    const answers = ask(batch)[Symbol.asyncIterator]();
    held.defer(async () => void (await answers.return?.()));
    yield await nextOf(answers);
  }
}
