import { expect, test } from 'vitest';
import { BackOff } from '../../src/access/back-off.ts';
import { Identities } from '../../src/access/identities.ts';
import { KeyStore } from '../../src/access/key-store.ts';
import { Passwords } from '../../src/access/passwords.ts';

/** What stands for the hash of a password. */
function hashOf(password: string, cost = '11'): string {
  return `$2y$${cost}$${password.padEnd(53, '.')}`;
}

/** Passwords whose comparisons wait until the test lets them end. */
function heldPasswords(hashes: Readonly<Record<string, string>>) {
  const compared: string[] = [];
  const { promise: gate, resolve: release } = Promise.withResolvers<void>();
  const passwords = new Passwords({
    async compare(password, hash) {
      compared.push(hash);
      await gate;
      // As bcrypt does, which goes over a password and a NUL again and again.
      return hash.slice(7) === hashOf(password.split('\0', 1)[0]!).slice(7);
    },
    backOff: new BackOff({ now: () => 0 }),
    now: () => 0,
  });
  passwords.replace(new Map(Object.entries(hashes)));
  return { passwords, compared, release };
}

test('a name and a password that together read like those of another user are not taken for them', async () => {
  const { passwords, release } = heldPasswords({ ann: hashOf('a') });
  const right = passwords.fitting('ann', 'a\0-admin\0x', 'one');
  const others = [
    passwords.fitting('ann\0a\0-admin', 'x', 'one'),
    passwords.fitting('ann\0a', '-admin\0x', 'one'),
    passwords.fitting('ann","a', 'x', 'one'),
  ];
  release();
  expect(await right).toBe(hashOf('a'));
  expect(await Promise.all(others)).toEqual([undefined, undefined, undefined]);
});

test('what a caller has shown is void when the file changes while its password is compared', async () => {
  const { passwords, release } = heldPasswords({ ann: hashOf('a') });
  const keys = new KeyStore({ path: '/nonexistent', now: () => 0 });
  const identities = new Identities({ passwords, keys, issuers: () => new Map() });
  const origin = { address: '127.0.0.1', client: '127.0.0.1' };
  const finding = identities.find({ scheme: 'basic', user: 'ann', password: 'a' }, origin);
  passwords.replace(new Map([['ann', hashOf('changed')]]));
  release();
  const identity = await finding;
  // A token that says who this is must not outlive the password.
  expect(identity && identities.current(identity, '')).toBeUndefined();
  passwords.replace(new Map([['ann', hashOf('a')]]));
  expect(identity && identities.current(identity, '')).toBeDefined();
});

test('two checks of the same password share no answer when the file changes between them', async () => {
  const { passwords, release } = heldPasswords({ ann: hashOf('a') });
  const before = passwords.fitting('ann', 'a', 'one');
  passwords.replace(new Map([['ann', hashOf('changed')]]));
  const after = passwords.fitting('ann', 'a', 'one');
  release();
  expect([await before, await after]).toEqual([hashOf('a'), undefined]);
});

test('where users have hashes of several costs, unknown ones do too, each always the same', async () => {
  const { passwords, compared, release } = heldPasswords({ ann: hashOf('a', '10'), bob: hashOf('b', '12') });
  release();
  const costs = async (password: string): Promise<string[]> => {
    const from = compared.length;
    for (let user = 0; user < 40; user += 1) await passwords.fitting(`no one ${user}`, password, `client ${user}`);
    return compared.slice(from).map((hash) => hash.slice(4, 6));
  };
  const first = await costs('one');
  expect(new Set(first)).toEqual(new Set(['10', '12']));
  expect(await costs('two')).toEqual(first);
});
