import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Changes, changesKeptMs } from '../../src/coordination/changes.ts';
import { RedisClock } from '../../src/coordination/clock.ts';
import type { Change } from '../../src/coordination/coordinator.ts';
import { type Link, LinkError } from '../../src/coordination/redis.ts';
import { Seal } from '../../src/coordination/seal.ts';

const seal = new Seal(Buffer.from('the secret of these tests'));
const change = (kind: Change['kind'], reference: string): Change => ({ kind, repository: 'docker.io/x', reference });

/** A Redis that answers on demand, and the requests that it has received. */
async function start() {
  const told: string[][] = [];
  const tried: string[][] = [];
  const heard: string[] = [];
  /** What Redis has: what was sealed, and when it was done. */
  const stored: (string | number)[] = [];
  const waiting: { answer(): void; fail(): void }[] = [];
  const link: Link = {
    reason: undefined,
    run: (script, _keys, values) => {
      if (script.name !== 'record-changes') return Promise.resolve(stored.map(String));
      const sealed = values.slice(4).filter((_, index) => index % 2 === 0) as string[];
      tried.push(sealed);
      const { promise, resolve, reject } = Promise.withResolvers<unknown>();
      waiting.push({
        answer: () => {
          const messages = sealed.map((one) => seal.open('change', one) as { message: Change });
          told.push(messages.map(({ message }) => `${message.kind} ${message.reference}`));
          resolve(sealed.map((_, index) => String(told.length * 10 + index)));
        },
        fail: () => reject(new LinkError('lost')),
      });
      return promise;
    },
  };
  const clock = new RedisClock();
  clock.hear(1_000, performance.now());
  const changes = new Changes({
    link,
    seal,
    clock,
    wakeChannel: 'wake',
    self: () => 'a',
    onChange: ({ kind, reference }) => void heard.push(`${kind} ${reference}`),
    onUnread: () => undefined,
    onUntold: () => undefined,
  });
  await changes.catchUp({ count: 0, last: 0, now: 1_000 });
  const next = async () => {
    await expect.poll(() => waiting.length).toBeGreaterThan(0);
    expect(waiting).toHaveLength(1);
    return waiting.shift()!;
  };
  /** Another replica has told of a change, and it is heard of. */
  const hear = async (...all: readonly Change[]): Promise<void> => {
    for (const message of all) {
      const sealed = seal.close('change', { from: 'b', message, atMs: 1_000, id: `${stored.length}` });
      stored.push(sealed, 1_000 + stored.length);
    }
    await changes.catchUp({ count: stored.length / 2, last: Number(stored.at(-1)), now: 2_000 });
  };
  return { changes, told, tried, heard, hear, next };
}

test('what is being told is not told once more by a beat that comes in between', async () => {
  const { changes, told, next } = await start();
  const announced = changes.announce(change('purge', '1'));
  const beat = changes.tell();
  (await next()).answer();
  await Promise.all([announced, beat]);
  expect(told).toEqual([['purge 1']]);
});

test('what is undone and done again while it is being announced is announced again, last', async () => {
  const { changes, told, next } = await start();
  const first = changes.announce(change('pin', '1'));
  const answering = await next();
  const others = [changes.announce(change('unpin', '1')), changes.announce(change('pin', '1'))];
  answering.answer();
  (await next()).answer();
  await Promise.all([first, ...others]);
  expect(told).toEqual([['pin 1'], ['unpin 1', 'pin 1']]);
});

test('what could not be announced is announced the next time, before what has come since', async () => {
  const { changes, told, tried, next } = await start();
  const first = changes.announce(change('purge', '1'));
  const refusing = await next();
  const second = changes.announce(change('purge', '2'));
  refusing.fail();
  await expect(first).rejects.toThrow(LinkError);
  (await next()).answer();
  await second;
  expect(told).toEqual([['purge 1', 'purge 2']]);
  // Redis may have it since the first time.
  expect(tried[1]![0]).toBe(tried[0]![0]);
});

test('what Redis has kept for its time and lost then is not told again', async () => {
  const { changes, tried, next } = await start();
  const announced = changes.announce(change('pin', '1'));
  (await next()).answer();
  await announced;
  await changes.catchUp({ count: 0, last: 0, now: changesKeptMs + 1_000 });
  void changes.tell();
  await nextTurn();
  expect(tried).toHaveLength(1);
});

test('while what was unpinned here is still to be told, an older pin of another replica is not carried out', async () => {
  const { changes, heard, hear, next } = await start();
  const announced = changes.announce(change('unpin', '1'));
  const telling = await next();
  await hear(change('pin', '1'), change('pin', '2'));
  expect(heard).toEqual(['pin 2']);
  telling.answer();
  await announced;
});
