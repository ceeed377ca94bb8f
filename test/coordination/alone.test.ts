import { expect, test } from 'vitest';
import { Seal } from '../../src/coordination/seal.ts';
import { SharedCoordinator } from '../../src/coordination/shared.ts';
import { reservePort } from '../support/ports.ts';
import { digest, secret } from './support.ts';

const signal = new AbortController().signal;

/** A replica whose Redis is at a port where nothing listens. */
async function start() {
  const port = await reservePort('127.0.0.1');
  const coordinator = new SharedCoordinator({
    location: {
      kind: 'single',
      host: '127.0.0.1',
      port: port.port,
      db: 0,
      tls: false,
      username: undefined,
      password: undefined,
    },
    keyPrefix: 'test:',
    seal: new Seal(secret),
    report: () => undefined,
    firstLookMs: 3_600_000,
  });
  return {
    coordinator,
    async [Symbol.asyncDispose]() {
      await coordinator[Symbol.asyncDispose]();
      await port[Symbol.asyncDispose]();
    },
  };
}

test('a replica without Redis does everything alone, and fails in nothing', async () => {
  await using site = await start();
  const { coordinator } = site;
  const key = { repository: 'docker.io/library/app', tag: '1', variant: '', access: '' };
  const tag = { kind: 'manifest', digest: digest(1), contentType: 'x', size: 1, ageMs: 0 } as const;
  const lease = { digest: digest(1), fence: 1 };
  expect(coordinator.isAlone).toBe(true);
  expect(await coordinator.claim(digest(1))).toEqual({ kind: 'alone' });
  expect(await coordinator.renew(lease)).toBe('unknown');
  expect(await coordinator.release(lease)).toBeUndefined();
  expect(await coordinator.hold(digest(1))).toBeUndefined();
  expect(await coordinator.holders(digest(1))).toEqual([]);
  expect(await coordinator.claimTag(key, { maxAgeMs: 1, signal })).toEqual({ kind: 'alone' });
  expect(await coordinator.leaveTag(key)).toBeUndefined();
  expect(await coordinator.missing('x')).toBeUndefined();
  const place = await coordinator.enter('docker.io', { max: 1, signal });
  expect(await place[Symbol.asyncDispose]()).toBeUndefined();
  expect(await coordinator.announce({ kind: 'purge', repository: 'r', reference: '1' })).toBeUndefined();
  coordinator.drop(digest(1));
  coordinator.join('http://me', { id: 'me' });
  expect([coordinator.isAlone, coordinator.self, coordinator.position]).toEqual([false, 'me', undefined]);
  expect([coordinator.epoch, coordinator.replicas, coordinator.boot.length]).toEqual(['', [], 12]);
  expect(await coordinator.claim(digest(1))).toEqual({ kind: 'alone' });
  const { reason, ...status } = coordinator.status();
  expect(status).toEqual({ state: 'lost', self: 'me', replicas: [], leases: [] });
  expect(reason).toMatch(/./);
  expect(await coordinator.recordTag(key, tag, { forMs: 1 })).toBeUndefined();
  expect(await coordinator.recordMissing('x', { code: 'NAME_UNKNOWN', message: '' }, { forMs: 1 })).toBeUndefined();
  await coordinator[Symbol.asyncDispose]();
  expect(coordinator.isAlone).toBe(true);
  await coordinator[Symbol.asyncDispose]();
});

test('a mark is the same for the same text and secret, and says nothing of the text', async () => {
  await using site = await start();
  await using other = await start();
  const { coordinator } = site;
  const mark = coordinator.mark('text');
  expect(mark).toMatch(/^[A-Za-z0-9_-]{22}$/);
  expect([other.coordinator.mark('text'), coordinator.mark('other')]).toEqual([mark, expect.not.stringMatching(mark)]);
  other.coordinator.renewSecret(Buffer.from('another secret of the replicas'));
  expect(other.coordinator.mark('text')).not.toBe(mark);
  expect(() => other.coordinator.renewSecret(Buffer.from('short'))).toThrow();
});
