import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

export const clusterSecret = 'the secret that all replicas of a test share';

export interface FleetOptions {
  readonly replicas: number;
  readonly upstreams: Readonly<Record<string, { readonly origin: string } | Readonly<Record<string, unknown>>>>;
  readonly config?: Readonly<Record<string, unknown>>;
  readonly cluster?: Readonly<Record<string, unknown>>;
  readonly now?: () => number;
  /** Where each says that it is reached, by its number; default: where it is. */
  readonly advertise?: (index: number) => string;
  readonly redisArgs?: readonly string[];
}

/**
 * How long Redis may take, in milliseconds. All replicas of a test share one process, and whether they are together may
 * not depend on how busy that is.
 */
export const redisDeadlineMs = 3_000;

export interface AddOptions {
  readonly cacheDir?: string;
  readonly upstreams?: FleetOptions['upstreams'];
  readonly config?: FleetOptions['config'];
}

/** Several mirrors in this process, each with a directory and a port of its own, and the Redis they share. */
export interface TestFleet extends AsyncDisposable {
  readonly sites: readonly TestSite[];
  readonly redis: RedisServer;
  /** Puts another configuration in force at one of them, which stays a replica. @param config all but the upstreams */
  reconfigure(site: TestSite, config: Readonly<Record<string, unknown>>): Promise<void>;
  /** Starts one more. @param options `cacheDir`: of one that has run before, kept at the end; the others: its own */
  add(options?: AddOptions): Promise<TestSite>;
}

export async function startFleet(options: FleetOptions): Promise<TestFleet> {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis({ args: options.redisArgs ?? [] }));
  const directory = stack.use(await temporaryDirectory('fleet'));
  const secretFile = join(directory.path, 'secret');
  await writeFile(secretFile, clusterSecret);
  const sites: TestSite[] = [];
  const joinedBy = new Map<TestSite, object>();
  const add = async (
    into: AsyncDisposableStack,
    { cacheDir, upstreams = options.upstreams, config = options.config }: AddOptions = {},
  ): Promise<TestSite> => {
    const joined = {
      redis: { url: redis.url },
      cluster: {
        secretFile,
        ...options.cluster,
        ...(options.advertise && { advertise: options.advertise(sites.length) }),
      },
    };
    const site = into.use(
      await startTestSite({
        upstreams,
        now: options.now,
        redisDeadlineMs,
        ...(cacheDir !== undefined && { cacheDir }),
        config: { ...config, ...joined },
      }),
    );
    sites.push(site);
    joinedBy.set(site, joined);
    return site;
  };
  for (let index = 0; index < options.replicas; index += 1) await add(stack);
  for (const site of sites) await expect.poll(() => metric(site, 'millpond_peer_replicas')).toBe(options.replicas);
  const owned = stack.move();
  return {
    sites,
    redis,
    reconfigure: (site, config) => site.reconfigure({ ...config, ...joinedBy.get(site) }),
    add: (given) => add(owned, given),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The value of a metric without labels, or the sum over its labels. */
export async function metric(site: TestSite, name: string): Promise<number> {
  const text = (await site.get('/metrics')).body.toString();
  const values = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}
