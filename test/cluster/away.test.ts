import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filesOf, settled } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import type { TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { metric, startFleet } from './support.ts';

/** A fleet of one, and one more that can be stopped and started again with its cache. */
async function startPair(upstream: ScriptedRegistry, redisArgs: readonly string[] = []) {
  await using stack = new AsyncDisposableStack();
  const directory = stack.use(await temporaryDirectory('away'));
  const fleet = stack.use(await startFleet({ replicas: 1, upstreams: { 'docker.io': upstream }, redisArgs }));
  const cacheDir = join(directory.path, 'cache');
  const start = async (): Promise<TestSite> => {
    const site = await fleet.add({ cacheDir });
    for (const one of [fleet.sites[0]!, site]) await expect.poll(() => metric(one, 'millpond_peer_replicas')).toBe(2);
    return site;
  };
  const owned = stack.move();
  return { fleet, here: fleet.sites[0]!, start, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function millpond(site: TestSite, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand([...args, '--cache-dir', site.cacheDir], site.cacheDir);
  expect([code, stderr]).toEqual([0, '']);
  return stdout;
}

async function pinned(site: TestSite): Promise<string[]> {
  const lines = (await millpond(site, 'ls', '--json', '--pinned')).trim().split('\n');
  return lines.map((line) => (JSON.parse(line) as { name?: string }).name ?? '').filter((name) => name !== '');
}

const messages = (site: TestSite): unknown[] => site.logLines.map(({ msg }) => msg);
const lossLine = expect.stringContaining('Redis has lost commands of operators') as unknown;

describeWith(['redis-server'], 'a replica that was down', () => {
  test('removes and pins when it starts what operators removed and pinned meanwhile, and does it once', async () => {
    await using upstream = await startRegistry();
    await using pair = await startPair(upstream);
    const { here, start } = pair;
    const gone = upstream.addImage('library/gone', '1', { layers: [{ size: 1000, seed: 'gone' }] });
    const kept = upstream.addImage('library/kept', '1', { layers: [{ size: 1000, seed: 'kept' }] });
    const first = await start();
    for (const site of [here, first]) {
      for (const [name, image] of [
        ['gone', gone],
        ['kept', kept],
      ] as const) {
        for (const path of ['manifests/1', `blobs/${image.layers[0]!.digest}`])
          await site.get(`/v2/library/${name}/${path}`);
      }
      await settled(site);
    }
    expect(await filesOf(first)).toHaveLength(4);
    await first.stop();
    await millpond(here, 'rm', 'docker.io/library/gone:1');
    await millpond(here, 'pin', 'docker.io/library/kept:1');
    const second = await start();
    await expect.poll(() => filesOf(second)).toHaveLength(2);
    await expect.poll(() => messages(second)).toContain('image pinned');
    expect(await pinned(second)).toEqual(['docker.io/library/kept:1']);
    // It goes on from there: what was removed once and pulled again stays.
    expect(await second.get('/v2/library/gone/manifests/1')).toMatchObject({ status: 200, sha256: gone.digest });
    await settled(second);
    await second.stop();
    const third = await start();
    await millpond(here, 'pin', 'docker.io/library/gone:1');
    await expect.poll(() => messages(third)).toContain('image pinned');
    expect(await pinned(third)).toEqual(['docker.io/library/gone:1', 'docker.io/library/kept:1']);
    expect(await filesOf(third)).toHaveLength(3);
    expect(messages(third)).not.toContainEqual(lossLine);
  });

  test('hears it also where Redis was emptied meanwhile, and says that it may not be all', async () => {
    await using upstream = await startRegistry();
    await using pair = await startPair(upstream);
    const { fleet, here, start } = pair;
    const image = upstream.addImage('library/gone', '1', { layers: [{ size: 1000, seed: 'gone' }] });
    const first = await start();
    for (const site of [here, first]) {
      expect(await site.get('/v2/library/gone/manifests/1')).toMatchObject({ sha256: image.digest });
      await settled(site);
    }
    await first.stop();
    await fleet.redis.restart();
    await expect.poll(() => metric(here, 'millpond_redis_connected')).toBe(1);
    await millpond(here, 'rm', 'docker.io/library/gone:1');
    await fleet.redis.restart();
    await expect.poll(() => metric(here, 'millpond_redis_connected')).toBe(1);
    const second = await start();
    await expect.poll(() => filesOf(second)).toEqual([]);
    expect(messages(second)).toContainEqual(lossLine);
  });

  test('learns what was done while Redis could not be reached, when it can be again', async () => {
    await using upstream = await startRegistry();
    await using pair = await startPair(upstream);
    const { fleet, here, start } = pair;
    const other = await start();
    upstream.addImage('library/kept', '1', { layers: [{ size: 1000, seed: 'kept' }] });
    for (const site of [here, other]) await site.get('/v2/library/kept/manifests/1');
    await fleet.redis.kill();
    await expect.poll(() => metric(here, 'millpond_redis_connected')).toBe(0);
    await millpond(here, 'pin', 'docker.io/library/kept:1');
    await fleet.redis.restart();
    await expect.poll(() => messages(other)).toContain('image pinned');
  });

  test('is one of those that the log tells of as it comes and goes', async () => {
    await using upstream = await startRegistry();
    await using pair = await startPair(upstream);
    const { here, start } = pair;
    const other = await start();
    await other.stop();
    const changes = () => here.logLines.filter(({ msg }) => msg === 'replicas changed');
    await expect.poll(changes).toMatchObject([
      { others: 1, came: [other.origin], gone: [] },
      { others: 0, came: [], gone: [other.origin] },
    ]);
  });
});
