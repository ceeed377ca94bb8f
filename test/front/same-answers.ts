import type { Reply } from '../support/client.ts';
import type { TestSite } from '../support/site.ts';

/** Of an answer, all that has to be the same from two mirrors. */
export function comparable({ status, rawHeaders, sha256, complete }: Reply) {
  const lines: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = rawHeaders.slice(at, at + 2) as [string, string];
    if (name !== 'Date') lines.push(`${name}: ${value.replace(/boundary=.*/, '')}`);
  }
  const isInParts = lines.some((line) => line.includes('multipart/'));
  return { status, lines, sha256: isInParts ? '' : sha256, complete };
}

/** What the log and the metrics have of the requests so far. */
export async function told(site: TestSite) {
  const { body } = await site.get('/metrics');
  const text = body.toString();
  const counts = text
    .split('\n')
    .filter((line) => /^millpond_(?:requests_total|client_bytes_total|request_duration_seconds_count)/.test(line));
  const log = site.logLines
    .filter(({ msg }) => msg === 'request')
    .map(({ ms, time: _time, pid: _pid, hostname: _hostname, ...line }) => ({ ...line, hasMs: typeof ms }));
  return { counts: counts.toSorted(), log };
}

/** The value of a counter without labels; `undefined`: there is none of that name. */
export async function counter(site: TestSite, name: string): Promise<number | undefined> {
  const { body } = await site.get('/metrics');
  const value = new RegExp(`^${name} (\\d+)`, 'm').exec(body.toString())?.[1];
  return value === undefined ? undefined : Number(value);
}
