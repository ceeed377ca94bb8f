import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { Change } from '../../src/coordination/coordinator.ts';
import { describeWith } from '../support/tools.ts';
import { digest, sees, startCoordinator, suiteRedis } from './support.ts';

const password = 'of that user';
const signal = (): AbortSignal => AbortSignal.timeout(60_000);
const purge = (reference: string): Change => ({ kind: 'purge', repository: 'docker.io/x', reference });

describeWith(['redis-server'], 'a user of Redis', () => {
  const redis = suiteRedis();

  const allow = async (username: string, ...rules: string[]) =>
    void (await redis.client.call('ACL', 'SETUSER', username, 'on', `>${password}`, ...rules));
  const changesThere = () => redis.client.zcard('test:{fleet}:changes');

  /** Waits until a replica has looked what is new so many times more. */
  async function beats({ calls }: { readonly calls: readonly string[] }, count: number): Promise<void> {
    const done = () => calls.filter((script) => script === 'beat').length;
    const wanted = done() + count;
    await expect.poll(done).toBeGreaterThanOrEqual(wanted);
  }

  test('who has the rights that are documented can do all there is to do', async () => {
    const documented = await readFile(new URL('../../docs/cluster.md', import.meta.url), 'utf8');
    const [, rules] = /^ACL SETUSER millpond on >PASSWORD (.+)$/m.exec(documented) ?? [];
    await allow('documented', ...rules!.replaceAll('millpond:', 'test:').split(' '));
    await using a = startCoordinator(redis.port, 'a', { username: 'documented', password });
    await using b = startCoordinator(redis.port, 'b', { username: 'documented', password });
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    const claim = await a.coordinator.claim(digest(1));
    if (claim.kind !== 'lease') throw new Error('no other replica asks');
    expect(await a.coordinator.renew(claim.lease)).toBe('held');
    expect(await b.coordinator.claim(digest(1))).toMatchObject({ kind: 'filling' });
    await a.coordinator.hold(digest(1));
    await a.coordinator.release(claim.lease);
    expect(await b.coordinator.claim(digest(1))).toMatchObject({ kind: 'held' });
    a.coordinator.drop(digest(1));
    const key = { repository: 'docker.io/x', tag: '1', variant: '', access: 'alike' };
    expect(await a.coordinator.claimTag(key, { maxAgeMs: 1000, signal: signal() })).toEqual({ kind: 'ours' });
    const tag = { kind: 'manifest', digest: digest(2), contentType: 'x', size: 7, ageMs: 0 } as const;
    await a.coordinator.recordTag(key, tag, { forMs: 60_000 });
    expect(await b.coordinator.claimTag(key, { maxAgeMs: 60_000, signal: signal() })).toMatchObject({ kind: 'known' });
    await a.coordinator.leaveTag(key);
    await a.coordinator.recordMissing('x', { code: 'BLOB_UNKNOWN', message: 'none' }, { forMs: 60_000 });
    expect(await b.coordinator.missing('x')).toMatchObject({ code: 'BLOB_UNKNOWN' });
    await (await a.coordinator.enter('one.example', { max: 1, signal: signal() }))[Symbol.asyncDispose]();
    await a.coordinator.announce({ kind: 'tag', repository: 'docker.io/x', tag: '1', variant: '', digest: digest(2) });
    await a.coordinator.announce(purge('1'));
    await expect.poll(() => b.heard.messages).toHaveLength(2);
    await expect.poll(async () => (await redis.client.pubsub('NUMSUB', 'test:wake'))[1]).toBe(2);
    await a.coordinator[Symbol.asyncDispose]();
    await expect.poll(sees(b.coordinator, 0)).toBe(true);
    expect([a.failures, b.failures, a.events, b.events]).toEqual([[], [], ['found'], ['found']]);
  });

  test('who may use no channel tells once what operators do, and says what he may not', async () => {
    await redis.client.flushall();
    await allow('silent', '~test:*', 'resetchannels', '+@all');
    await using a = startCoordinator(redis.port, 'a', { username: 'silent', password });
    await using b = startCoordinator(redis.port, 'b', { username: 'silent', password });
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    await a.coordinator.announce(purge('1'));
    await a.coordinator.announce({ kind: 'limit', upstream: 'x', url: 'u', service: 'registry', forMs: 60_000 });
    await expect.poll(() => b.heard.messages).toHaveLength(2);
    await beats(a, 3);
    await beats(b, 1);
    expect(await changesThere()).toBe(1);
    expect(b.heard.messages).toHaveLength(2);
    expect([...a.failures, ...b.failures]).toEqual([]);
    const refusal = 'refused: SUBSCRIBE: refuses (NOPERM)';
    for (const { events } of [a, b]) expect(events.toSorted()).toEqual(['found', refusal]);
  });

  test('whose change is written and then refused has it done once, and hears the others', async () => {
    await redis.client.flushall();
    await allow('hindered', '~test:*', '&test:*', '+@all', '-zremrangebyrank');
    await using a = startCoordinator(redis.port, 'a', { username: 'hindered', password });
    await using b = startCoordinator(redis.port, 'b');
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    await a.coordinator.announce(purge('1'));
    await expect.poll(() => b.heard.messages).toEqual([purge('1')]);
    await beats(a, 3);
    expect(a.failures.length).toBeGreaterThan(2);
    await b.coordinator.announce(purge('2'));
    await expect.poll(() => a.heard.messages).toEqual([purge('2')]);
    expect(await changesThere()).toBe(2);
    await allow('hindered', '+zremrangebyrank');
    await expect.poll(() => a.kept.at(-1)).toBe('[]');
    await beats(b, 1);
    expect(b.heard.messages).toEqual([purge('1')]);
  });

  test.each([
    { command: 'zadd', script: 'beat' },
    { command: 'hincrby', script: 'claim' },
  ])('without the right to $command the login is reported as refused until it has it', async ({ command, script }) => {
    await redis.client.flushall();
    const username = `without ${command}`.replace(' ', '-');
    await allow(username, '~test:*', '&test:*', '+@all', `-${command}`);
    await using a = startCoordinator(redis.port, 'a', { username, password });
    await using b = startCoordinator(redis.port, 'b');
    await expect.poll(sees(b.coordinator, script === 'beat' ? 0 : 1)).toBe(true);
    let number = 100;
    /** Somebody else fetches what this one wants. */
    const claim = async () => {
      if (script !== 'claim') return;
      await b.coordinator.claim(digest(number));
      await a.coordinator.claim(digest(number));
      number += 1;
    };
    const status = async () => {
      await claim();
      return a.coordinator.status();
    };
    const reason = `refuses (NOPERM) in ${script}`;
    await expect.poll(status).toMatchObject({ state: 'lost', reason });
    await expect.poll(() => a.events).toEqual(['found', `refused: ${script}: refuses (NOPERM)`]);
    await allow(username, `+${command}`);
    await expect.poll(status).toMatchObject({ state: 'connected', reason: undefined });
    expect(a.events).toHaveLength(2);
  });
});
