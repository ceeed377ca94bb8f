import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import type { CredentialSource } from '../../src/upstream/credentials/source.ts';
import { Slot, Wallet } from '../../src/upstream/credentials/wallet.ts';
import { credentialInWords } from '../../src/upstream/credentials/words.ts';
import type { Heard } from '../../src/upstream/passage.ts';
import { never } from './support.ts';

const basic = { kind: 'basic', username: 'u', password: 'p' } as const;

function source(get: () => Promise<typeof basic | undefined> = () => Promise.resolve(basic)): CredentialSource {
  return {
    get,
    refused: () => Promise.resolve(false),
    identity: () => Promise.resolve({ credential: undefined }),
    status: () => ({ expiresAtMs: 99 }),
  };
}

/** A wallet whose clock is moved, and a passage that notes what it is given. */
function walletOf(...names: readonly string[]) {
  const time = { now: 1_000 };
  const slots = names.map((name) => new Slot(name, source()));
  const wallet = new Wallet(slots, { now: () => time.now });
  const heard: unknown[] = [];
  const passage = {
    answered: (answer: Heard) => void heard.push(answer),
    failed: (error: unknown, event?: object) => void heard.push(error, event),
    [Symbol.dispose]: () => void heard.push('disposed'),
  };
  const answer = (slot: Slot, status: number, headers: Heard['headers'] = {}) =>
    wallet.watch(passage, slot).answered({ status, headers });
  return { time, slots: slots as [Slot, Slot, Slot], wallet, heard, passage, answer };
}

describe('the next credential', () => {
  test('is the one that was used least of those that have not been tried', () => {
    const { wallet, slots } = walletOf('a', 'b', 'c');
    const [a, b, c] = slots;
    [a.requests, b.requests, c.requests] = [2, 1, 3];
    expect(wallet.pick('r', new Set())).toBe(b);
    expect(wallet.pick('r', new Set([b]))).toBe(a);
    expect(wallet.pick('r', new Set([a, b]))).toBe(c);
    expect(wallet.pick('r', new Set(slots))).toBeUndefined();
  });

  test('is one that did not give the repository only after ten minutes, or where nothing else is left', () => {
    const { wallet, slots, time } = walletOf('a', 'b');
    const [a, b] = slots;
    b.requests = 5;
    wallet.denied(a, 'r');
    expect(wallet.pick('r', new Set())).toBe(b);
    expect(wallet.pick('other', new Set())).toBe(a);
    expect(wallet.pick('r', new Set([b]))).toBe(a);
    time.now += 599_999;
    expect(wallet.pick('r', new Set())).toBe(b);
    time.now += 1;
    expect(wallet.pick('r', new Set())).toBe(a);
  });

  test('is one that did not give the repository before one that is limited', () => {
    const { wallet, slots } = walletOf('a', 'b');
    const [a, b] = slots;
    wallet.denied(a, 'r');
    b.limitedUntilMs = 1_001;
    expect(wallet.pick('r', new Set())).toBe(a);
    b.limitedUntilMs = 1_000;
    expect(wallet.pick('r', new Set())).toBe(b);
  });
});

describe('an answer', () => {
  test('that limits one credential is none of the upstream while another can be used', () => {
    const { answer, slots, heard, wallet, time } = walletOf('a', 'b');
    answer(slots[0], 429, { 'retry-after': '30' });
    expect(heard).toEqual([{ status: 200, headers: { 'retry-after': '30' } }]);
    expect([wallet.hasOther(slots[0]), wallet.hasOther(slots[1])]).toEqual([true, false]);
    expect(wallet.status()[0]).toEqual({
      name: 'a',
      state: 'limited',
      untilMs: 31_000,
      requests: 0,
      expiresAtMs: 99,
    });
    time.now = 31_000;
    expect(wallet.status()[0]).toEqual({ name: 'a', state: 'available', requests: 0, expiresAtMs: 99 });
  });

  test('that limits the last one lasts until the first of them may be used', () => {
    const { answer, slots, heard, time } = walletOf('a', 'b');
    answer(slots[0], 429, { 'retry-after': '30' });
    time.now += 500;
    answer(slots[1], 503, { 'retry-after': '600', x: 'y' });
    expect(heard[1]).toEqual({ status: 503, headers: { 'retry-after': '30', x: 'y' } });
    slots[0].limitedUntilMs = time.now + 1;
    answer(slots[1], 429, { 'retry-after': '600' });
    expect(heard[2]).toMatchObject({ headers: { 'retry-after': '1' } });
  });

  test('that limits nothing is passed on as it is, as are failures', () => {
    const { answer, slots, heard, wallet, passage } = walletOf('a', 'b');
    answer(slots[0], 404);
    const watched = wallet.watch(passage, slots[0]);
    watched.failed('error', { isConnected: true });
    watched[Symbol.dispose]();
    expect(heard).toEqual([{ status: 404, headers: {} }, 'error', { isConnected: true }, 'disposed']);
  });

  test('to the only credential there is goes straight to the gate', () => {
    const { wallet, slots, passage } = walletOf('a');
    expect(wallet.watch(passage, slots[0])).toBe(passage);
  });
});

