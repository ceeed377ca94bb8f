import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type LinkEvent, RedisLink, type RedisLinkOptions } from '../../src/coordination/redis.ts';
import type { Script } from '../../src/coordination/scripts.ts';
import { reservePort } from '../support/ports.ts';
import { type RespReply, type RespServer, startResp } from './resp-server.ts';

const script: Script = { name: 'mine', lua: 'return 1' };
const vital: Script = { name: 'vital', lua: 'return 2', isVital: true };
const sha = (text: string) => createHash('sha1').update(text).digest('hex');

/** A link to a server that answers as the test says; `mine` and `vital` are answered by hand. */
async function startLink(options: Partial<RedisLinkOptions> = {}) {
  const server = await startResp();
  const answers = { mine: 'one' as RespReply, vital: 'two' as RespReply, probe: 'OK' as RespReply };
  server.answer = ([name, code]) => {
    if (name !== 'evalsha' && name !== 'eval') return undefined;
    if (code === sha(script.lua) || code === script.lua) return answers.mine;
    if (code === sha(vital.lua) || code === vital.lua) return answers.vital;
    return answers.probe;
  };
  const events: LinkEvent[] = [];
  const calls = { found: 0, woken: 0 };
  const location = { kind: 'single', host: '127.0.0.1', port: server.port, db: 0, tls: false } as const;
  const anonymous = { ...location, username: undefined, password: undefined };
  const link = new RedisLink({
    location: anonymous,
    keyPrefix: 'p:',
    report: (event) => void events.push(event),
    // Longer than a busy machine takes.
    deadlineMs: 20_000,
    firstLookMs: 60_000,
    probeMs: 5,
    onFound: () => (calls.found += 1),
    onWake: () => (calls.woken += 1),
    ...options,
  });
  const isConnected = () => link.reason === undefined;
  return {
    server,
    answers,
    events,
    calls,
    link,
    location: anonymous,
    connected: () => expect.poll(isConnected).toBe(true),
    kinds: () =>
      events.map((event) => (event.kind === 'redis-called' ? `${event.script} ${event.result}` : event.kind)),
    async [Symbol.asyncDispose]() {
      await link[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

const evaluated = ({ commands }: RespServer) => commands.filter(([name]) => name === 'evalsha' || name === 'eval');

describe('a script', () => {
  test('is run by its digest, with the prefix before its keys', async () => {
    await using site = await startLink();
    await site.connected();
    site.events.length = 0;
    expect(await site.link.run(script, ['a', '{b}:c'], ['v', 7])).toBe('one');
    expect(evaluated(site.server).at(-1)).toEqual(['evalsha', sha(script.lua), '2', 'p:a', 'p:{b}:c', 'v', '7']);
    expect(site.events).toEqual([
      { kind: 'redis-called', script: 'mine', result: 'ok', seconds: expect.any(Number) as number },
    ]);
    const [{ seconds } = { seconds: -1 }] = site.events as { seconds: number }[];
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThan(20);
  });

  test('is sent where Redis does not have it', async () => {
    await using site = await startLink();
    await site.connected();
    const { answer } = site.server;
    site.server.answer = (command) =>
      command[0] === 'evalsha' ? new Error('NOSCRIPT No matching script.') : answer(command);
    expect(await site.link.run(script, ['a'], [])).toBe('one');
    expect(evaluated(site.server).slice(-2)).toEqual([
      ['evalsha', sha(script.lua), '1', 'p:a'],
      ['eval', script.lua, '1', 'p:a'],
    ]);
  });

  test('that is refused is sent once, and fails alone', async () => {
    await using site = await startLink();
    await site.connected();
    site.answers.mine = new Error('OOM command not allowed');
    await expect(site.link.run(script, ['a'], [])).rejects.toThrow('Redis refuses (OOM)');
    expect(evaluated(site.server).filter(([, code]) => code === sha(script.lua))).toHaveLength(1);
    expect(evaluated(site.server).filter(([, code]) => code === script.lua)).toHaveLength(0);
    expect(site.kinds()).toContain('mine failed');
    expect(await site.link.run(vital, [], [])).toBe('two');
    expect(site.link.refusal).toBeUndefined();
  });

  test.each<[string, Script, string]>([
    ['its user may not run', script, 'NOPERM User x has no permissions'],
    ['replicas need', vital, 'OOM command not allowed'],
  ])('that %s is missed after three refusals, until it is run', async (_, refused, message) => {
    await using site = await startLink();
    await site.connected();
    site.answers.mine = new Error(message);
    site.answers.vital = new Error(message);
    const { name } = refused;
    const code = message.split(' ')[0]!;
    for (let count = 0; count < 3; count += 1) {
      expect(site.link.refusal).toBeUndefined();
      await expect(site.link.run(refused, [], [])).rejects.toThrow();
    }
    expect(site.link.refusal).toBe(`refuses (${code}) in ${name}`);
    const reports = site.events.filter(({ kind }) => kind === 'redis-refused');
    expect(reports).toEqual([{ kind: 'redis-refused', what: name, reason: `refuses (${code})` }]);
    Object.assign(site.answers, { mine: 'one', vital: 'two' });
    await site.link.run(refused, [], []);
    expect(site.link.refusal).toBeUndefined();
    Object.assign(site.answers, { mine: new Error(message), vital: new Error(message) });
    for (let count = 0; count < 3; count += 1) {
      expect(site.events.filter(({ kind }) => kind === 'redis-refused')).toHaveLength(1);
      await expect(site.link.run(refused, [], [])).rejects.toThrow();
    }
    expect(site.events.filter(({ kind }) => kind === 'redis-refused')).toHaveLength(2);
  });

  test('that could do without is not missed, however often it fails', async () => {
    await using site = await startLink();
    await site.connected();
    site.answers.mine = new Error('OOM command not allowed');
    for (let count = 0; count < 4; count += 1) await expect(site.link.run(script, [], [])).rejects.toThrow();
    expect(site.link.refusal).toBeUndefined();
    expect(site.events.filter(({ kind }) => kind === 'redis-refused')).toEqual([]);
  });
});

describe('a Redis', () => {
  test('is asked after three probes in a row have been answered', async () => {
    await using site = await startLink();
    expect(site.link.reason).toBe('has not been reached yet');
    await expect(site.link.run(script, [], [])).rejects.toThrow('Redis has not been reached yet');
    await site.connected();
    expect(site.kinds()).toEqual(['mine skipped', 'redis-found']);
    expect(site.events[0]).toEqual({ kind: 'redis-called', script: 'mine', result: 'skipped', seconds: 0 });
    expect(site.calls.found).toBe(1);
    const probes = evaluated(site.server);
    expect(probes.length).toBeGreaterThanOrEqual(3);
    expect(probes[0]!.slice(2)).toEqual(['1', 'p:{fleet}:probe']);
  });

  test('that closes its connections is lost, and found again', async () => {
    await using site = await startLink();
    await site.connected();
    for (const socket of site.server.sockets) socket.destroy();
    await expect.poll(() => site.kinds().filter((kind) => kind === 'redis-found').length).toBe(2);
    expect(site.kinds()).toEqual(['redis-found', 'redis-lost', 'redis-found']);
    expect(site.events[1]).toEqual({ kind: 'redis-lost', reason: 'has closed the connection' });
    expect([site.calls.found, await site.link.run(script, [], [])]).toEqual([2, 'one']);
  });

  test('that does not answer in time is lost at once, and nothing more is asked of it', async () => {
    await using site = await startLink({ deadlineMs: 2_000 });
    await site.connected();
    const { answer } = site.server;
    site.server.answer = (command) => (command[0] === 'evalsha' ? undefined : answer(command));
    await expect(site.link.run(script, [], [])).rejects.toThrow('Redis does not answer');
    await expect(site.link.run(script, [], [])).rejects.toThrow('Redis does not answer');
    expect(site.kinds()).toEqual(['redis-found', 'mine failed', 'redis-lost', 'mine skipped']);
    site.server.answer = answer;
    await site.connected();
    expect(await site.link.run(script, [], [])).toBe('one');
  });

  test('that cannot write is not asked', async () => {
    await using site = await startLink();
    site.answers.probe = new Error('READONLY You cannot write against a read only replica.');
    await expect.poll(() => evaluated(site.server).length).toBeGreaterThan(2);
    expect(site.link.reason).toBeDefined();
    expect(site.kinds()).not.toContain('redis-found');
    site.answers.probe = 'OK';
    await site.connected();
  });

  test.each([
    ['cannot write', 'READONLY You cannot write against a read only replica.', { probes: 5, least: 6, most: 100 }],
    ['refuses for another reason', 'NOPERM this user has no permissions.', { probes: 25, least: 3, most: 20 }],
  ])('that %s is looked for over a new connection, at once or now and then: %s', async (_, refusal, expected) => {
    await using site = await startLink();
    site.answers.probe = new Error(refusal);
    await expect.poll(() => evaluated(site.server).length).toBeGreaterThan(expected.probes);
    const last = site.server.commands.indexOf(evaluated(site.server)[expected.probes]!);
    // Each connection begins with this, and there are two at a time.
    const connections = site.server.commands.slice(0, last).filter(([name]) => name === 'info').length;
    expect(connections).toBeGreaterThanOrEqual(expected.least);
    expect(connections).toBeLessThan(expected.most);
  });

  test('that was never reached is reported as lost, once', async () => {
    await using port = await reservePort('127.0.0.1');
    const location = { kind: 'single', host: '127.0.0.1', port: port.port, db: 0, tls: false } as const;
    const anonymous = { ...location, username: undefined, password: undefined };
    await using site = await startLink({ location: anonymous, firstLookMs: 2_000 });
    await expect.poll(() => site.events.length).toBe(1);
    expect(site.events).toEqual([{ kind: 'redis-lost', reason: expect.stringContaining('ECONNREFUSED') as string }]);
  });

  test('that is there is not reported', async () => {
    await using site = await startLink({ firstLookMs: 1 });
    await site.connected();
    expect(site.kinds().filter((kind) => kind !== 'redis-lost')).toEqual(['redis-found']);
  });

  test('that is lost soon after it was found is reported as lost, once', async () => {
    const firstLookMs = 2_000;
    await using site = await startLink({ firstLookMs });
    const startedMs = performance.now();
    await site.connected();
    site.server.answer = () => undefined;
    for (const socket of site.server.sockets) socket.destroy();
    await expect.poll(site.kinds).toContain('redis-lost');
    await expect.poll(() => performance.now() - startedMs).toBeGreaterThan(firstLookMs + 100);
    // A machine that is too busy to reach it before the first look reports it before it is found.
    const kinds = site.kinds();
    expect(kinds.slice(kinds.indexOf('redis-found'))).toEqual(['redis-found', 'redis-lost']);
  });

  test('wakes this replica when another one has news, and when it is found', async () => {
    await using site = await startLink();
    expect(site.link.wakeChannel).toBe('p:wake');
    await expect.poll(() => site.calls.woken).toBe(1);
    expect(site.server.commands).toContainEqual(['subscribe', 'p:wake']);
    site.server.publish('p:wake');
    await expect.poll(() => site.calls.woken).toBe(2);
  });

  test('that lets its user not subscribe is reported, once', async () => {
    await using site = await startLink();
    await site.connected();
    const { answer } = site.server;
    site.server.answer = (command) =>
      command[0] === 'subscribe' ? new Error('NOPERM no permissions to access a channel') : answer(command);
    const count = () => site.server.commands.filter(([name]) => name === 'subscribe').length;
    for (let turn = 0; turn < 2; turn += 1) {
      const before = count();
      for (const socket of site.server.sockets) socket.destroy();
      await expect.poll(count).toBeGreaterThan(before);
    }
    await site.connected();
    const reports = site.events.filter(({ kind }) => kind === 'redis-refused');
    expect(reports).toEqual([{ kind: 'redis-refused', what: 'SUBSCRIBE', reason: 'refuses (NOPERM)' }]);
  });
});

describe('another login', () => {
  test('is used once it is let in, and the connections of the former one end', async () => {
    await using site = await startLink();
    await site.connected();
    const former = new Set(site.server.sockets);
    site.link.renew({ ...site.location, username: 'u', password: 'p' });
    await expect.poll(() => site.server.commands.filter(([name]) => name === 'auth')).toHaveLength(2);
    expect(site.server.commands).toContainEqual(['auth', 'u', 'p']);
    expect(await site.link.run(script, [], [])).toBe('one');
    await expect.poll(() => site.server.sockets.size).toBe(2);
    expect([...site.server.sockets].some((socket) => former.has(socket))).toBe(false);
    expect(await site.link.run(script, [], [])).toBe('one');
    expect(site.kinds().filter((kind) => kind === 'redis-lost')).toEqual([]);
  });

  test('that is not let in leaves the former one in place', async () => {
    await using site = await startLink();
    await site.connected();
    const { answer } = site.server;
    site.server.answer = (command) =>
      command[0] === 'auth' ? new Error('WRONGPASS invalid username-password pair') : answer(command);
    site.link.renew({ ...site.location, username: 'u', password: 'wrong' });
    await expect.poll(() => site.server.commands.filter(([name]) => name === 'auth').length).toBeGreaterThan(1);
    expect(await site.link.run(script, [], [])).toBe('one');
    expect(site.link.reason).toBeUndefined();
    site.server.answer = answer;
    site.link.renew({ ...site.location, username: 'u', password: 'right' });
    await expect.poll(() => site.server.commands).toContainEqual(['auth', 'u', 'right']);
    await expect.poll(() => site.server.sockets.size).toBe(2);
    expect(await site.link.run(script, [], [])).toBe('one');
  });
});

test('a link that is ended has no connections, makes none, and reports nothing', async () => {
  await using site = await startLink();
  await site.connected();
  const { length } = site.events;
  await site.link[Symbol.asyncDispose]();
  await expect.poll(() => site.server.sockets.size).toBe(0);
  const { commands } = site.server;
  const before = commands.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([commands.length, site.server.sockets.size, site.events.length]).toEqual([before, 0, length]);
});
