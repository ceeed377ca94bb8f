import { once } from 'node:events';
import type { ServerResponse } from 'node:http';

/**
 * Writes a text at the client's pace. Returns at once where the client has left.
 * @param options `idleMs`: a client that takes nothing for so long is cut, in milliseconds; default: it may take its time
 */
export async function writePaced(
  res: ServerResponse,
  text: string,
  { idleMs }: { readonly idleMs?: number } = {},
): Promise<void> {
  if (res.destroyed || res.write(text)) return;
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  res.once('close', resolve);
  const timer = idleMs === undefined ? undefined : setTimeout(() => res.destroy(), idleMs);
  await Promise.race([once(res, 'drain'), closed]);
  clearTimeout(timer);
  res.removeListener('close', resolve);
}