describe('the pulls that are left', () => {
  const limit = (remaining: number) => ({ 'ratelimit-remaining': `${remaining};w=60` });

  test('are those of the best credential, once each has told', () => {
    const { answer, slots, wallet, time } = walletOf('a', 'b');
    answer(slots[0], 200, limit(3));
    expect(wallet.rateLimit).toBeUndefined();
    answer(slots[1], 200, limit(7));
    answer(slots[1], 200);
    expect(wallet.rateLimit?.remaining).toBe(7);
    answer(slots[0], 200, limit(9));
    expect(wallet.rateLimit?.remaining).toBe(9);
    expect(wallet.status().map(({ remaining }) => remaining)).toEqual([9, 7]);
    time.now += 60_000;
    expect(wallet.rateLimit).toBeUndefined();
    expect(wallet.status().map(({ remaining }) => remaining)).toEqual([undefined, undefined]);
  });
});

describe('trying all credentials', () => {
  test('tells which are there, and why one cannot be had', async () => {
    const refused = () => Promise.reject(new RegistryError('no-credentials', 'the helper is gone'));
    const slots = [
      new Slot('none', undefined),
      new Slot('there', source()),
      new Slot(
        'anonymous',
        source(() => Promise.resolve(undefined)),
      ),
      new Slot('gone', source(refused)),
    ];
    const wallet = new Wallet(slots, { now: () => 0 });
    expect(await wallet.tryAll({ signal: never() })).toEqual([
      { name: 'there', isThere: true },
      { name: 'anonymous', isThere: false },
      { name: 'gone', isThere: false, failure: 'the helper is gone' },
    ]);
    expect(wallet.status().map(({ name }) => name)).toEqual(['there', 'anonymous', 'gone']);
  });

  test('ends with an error that is none of theirs', async () => {
    const slot = new Slot(
      'a',
      source(() => Promise.reject(new TypeError('left'))),
    );
    await expect(new Wallet([slot], { now: () => 0 }).tryAll({ signal: never() })).rejects.toThrow('left');
  });
});

test.each<[Parameters<typeof credentialInWords>[0], string]>([
  [undefined, 'anonymous'],
  [{ kind: 'inline', username: 'u', password: 'canary' }, 'user u, password from the configuration'],
  [{ kind: 'password-file', username: 'u', passwordFile: '/f' }, 'user u, password from /f'],
  [{ kind: 'environment', username: 'u', passwordVariable: 'V' }, 'user u, password from the environment variable V'],
  [{ kind: 'docker-config', path: '/c' }, 'what /c holds for it'],
  [{ kind: 'helper', helper: 'pass' }, 'what docker-credential-pass has for it'],
  [{ kind: 'kubelet', program: '/p', args: [] }, "what the kubelet's credential provider /p has for it"],
  [
    { kind: 'ecr', isPublic: true, region: undefined, keys: undefined },
    'password of Amazon ECR Public, by the role of this machine or pod',
  ],
  [
    { kind: 'ecr', isPublic: false, region: undefined, keys: { kind: 'docker-config', path: '/c' } },
    'password of Amazon ECR, by the role of this machine or pod',
  ],
  [
    { kind: 'ecr', isPublic: false, region: 'r', keys: { kind: 'inline', username: 'AKIA', password: 'canary' } },
    'password of Amazon ECR, by key AKIA',
  ],
  [{ kind: 'google', credentialsFile: '/g' }, 'access token of Google, by /g'],
  [{ kind: 'google', credentialsFile: undefined }, 'access token of Google, by the credentials of this machine or pod'],
  [{ kind: 'acr', clientId: 'c', tenantId: undefined }, 'token of Azure Container Registry, by c'],
  [
    { kind: 'acr', clientId: undefined, tenantId: 't' },
    'token of Azure Container Registry, by the identity of this machine or pod',
  ],
])('the credential %j is described as "%s"', (options, words) => {
  expect(credentialInWords(options)).toBe(words);
});
