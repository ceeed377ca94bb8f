import { expect } from 'vitest';
import { launcher, run } from '../cli/spawn.ts';

/** Runs a command beside a running mirror. */
export async function runMillpond(
  { cacheDir }: { readonly cacheDir: string },
  args: readonly string[],
): Promise<{ readonly stdout: string }> {
  const environment = { MILLPOND_CACHE_DIR: cacheDir };
  const { code, stdout, stderr } = await run(launcher, args, { cwd: cacheDir, environment });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return { stdout };
}
