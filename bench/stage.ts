import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  type Contestant,
  type MillpondOptions,
  startDockerRegistry,
  startMillpond,
  startNginx,
} from './contestants.ts';
import { acceptManifests } from './image.ts';
import type { ContestantName, RowOptions } from './row.ts';
import { startUpstream, type Upstream, type UpstreamOptions } from './upstream-process.ts';

const starters: { [name in ContestantName]?: (options: MillpondOptions) => Promise<Contestant> } = {
  millpond: startMillpond,
  nginx: startNginx,
  'docker-registry': startDockerRegistry,
};

/** What a row runs on: an upstream, and the contestants with empty caches. */
export interface Stage {
  readonly directory: string;
  readonly upstream: Upstream;
  readonly contestants: readonly Contestant[];
}

/** Starts an upstream and those of the contestants that are wanted; all is owned by `stack`. */
export async function setStage(
  stack: AsyncDisposableStack,
  { profileDirectory, threads, contestants: wanted }: RowOptions,
  options: Omit<UpstreamOptions, 'directory'> & { readonly contestants: readonly ContestantName[] },
): Promise<Stage> {
  const directory = await mkdtemp(join(tmpdir(), 'millpond-bench-'));
  const remove = () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  process.once('exit', remove);
  stack.defer(() => {
    process.removeListener('exit', remove);
    remove();
  });
  const upstream = stack.use(await startUpstream({ ...options, directory }));
  const contestants: Contestant[] = [];
  for (const name of options.contestants.filter((each) => wanted.has(each))) {
    const own = join(directory, name);
    await mkdir(own);
    const starter = starters[name];
    const contestant: Contestant = starter
      ? await starter({ directory: own, upstreamOrigin: upstream.origin, threads, profileDirectory })
      : { name, origin: upstream.origin };
    if (contestant.program) stack.use(contestant.program);
    contestants.push(contestant);
  }
  return { directory, upstream, contestants };
}

/** The contestants in another order for each repetition, so that none always has the first or the last place. */
export function* rotated<Item>(items: readonly Item[], repetition: number): Generator<Item, void, undefined> {
  for (const index of items.keys()) {
    const item = items[(index + repetition) % items.length];
    if (item !== undefined) yield item;
  }
}

/** `/v2/library/app/blobs/sha256:…?ns=docker.io`, as containerd asks a mirror. */
export function pathOf(kind: 'blobs' | 'manifests', reference: string): string {
  return `/v2/library/app/${kind}/${reference}?ns=docker.io`;
}

/** Pulls once and checks what arrives. @throws Error when it is not what the digest says */
export async function pullAndCheck(contestant: Contestant, path: string, digest: string): Promise<void> {
  const response = await fetch(`${contestant.origin}${path}`, { headers: { Accept: acceptManifests } });
  const hash = createHash('sha256');
  for await (const chunk of response.body ?? []) hash.update(chunk);
  const arrived = `sha256:${hash.digest('hex')}`;
  if (!response.ok || arrived !== digest) {
    throw new Error(`${contestant.name} sent other bytes for ${path}: status ${response.status}, ${arrived}`);
  }
}
