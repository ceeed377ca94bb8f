import { availableParallelism } from 'node:os';
import { credentialsDecide } from '../access/access-control.ts';
import type { Config } from '../config/config.ts';

/** Threads beyond these are rarely of use beside what the main one does. */
const mostThreads = 4;

/** How many threads are to answer what is stored: what is configured, or as many as there are cores to run them. */
export function wantedThreads(
  { serve, auth, hold }: Pick<Config, 'serve' | 'auth' | 'hold'>,
  cores = availableParallelism(),
): number {
  if (serve.threads !== 'auto') return serve.threads;
  // The main thread decides each request, and would only have it handed over.
  if (hold.length > 0 || (auth !== undefined && !credentialsDecide(auth))) return 1;
  return Math.min(mostThreads, cores);
}
