import { afterAll, beforeAll, describe, expect } from 'vitest';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { describeWith } from '../support/tools.ts';
import { testCoordinator } from './conformance.ts';
import { sees, startCoordinator } from './support.ts';

describe('one process alone', () => {
  testCoordinator(() => Promise.resolve(new SoloCoordinator()));
});

describeWith(['redis-server'], 'replicas with Redis', () => {
  let redis: RedisServer;
  beforeAll(async () => void (redis = await startRedis()));
  afterAll(async () => await redis[Symbol.asyncDispose]());

  testCoordinator(async () => {
    const { coordinator } = startCoordinator(redis.port, 'one');
    await expect.poll(sees(coordinator, 0)).toBe(true);
    return coordinator;
  });
});
