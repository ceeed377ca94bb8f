import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { get, type Reply } from '../support/client.ts';
import { runCommand } from '../support/commands.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { hasLostRedis, metricOf, startProcesses, untilSeen } from './processes.ts';

const MiB = 1024 * 1024;
const size = 24 * MiB;

async function leads(mirror: MillpondProcess): Promise<boolean> {
  return (await metricOf(mirror, 'millpond_peer_leases')) === 1;
}

describeWith(['redis-server'], 'the replica that fetches for all', () => {
  let redis: RedisServer;
  beforeAll(async () => void (redis = await startRedis()));
  afterAll(async () => await redis[Symbol.asyncDispose]());

  const killLeaders = async (): Promise<boolean> => {
    await using upstream = await startRegistry();
    await using fleet = await startProcesses({ replicas: 4, url: redis.url, upstream });
    let alive = [...fleet.mirrors];
    for (const share of [0.3, 0.6, 0.95]) {
      const blob = upstream.addBlob({ size, seed: `killed at ${share}` });
      const path = `/v2/library/app/blobs/${blob.digest}`;
      // It gets no further than this, however long the others take to come as far.
      const stall = { kind: 'stall', afterBytes: Math.floor(size * share) } as const;
      upstream.fault(({ method, digest }) => method === 'GET' && digest === blob.digest, stall, { times: 1 });
      const pull = (mirror: MillpondProcess) => {
        const isThere = Promise.withResolvers<void>();
        const onBytes = (bytes: number): void => {
          if (bytes >= size * share - 128 * 1024) isThere.resolve();
        };
        const reply: Promise<Reply | undefined> = get(`${mirror.origin}${path}`, { keepBody: false, onBytes }).catch(
          () => undefined,
        );
        return { reply, isThere: isThere.promise };
      };
      const [leader, ...others] = alive;
      const first = pull(leader!);
      await expect.poll(async () => (await leads(leader!)) || hasLostRedis(alive)).toBe(true);
      if (!(await leads(leader!))) return false;
      const clients = others.flatMap((mirror) => Array.from({ length: 4 }, () => pull(mirror)));
      await Promise.all([first, ...clients].map(({ isThere }) => isThere));
      leader!.process.kill('SIGKILL');
      for (const { reply } of clients)
        expect(await reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      expect((await first.reply)?.complete).not.toBe(true);
      const sent = upstream.bytesSent(blob.digest);
      if (sent > size * 1.1) {
        for (const mirror of others) await mirror.process.stop();
        expect([sent, hasLostRedis(alive)]).toEqual([sent, true]);
        return false;
      }
      alive = others;
    }
    return true;
  };

  test('killed at 30, 60 and 95 % of a blob harms no client of the others', async () => {
    await untilSeen(killLeaders);
  });

  const freezeTheLeader = async (): Promise<boolean> => {
    await using upstream = await startRegistry();
    await using fleet = await startProcesses({ replicas: 2, url: redis.url, upstream });
    const [one, other] = fleet.mirrors;
    const blob = upstream.addBlob({ size: 20 * MiB, seed: 'frozen' });
    // The one gets no further than the middle, so that there is a rest for the other.
    const stall = { kind: 'stall', afterBytes: 10 * MiB } as const;
    upstream.fault(({ method, digest }) => method === 'GET' && digest === blob.digest, stall, { times: 1 });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const leaving = new AbortController();
    const first = get(`${one!.origin}${path}`, { keepBody: false, signal: leaving.signal }).catch(() => undefined);
    await expect.poll(async () => (await leads(one!)) || hasLostRedis(fleet.mirrors)).toBe(true);
    if (!(await leads(one!))) return false;
    let isFrozen = false;
    const second = await get(`${other!.origin}${path}`, {
      keepBody: false,
      onBytes: (bytes) => {
        if (bytes < 6 * MiB || isFrozen) return;
        isFrozen = true;
        one!.process.kill('SIGSTOP');
      },
    });
    expect(second).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    const { range = '' } = upstream.requestsFor(blob.digest).at(-1)?.headers ?? {};
    one!.process.kill('SIGCONT');
    leaving.abort();
    await first;
    if (/^bytes=\d{7,}-$/.test(range)) return true;
    await other!.process.stop();
    expect([range, hasLostRedis([other!])]).toEqual([range, true]);
    return false;
  };

  test('frozen in the middle is replaced, and its successor goes on from its own bytes', async () => {
    await untilSeen(freezeTheLeader);
  });
});

describeWith(['redis-server'], 'a replica whose operator removes an image while Redis is lost', () => {
  test('killed at once has it removed by the others when it is back', async () => {
    await using own = await startRedis();
    await using upstream = await startRegistry();
    upstream.addImage('library/gone', '1', { layers: [{ size: 1000, seed: 'gone' }] });
    await using fleet = await startProcesses({ replicas: 2, url: own.url, upstream });
    const [one, other] = fleet.mirrors;
    for (const { origin } of [one!, other!]) {
      expect(await get(`${origin}/v2/library/gone/manifests/1`)).toMatchObject({ status: 200 });
    }
    const millpond = async ({ directory }: MillpondProcess, ...args: string[]) =>
      await runCommand([...args, '--config', join(directory, 'millpond.yaml')], directory);
    const names = async () => (await millpond(other!, 'ls')).stdout;
    expect(await names()).toContain('library/gone');
    own.process.kill('SIGSTOP');
    await expect.poll(() => metricOf(one!, 'millpond_redis_connected')).toBe(0);
    expect(await millpond(one!, 'rm', 'docker.io/library/gone:1')).toMatchObject({ code: 0 });
    one!.process.kill('SIGKILL');
    await one!.process.exited();
    own.process.kill('SIGCONT');
    const config = JSON.parse(await readFile(join(one!.directory, 'millpond.yaml'), 'utf8')) as Record<string, unknown>;
    await using _again = await startMillpond(config, { directory: one!.directory });
    await expect.poll(names, { interval: 100 }).not.toContain('library/gone');
  });
});
