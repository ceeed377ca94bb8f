import { cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const parts = [
  'src',
  'test',
  'bin',
  'bench',
  'deploy',
  'docs',
  'scripts',
  'package.json',
  'vitest.config.ts',
  'tsconfig.json',
  'README.md',
  'CONTRIBUTING.md',
  'docker-compose.yml',
];

/** A copy of the project, so that nothing is ever changed in place; its packages are the same ones. */
export async function sandbox(root: string): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'millpond-mutation-'));
  for (const part of parts) await cp(join(root, part), join(path, part), { recursive: true });
  await symlink(join(root, 'node_modules'), join(path, 'node_modules'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
