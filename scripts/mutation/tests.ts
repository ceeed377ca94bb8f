import { glob } from 'node:fs/promises';
import { idOf, type Reach } from './coverage.ts';
import type { MutatedFolder } from './folders.ts';
import type { Mutant } from './mutants.ts';

/** How long the files of the first stage may take together. */
const quickMs = 10_000;

/** The sources of a folder of `src/`. @returns their paths within the project, in order */
export async function sourcesOf(root: string, folder: string): Promise<string[]> {
  return (await Array.fromAsync(glob(`src/${folder}/**/*.ts`, { cwd: root }))).toSorted();
}

/** The files of tests that may judge the changes of a folder. */
export async function testsOf(root: string, { near, far }: MutatedFolder): Promise<string[]> {
  const all = (await Array.fromAsync(glob('test/**/*.test.ts', { cwd: root }))).toSorted();
  return all.filter((test) => [...near, ...far].some((start) => test.startsWith(start)));
}

/** Those that run the code of a change, the quickest first. */
export function testsFor(mutant: Mutant, reaches: readonly Reach[]): Reach[] {
  const id = idOf(mutant);
  return reaches.filter(({ ids, fails }) => !fails && ids.has(id)).toSorted((one, other) => one.tookMs - other.tookMs);
}

/** Quick files of tests share one start of the program and a short limit; those after the first few seconds follow. */
export function stages(tests: readonly Reach[]): Reach[][] {
  let tookMs = 0;
  const quick = tests.filter((test, index) => index === 0 || (tookMs += test.tookMs) < quickMs);
  return [quick, tests.filter((test) => !quick.includes(test))].filter((stage) => stage.length > 0);
}
