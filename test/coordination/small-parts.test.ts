import { Cluster, Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { connectPair, endPair, type RedisLocation } from '../../src/coordination/connection.ts';
import { Members, newReplicaId } from '../../src/coordination/members.ts';
import { PeerFailure } from '../../src/coordination/peer-failure.ts';
import { PeerPass } from '../../src/coordination/peer-pass.ts';
import { ownersOf } from '../../src/coordination/placement.ts';
import { readPosition, readUntold } from '../../src/coordination/position.ts';
import { codeOf, describeLogin, describe as inWords, isForbidden } from '../../src/coordination/refusals.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { digest, secret } from './support.ts';

describe('the note of an earlier run', () => {
  const position = { epoch: 'e', seq: 1, changedAt: 2, atMs: 3, unread: ['a'] };

  test('is read whole, or not at all', () => {
    expect(readPosition(JSON.stringify(position))).toEqual(position);
    expect(readPosition(JSON.stringify({ ...position, unread: undefined }))).toEqual({ ...position, unread: [] });
    for (const name of ['seq', 'changedAt', 'atMs'] as const) {
      expect(readPosition(JSON.stringify({ ...position, [name]: '1' }))).toBeUndefined();
    }
    for (const wrong of [{ epoch: 1 }, { unread: [1] }, { unread: 'a' }, { unread: ['a', 1] }]) {
      expect(readPosition(JSON.stringify({ ...position, ...wrong }))).toBeUndefined();
    }
    for (const text of ['null', '{}', '', '[]', '7']) expect(readPosition(text)).toBeUndefined();
  });

  test('has changes that could not be announced, or none where one of them cannot be read', () => {
    const untold = [{ change: '{"kind":"pin"}', sealed: 's' }, { change: '{}' }];
    expect(readUntold(JSON.stringify(untold))).toEqual(untold);
    for (const text of ['null', '{}', '', JSON.stringify([{ change: '{' }]), JSON.stringify([...untold, {}])]) {
      expect(readUntold(text)).toEqual([]);
    }
  });
});

describe('a failure of Redis', () => {
  const refusal = (message: string) => new Error(message);
  const network = Object.assign(new Error('connect'), { code: 'ECONNREFUSED' });

  test.each<[unknown, string]>([
    ['text', 'has failed'],
    [network, 'cannot be reached (ECONNREFUSED)'],
    [refusal('closed'), 'cannot be reached'],
    [refusal('OOM command not allowed'), 'refuses (OOM)'],
  ])('%s is described as "%s"', (error, words) => {
    expect(inWords(error)).toBe(words);
  });

  test.each<[unknown, string | undefined, boolean]>([
    [refusal('NOPERM this user has no permissions'), 'NOPERM', true],
    [refusal('ERR Error running script: @user_script: -MISCONF Redis is configured'), 'MISCONF', false],
    [refusal('The user executing the script can not run this command'), 'NOPERM', true],
    [refusal('ERR ACL failure in script: x'), 'NOPERM', true],
    [refusal('ERR unknown command `EVALSHA`'), 'ERR', true],
    [refusal('ERR Unknown Redis command called from script'), 'ERR', true],
    [refusal('Connection is closed.'), undefined, false],
    [refusal('xOOM y'), undefined, false],
    ['NOPERM x', undefined, false],
  ])('%s has the code %s; the user may not do it: %s', (error, code, forbidden) => {
    expect(codeOf(error)).toBe(code);
    expect(isForbidden(error)).toBe(forbidden);
  });

  test.each<[unknown, string | undefined]>([
    [refusal('WRONGPASS invalid username-password pair'), 'refuses our password (WRONGPASS)'],
    [refusal('NOAUTH Authentication required.'), 'refuses our password (NOAUTH)'],
    [refusal('XNOAUTHX'), undefined],
    [network, 'cannot be reached (ECONNREFUSED)'],
    ['NOAUTH', undefined],
  ])('%s at the login is described as "%s"', (error, words) => {
    expect(describeLogin(error)).toBe(words);
  });
});

describe('the members of a fleet', () => {
  const seal = new Seal(secret);
  const replica = (id: string, more: object = {}) => ({
    id,
    address: `http://${id}`,
    boot: 'b',
    isOffline: false,
    ...more,
  });
  const entry = (id: string, more: object = {}) => [id, seal.close('replica', replica(id, more))];

  test('are those whose entries are sealed for them', () => {
    const members = new Members(seal);
    expect(members.version).toBe(0);
    const stranger = new Seal(Buffer.from('another secret of replicas')).close('replica', replica('x'));
    const entries = [...entry('b'), ...entry('a', { isOffline: true, other: 1 }), 'x', stranger, 'y', entry('z')[1]!];
    expect(members.hear({ version: 3, isAll: true, entries })).toBe(true);
    expect(members.version).toBe(3);
    expect(members.without('unknown')).toEqual([replica('a', { isOffline: true }), replica('b')]);
    expect(members.without('a')).toEqual([replica('b')]);
    expect([members.find('b'), members.find('x'), members.find('z')]).toEqual([replica('b'), undefined, undefined]);
  });

  test('of an older release are not offline', () => {
    const members = new Members(seal);
    members.hear({ version: 1, isAll: true, entries: entry('a', { isOffline: undefined }) });
    expect(members.find('a')).toEqual(replica('a'));
  });

  test('come and go by news, and are replaced by a whole list', () => {
    const members = new Members(seal);
    members.hear({ version: 1, isAll: true, entries: [...entry('a'), ...entry('b')] });
    expect(members.hear({ version: 2, isAll: false, entries: ['a', '', ...entry('c')] })).toBe(true);
    expect(members.without('').map(({ id }) => id)).toEqual(['b', 'c']);
    expect(members.hear({ version: 2, isAll: false, entries: [] })).toBe(false);
    expect(members.hear({ version: 3, isAll: false, entries: ['odd'] })).toBe(true);
    expect(members.hear({ version: 4, isAll: true, entries: [] })).toBe(true);
    expect(members.without('')).toEqual([]);
  });

  test('get ids that differ', () => {
    expect(newReplicaId()).toMatch(/^[A-Za-z0-9_-]{16}$/);
    expect(newReplicaId()).not.toBe(newReplicaId());
  });
});

describe('a failure of another replica', () => {
  test('is in the words of its cause, up to the advice', () => {
    const failure = new PeerFailure('a', 'unreachable', { sentence: 'said', cause: new Error('words; advice') });
    expect(failure).toMatchObject({ words: 'words', fault: 'unreachable', replica: 'a', reason: 'replica-failed' });
    expect(failure.code).toBe('UNAVAILABLE');
    expect(new PeerFailure('a', 'odd', { sentence: 'said' }).words).toBe('said');
    expect(new PeerFailure('a', 'odd', { sentence: 'said', cause: new Error('') }).words).toBe('said');
    expect(new PeerFailure('a', 'odd', { sentence: 'said', cause: 'words' }).words).toBe('said');
  });

  test('that has no such blob is an absence', () => {
    const failure = new PeerFailure('a', 'absent', { sentence: 'said' });
    expect(failure).toMatchObject({ reason: 'not-found', code: 'BLOB_UNKNOWN', status: 404, message: 'said' });
  });
});

test('the owners of a blob are the same wherever they are computed, whatever the order', () => {
  const ids = ['a', 'b', 'c', 'd'];
  const owners = ownersOf(digest(1), ids, 2);
  expect(owners).toHaveLength(2);
  expect(ownersOf(digest(1), ids.toReversed(), 2)).toEqual(owners);
  expect(ownersOf(digest(1), ids, 9).toSorted()).toEqual(ids);
  const without = ids.filter((id) => id !== owners[0]);
  expect(ownersOf(digest(1), without, 1)).toEqual([owners[1]]);
  const counts = Map.groupBy(
    Array.from({ length: 400 }, (_, index) => ownersOf(digest(index), ids, 1)[0]!),
    (id) => id,
  );
  for (const id of ids) expect(counts.get(id)?.length).toBeGreaterThan(50);
});

describe('a pass', () => {
  const request = { method: 'GET', path: '/x', range: 'bytes=0-1', to: 'a:1', caller: 'c' };
  const pass = () => new PeerPass({ seal: new Seal(secret), toleranceMs: 1_000, now: () => 5_000.4 });

  test('is for one request, and has its time in whole milliseconds', () => {
    const header = pass().sign(request, 'me');
    expect(header).toMatch(/^me 5000 [A-Za-z0-9_-]{22} [A-Za-z0-9_-]{43}$/);
    expect(pass().check(request, header)).toEqual({ from: 'me' });
    for (const other of [
      { method: 'HEAD' },
      { path: '/y' },
      { range: undefined },
      { to: 'a:2' },
      { caller: undefined },
      { caller: 'd' },
    ]) {
      expect(pass().check({ ...request, ...other }, header)).toEqual({ refused: 'forged' });
    }
  });

  test.each([
    [undefined, 'unsigned'],
    ['', 'forged'],
    ['x me 5000 AAAAAAAAAAAAAAAAAAAAAA x', 'forged'],
  ])('that is %s is refused as %s', (header, refused) => {
    expect(pass().check(request, header)).toEqual({ refused });
  });

  test('with something before or behind it is refused', () => {
    const header = pass().sign(request, 'me');
    for (const text of [` ${header}`, `${header} `, `${header}.`, header.replace('me', 'm e')]) {
      expect(pass().check(request, text)).toEqual({ refused: 'forged' });
    }
  });
});

describe('the connections to Redis', () => {
  const login = { tls: false, username: 'u', password: 'p' };
  const anonymous = { tls: false, username: undefined, password: undefined };

  function optionsOf(location: RedisLocation) {
    const pair = connectPair(location);
    endPair(pair, { isForGood: true });
    const { client, subscriber } = pair;
    expect(client).not.toBe(subscriber);
    if (client instanceof Cluster) return { ...client.options, kind: 'cluster' as const };
    expect(client).toBeInstanceOf(Redis);
    return { ...client.options, kind: 'redis' as const };
  }

  const common = {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 1_000,
    keepAlive: 5_000,
    disableClientInfo: true,
  };

  test('to a single server are plain, with its database and login', () => {
    const options = optionsOf({ kind: 'single', host: 'h', port: 1, db: 3, ...login });
    expect(options).toMatchObject({ ...common, host: 'h', port: 1, db: 3, username: 'u', password: 'p' });
    expect('tls' in options && options.tls).toBeFalsy();
    const without = optionsOf({ kind: 'single', host: 'h', port: 1, db: 0, ...anonymous });
    expect([without.kind === 'redis' && without.username, without.kind === 'redis' && without.password]).toEqual([
      null,
      null,
    ]);
    if (without.kind === 'redis') expect(without.retryStrategy?.(1)).toBe(500);
  });

  test('with TLS trust what is configured', () => {
    const own = optionsOf({ kind: 'single', host: 'h', port: 1, db: 0, ...anonymous, tls: true });
    expect(own).toMatchObject({ tls: {} });
    expect(own).not.toHaveProperty('tls.secureContext');
    const ca = optionsOf({ kind: 'single', host: 'h', port: 1, db: 0, ...anonymous, tls: true, ca: '' });
    expect(ca).toHaveProperty('tls.secureContext');
  });

  const sentinel = {
    kind: 'sentinel',
    sentinels: [{ host: 's', port: 26_379 }],
    name: 'main',
    db: 2,
    ...login,
  } as const;

  test('by Sentinels have two logins', () => {
    const options = optionsOf({ ...sentinel, sentinelUsername: 'su', sentinelPassword: 'sp' });
    expect(options).toMatchObject({
      ...common,
      db: 2,
      name: 'main',
      sentinels: [{ host: 's', port: 26_379 }],
      username: 'u',
      password: 'p',
      sentinelUsername: 'su',
      sentinelPassword: 'sp',
      enableTLSForSentinelMode: false,
    });
    if (options.kind === 'redis') expect(options.sentinelRetryStrategy?.(1)).toBe(500);
    expect(optionsOf(sentinel)).not.toHaveProperty('sentinelUsername', 'u');
    expect(optionsOf(sentinel)).not.toHaveProperty('sentinelPassword', 'p');
    const secure = optionsOf({ ...sentinel, tls: true });
    expect(secure).toMatchObject({ enableTLSForSentinelMode: true, sentinelTLS: {}, tls: {} });
  });

  test('to a cluster keep names, and refuse at once what a part of it cannot answer', () => {
    const options = optionsOf({ kind: 'cluster', nodes: [{ host: 'n', port: 7_000 }], ...login });
    expect(options).toMatchObject({
      lazyConnect: true,
      enableOfflineQueue: false,
      slotsRefreshTimeout: 1_000,
      retryDelayOnClusterDown: 0,
      retryDelayOnFailover: 0,
      slotsRefreshInterval: 5_000,
      redisOptions: { ...common, username: 'u', password: 'p' },
    });
    if (options.kind !== 'cluster') throw new Error('no cluster');
    expect(options.clusterRetryStrategy?.(1)).toBe(500);
    const found: unknown[] = [];
    options.dnsLookup?.('name', (...given) => void found.push(...given));
    expect(found).toEqual([null, 'name']);
  });
});

test('a replica without others coordinates with none', async () => {
  await using solo = new SoloCoordinator();
  expect(solo).toMatchObject({ isAlone: true, self: '', boot: '', epoch: '', replicas: [], position: undefined });
  expect(await solo.claim()).toEqual({ kind: 'alone' });
  expect(await solo.renew()).toBe('unknown');
  expect(await solo.holders()).toEqual([]);
  expect(solo.mark()).toBe('');
  expect(await solo.claimTag()).toEqual({ kind: 'alone' });
  expect(await solo.missing()).toBeUndefined();
  expect(solo.status()).toEqual({ state: 'alone', self: '', replicas: [], leases: [] });
  using subscription = solo.subscribe();
  expect(subscription[Symbol.dispose]()).toBeUndefined();
  const place = await solo.enter();
  expect(await place[Symbol.asyncDispose]()).toBeUndefined();
});
