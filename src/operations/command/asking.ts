import type { ImportRoom } from '../protocol/import.ts';

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
export async function nextOf<Event>(answers: AsyncIterator<Event>): Promise<Event> {
  const { value, done } = await answers.next();
  if (done === true) throw new Error('the mirror has not answered');
  return value;
}
