import { glob, readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import type { MutatedFolder } from './folders.ts';

/** The sources of a folder of `src/`. @returns their paths within the project, in order */
export async function sourcesOf(root: string, folder: string): Promise<string[]> {
  return (await Array.fromAsync(glob(`src/${folder}/**/*.ts`, { cwd: root }))).toSorted();
}

/** The test files for a change in a source, in stages: those that import it, the others that are near, those that are far. */
export async function testsFor(root: string, source: string, { near, far }: MutatedFolder): Promise<string[][]> {
  const all = (await Array.fromAsync(glob('test/**/*.test.ts', { cwd: root }))).toSorted();
  const within = (starts: readonly string[]) => all.filter((test) => starts.some((start) => test.startsWith(start)));
  const nearest: string[] = [];
  const others: string[] = [];
  for (const test of within(near)) ((await imports(root, test, source)) ? nearest : others).push(test);
  const farTests = within(far).filter((test) => !nearest.includes(test) && !others.includes(test));
  return [nearest, others, farTests];
}

async function imports(root: string, test: string, source: string): Promise<boolean> {
  const path = relative(dirname(test), source);
  return (await readFile(join(root, test), 'utf8')).includes(path);
}
