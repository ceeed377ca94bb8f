import { join } from 'node:path';
import type { Config } from '../config/config.ts';

/** Where a configuration keeps the keys of robots. */
export function keysFileOf({ auth, cache }: Config): string {
  return auth?.keysFile ?? join(cache.dir, 'keys.json');
}
