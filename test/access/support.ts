import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';

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
