import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of the repository. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** A page of the documentation. */
export interface Page {
  /** Below the repository: `docs/security.md`. */
  readonly name: string;
  readonly text: string;
}

/** A fenced block: what stands behind the fence, and the lines within. */
export interface Block {
  readonly page: string;
  readonly info: string;
  readonly text: string;
}

/** Every Markdown file of the repository. */
export async function allPages(): Promise<Page[]> {
  const names = await filesBelow(root, '.md');
  return await Promise.all(names.map(async (name) => ({ name, text: await readFile(join(root, name), 'utf8') })));
}

/** One page. @param name below the repository */
export async function pageText(name: string): Promise<string> {
  return await readFile(join(root, name), 'utf8');
}

/** Every source file of a folder, by its name below the repository. */
export async function sourceTexts(folders: readonly string[]): Promise<Map<string, string>> {
  const lists = await Promise.all(folders.map((folder) => filesBelow(join(root, folder), '.ts')));
  const entries = lists.flat().map(async (name) => [name, await readFile(join(root, name), 'utf8')] as const);
  return new Map(await Promise.all(entries));
}

/** The fenced blocks of all pages. */
export async function allBlocks(): Promise<Block[]> {
  return (await allPages()).flatMap(({ name, text }) =>
    [...text.matchAll(/^```(.*)\n([^]*?)^```$/gm)].map(([, info = '', block = '']) => ({
      page: name,
      info,
      text: block,
    })),
  );
}

async function filesBelow(folder: string, ending: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !['node_modules', 'data', '.git', '.stryker-tmp', 'reports'].includes(entry.name)) {
      found.push(...(await filesBelow(path, ending)));
    } else if (entry.isFile() && entry.name.endsWith(ending)) found.push(relative(root, path));
  }
  return found.toSorted();
}
