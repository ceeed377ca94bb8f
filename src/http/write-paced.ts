import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/** Writes a text at the client's pace. Returns at once where the client has left. */
export async function writePaced(res: ServerResponse, text: string): Promise<void> {
  if (res.destroyed || res.write(text)) return;
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  res.once('close', resolve);
  await Promise.race([once(res, 'drain'), closed]);
  res.removeListener('close', resolve);
}
