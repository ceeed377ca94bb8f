import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';
import type { GetOptions, Reply } from '../support/client.ts';

/** The line of an htpasswd file, with the cheapest hash. */
export function htpasswdLine(user: string, password: string): string {
  return `${user}:${hashSync(password, 4)}\n`;
}

/** Writes an htpasswd file. @returns its path */
export async function htpasswdFile(folder: string, users: Readonly<Record<string, string>>): Promise<string> {
  const path = join(folder, 'htpasswd');
  await writeFile(
    path,
    Object.entries(users)
      .map(([user, password]) => htpasswdLine(user, password))
      .join(''),
  );
  return path;
}

/** The headers of a user with a password. */
export function basic(user: string, password: string): { readonly authorization: string } {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

/** The headers of a caller with a token. */
export function bearer(token: string): { readonly authorization: string } {
  return { authorization: `Bearer ${token}` };
}

/** A token from the token service. */
export async function tokenOf(
  site: { get(path: string, options?: GetOptions): Promise<Reply> },
  scope: string,
  headers: Readonly<Record<string, string>>,
): Promise<string> {
  const query = scope === '' ? '' : `&scope=${encodeURIComponent(scope)}`;
  const answer = await site.get(`/token?service=millpond${query}`, { headers });
  if (answer.status !== 200) throw new Error(`the token service answered ${answer.status}`);
  return (JSON.parse(answer.body.toString()) as { token: string }).token;
}

/** The parameters of the one challenge of an answer, which has to be for Bearer. */
export function challengeOf({ rawHeaders }: Reply): Readonly<Record<string, string>> {
  const found = rawHeaders.flatMap((name, index) =>
    index % 2 === 0 && name.toLowerCase() === 'www-authenticate' ? [rawHeaders[index + 1] ?? ''] : [],
  );
  if (found.length !== 1 || !found[0]?.startsWith('Bearer ')) throw new Error(`challenges: ${found.join(' | ')}`);
  return Object.fromEntries([...found[0].matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', text = '']) => [key, text]));
}
