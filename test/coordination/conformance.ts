import { expect, test } from 'vitest';
import type { Coordinator } from '../../src/coordination/coordinator.ts';
import { digest } from './support.ts';

/** What every coordinator does for one replica, whether there are others or not. */
export function testCoordinator(start: () => Promise<Coordinator>): void {
  const signal = (): AbortSignal => AbortSignal.timeout(60_000);
  const key = { repository: 'docker.io/library/app', tag: '1', variant: '', access: 'alike' };

  test('lets a replica fetch what no other replica has or fetches', async () => {
    await using coordinator = await start();
    const claim = await coordinator.claim(digest(1));
    expect(['lease', 'alone']).toContain(claim.kind);
    if (claim.kind !== 'lease') return;
    expect(await coordinator.claim(digest(1))).toEqual(claim);
    expect(await coordinator.renew(claim.lease)).toBe('held');
    await coordinator.hold(digest(1));
    await coordinator.release(claim.lease);
    expect(coordinator.status().leases).toEqual([]);
    // It asks: so it has it no more, whatever was noted.
    expect(await coordinator.claim(digest(1))).toMatchObject({ kind: 'lease' });
  });

  test('lets a replica ask what a tag is, and gives the right back', async () => {
    await using coordinator = await start();
    for (let turn = 0; turn < 2; turn += 1) {
      const claim = await coordinator.claimTag(key, { maxAgeMs: 1_000, signal: signal() });
      expect(['ours', 'alone']).toContain(claim.kind);
      await coordinator.leaveTag(key);
    }
  });

  test('knows nothing to be missing unless a replica has said so', async () => {
    await using coordinator = await start();
    expect(await coordinator.missing('docker.io/library/app nothing')).toBeUndefined();
  });

  test('gives a connection, and takes it back', async () => {
    await using coordinator = await start();
    for (let turn = 0; turn < 3; turn += 1) {
      await using place = await coordinator.enter('docker.io', { max: 1, signal: signal() });
      expect(place).toBeDefined();
    }
  });

  test('does not deliver its own announcements', async () => {
    await using coordinator = await start();
    const heard: unknown[] = [];
    using _subscription = coordinator.subscribe({
      received: (message) => void heard.push(message),
      missed: () => void heard.push('missed'),
    });
    await coordinator.announce({ kind: 'purge', repository: 'docker.io/library/app', reference: '1' });
    coordinator.drop(digest(2));
    expect(coordinator.replicas).toEqual([]);
    expect(heard).toEqual([]);
  });

  test('can be ended twice', async () => {
    const coordinator = await start();
    await coordinator[Symbol.asyncDispose]();
    await expect(coordinator[Symbol.asyncDispose]()).resolves.toBeUndefined();
  });
}
