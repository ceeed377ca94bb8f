import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { HostedScrub } from '../hosted/scrub.ts';
import type { Parts } from './parts.ts';

/**
 * Reads hosted content again if the last time is long enough ago. The first look only notes when it was: what has just been
 * pushed has been read. @param options `note`: a file that says when the last round was; `everyMs`: 0 for never
 */
export async function scrubIfDue(
  scrub: Pick<HostedScrub, 'run'>,
  options: Pick<Parts, 'log' | 'now'> & {
    readonly signal: AbortSignal;
    readonly note: string;
    readonly everyMs: number;
  },
): Promise<void> {
  const { log, signal, note, everyMs, now } = options;
  try {
    const last = await readFile(note, 'utf8').catch(() => '');
    if (everyMs === 0 || now() - Date.parse(last) < everyMs) return;
    const read = last === '' ? undefined : await scrub.run(signal);
    await mkdir(dirname(note), { recursive: true, mode: 0o700 });
    await writeFile(note, new Date(now()).toISOString());
    if (read) log.info({ ...read }, 'hosted content scrubbed');
  } catch (error) {
    if (!signal.aborted) log.error({ error: String(error) }, 'hosted content cannot be scrubbed');
  }
}
