import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { get } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { clusterSecret } from './support.ts';

export interface ProcessesOptions {
  readonly replicas: number;
  /** Of Redis. */
  readonly url: string;
  readonly upstream: { readonly origin: string };
  readonly config?: Readonly<Record<string, unknown>>;
  readonly cluster?: Readonly<Record<string, unknown>>;
}

/** Several mirrors as their users run them, each a process of its own, once they see one another. */
export async function startProcesses(
  options: ProcessesOptions,
): Promise<{ readonly mirrors: readonly MillpondProcess[] } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const { path } = stack.use(await temporaryDirectory('replicas'));
  const secretFile = join(path, 'secret');
  await writeFile(secretFile, clusterSecret);
  const mirrors = await Promise.all(
    Array.from({ length: options.replicas }, async (_, index) => {
      const directory = join(path, String(index));
      await mkdir(directory);
      const config = {
        upstreams: { 'docker.io': { urls: [options.upstream.origin] } },
        redis: { url: options.url },
        ...options.config,
        cluster: { secretFile, ...options.cluster },
      };
      return stack.use(await startMillpond(config, { directory }));
    }),
  );
  for (const mirror of mirrors) {
    await expect.poll(() => metricOf(mirror, 'millpond_peer_replicas')).toBe(options.replicas);
  }
  const owned = stack.move();
  return { mirrors, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/**
 * Whether a replica has lost Redis: from then on each may fetch for itself, which is what it should do. Three answers that take
 * 50 ms are enough, and a busy machine takes as long.
 */
export function hasLostRedis(mirrors: readonly MillpondProcess[]): boolean {
  return mirrors.some(({ process }) => process.output.includes('"msg":"Redis lost'));
}

/** Makes an attempt after the other, until one says that what it had to show could be seen. */
export async function untilSeen(attempt: () => Promise<boolean>): Promise<void> {
  let isSeen = false;
  while (!isSeen) isSeen = await attempt();
}

/** The value of a metric, summed over its labels. */
export async function metricOf(mirror: { readonly origin: string }, name: string): Promise<number> {
  const text = (await get(`${mirror.origin}/metrics`)).body.toString();
  const values = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}
