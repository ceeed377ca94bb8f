import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { beatScript } from '../../src/coordination/fleet-scripts.ts';
import { startRedis } from '../support/redis.ts';
import { describeWith } from '../support/tools.ts';
import { sees, startCoordinator } from './support.ts';

const keys = ['{fleet}', '{fleet}:messages', '{fleet}:expiries', '{fleet}:changes', '{fleet}:news'];

interface Beat {
  readonly version: number;
  readonly isAll: boolean;
  /** Ids of those told of; those that have gone with a minus. */
  readonly told: readonly string[];
  readonly epoch: string;
}

async function beat(
  client: Redis,
  id: string,
  { lives = 60_000, entry = `entry of ${id}`, after }: { lives?: number; entry?: string; after?: Beat } = {},
): Promise<Beat> {
  const known = [after?.version ?? 0, after?.epoch ?? '', 0, 0];
  const answer = await client.eval(beatScript.lua, keys.length, ...keys, 'new epoch', id, entry, lives, ...known);
  const [version, isAll, entries, epoch] = answer as [number, number, string[], string];
  const told: string[] = [];
  for (let index = 0; index < entries.length; index += 2) {
    told.push(entries[index + 1] === '' ? `-${entries[index]}` : entries[index]!);
  }
  return { version, isAll: isAll === 1, told: told.sort(), epoch };
}

describeWith(['redis-server'], 'the replicas of a fleet', () => {
  test('learn of all once, and then only of those that have come, changed or gone', async () => {
    await using redis = await startRedis();
    using client = connect(redis.port);
    for (let index = 0; index < 300; index += 1) await beat(client, `r${index}`);
    const first = await beat(client, 'me');
    expect(first.isAll).toBe(true);
    expect(first.told).toHaveLength(301);
    const second = await beat(client, 'me', { after: first });
    expect(second).toEqual({ ...first, isAll: false, told: [] });
    await beat(client, 'r7', { entry: 'another run' });
    await beat(client, 'new');
    await beat(client, 'r8', { lives: 0 });
    await beat(client, 'r9');
    const third = await beat(client, 'me', { after: second });
    expect(third).toMatchObject({ isAll: false, told: ['-r8', 'new', 'r7'] });
  });

  test('that come and go without end leave no more behind than those who are there have to hear', async () => {
    await using redis = await startRedis();
    using client = connect(redis.port);
    const before = await beat(client, 'me');
    for (let index = 0; index < 600; index += 1) {
      await beat(client, `r${index}`);
      await beat(client, `r${index}`, { lives: 0 });
    }
    expect(await client.zcard('{fleet}:news')).toBeLessThan(300);
    const late = await beat(client, 'me', { after: before });
    expect(late).toMatchObject({ isAll: true, told: ['me'] });
    await beat(client, 'last');
    expect(await beat(client, 'me', { after: late })).toMatchObject({ isAll: false, told: ['last'] });
  });

  test('do not believe for ever in one of which Redis has lost how long it lives', async () => {
    await using redis = await startRedis();
    using client = connect(redis.port);
    await beat(client, 'killed meanwhile');
    const before = await beat(client, 'me');
    expect(before.told).toEqual(['killed meanwhile', 'me']);
    await client.del('{fleet}:expiries');
    expect(await beat(client, 'me', { after: before })).toMatchObject({ isAll: true, told: ['me'] });
  });

  test.each(keys)('see one another again when Redis has evicted %s', async (key) => {
    await using redis = await startRedis();
    using client = connect(redis.port);
    await using a = startCoordinator(redis.port, 'a');
    await using b = startCoordinator(redis.port, 'b');
    {
      await using c = startCoordinator(redis.port, 'c');
      for (const { coordinator } of [a, b, c]) await expect.poll(sees(coordinator, 2)).toBe(true);
      await client.del(`test:${key}`);
      await using d = startCoordinator(redis.port, 'd');
      for (const { coordinator } of [a, b, c, d]) await expect.poll(sees(coordinator, 3)).toBe(true);
      await client.del(`test:${key}`);
    }
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    expect(a.coordinator.replicas[0]?.address).toBe('http://b.test:5000');
  });
});

function connect(port: number): Redis & Disposable {
  const client = new Redis(port, '127.0.0.1');
  return Object.assign(client, { [Symbol.dispose]: () => client.disconnect() });
}
