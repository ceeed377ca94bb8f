import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import type { RedisLocation } from '../../src/coordination/connection.ts';
import { reservePort } from '../support/ports.ts';
import { startRedis } from '../support/redis.ts';
import { describeWith } from '../support/tools.ts';
import { sees, startCoordinator } from './support.ts';

function location(port: number, password: string): RedisLocation {
  return { kind: 'single', host: '127.0.0.1', port, db: 0, tls: false, username: undefined, password };
}

describeWith(['redis-server'], 'the password of Redis', () => {
  test('is reported as refused, and the right one is taken without a restart', async () => {
    await using redis = await startRedis({ args: ['--requirepass', 'right'] });
    await using a = startCoordinator(redis.port, 'a', { password: 'wrong', firstLookMs: 3_000 });
    await expect.poll(() => a.coordinator.status().reason).toBe('refuses our password (WRONGPASS)');
    await expect.poll(() => a.events).toEqual(['lost: refuses our password (WRONGPASS)']);
    a.coordinator.renewLogin(location(redis.port, 'right'));
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    expect(a.events).toEqual(['lost: refuses our password (WRONGPASS)', 'found']);
  });

  test('that is absent where one is asked for is reported as refused', async () => {
    await using redis = await startRedis({ args: ['--requirepass', 'right'] });
    await using a = startCoordinator(redis.port, 'a');
    await expect.poll(() => a.coordinator.status().reason).toBe('refuses our password (NOAUTH)');
  });

  test.each(['first here', 'first there'])(
    'that changes, %s, loses Redis for no longer than it takes',
    async (order) => {
      await using redis = await startRedis({ args: ['--requirepass', 'one'] });
      await using a = startCoordinator(redis.port, 'a', { password: 'one' });
      await expect.poll(sees(a.coordinator, 0)).toBe(true);
      const here = (): void => a.coordinator.renewLogin(location(redis.port, 'two'));
      const there = async (): Promise<void> => {
        const admin = new Redis({ port: redis.port, password: 'one' });
        await admin.config('SET', 'requirepass', 'two');
        await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
        admin.disconnect();
      };
      if (order === 'first here') here();
      await there();
      if (order === 'first there') here();
      await expect.poll(sees(a.coordinator, 0)).toBe(true);
      await using b = startCoordinator(redis.port, 'b', { password: 'two' });
      await expect.poll(sees(a.coordinator, 1)).toBe(true);
      expect(b.events).toEqual(['found']);
    },
  );

  test('a Redis that was never there is reported within seconds', async () => {
    await using port = await reservePort();
    await using a = startCoordinator(port.port, 'a', { firstLookMs: 3_000 });
    await expect.poll(() => a.events).toEqual([expect.stringMatching(/^lost: .*ECONNREFUSED/)]);
    expect(a.coordinator.status().state).toBe('lost');
  });
});
