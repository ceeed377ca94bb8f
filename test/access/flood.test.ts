import { hashSync } from 'bcryptjs';
import { expect, test } from 'vitest';
import { BackOff } from '../../src/access/back-off.ts';
import { BcryptThread } from '../../src/access/bcrypt-thread.ts';
import { Passwords } from '../../src/access/passwords.ts';
import { hasReason } from '../../src/oci/error.ts';

/** What stands for the hash of a password. */
function hashOf(password: string): string {
  return `$2y$11$${password.padEnd(53, '.')}`;
}

/** Passwords of two users; each comparison waits until the test lets it end. */
function setting({ isHeld = false } = {}) {
  const clock = { nowMs: 0 };
  const compared: { readonly password: string; readonly hash: string }[] = [];
  const waiting: (() => void)[] = [];
  const passwords = new Passwords({
    async compare(password, hash) {
      compared.push({ password, hash });
      if (isHeld) await new Promise<void>((resolve) => waiting.push(resolve));
      return hash === hashOf(password);
    },
    backOff: new BackOff({ now: () => clock.nowMs }),
    now: () => clock.nowMs,
  });
  passwords.replace(
    new Map([
      ['ann', hashOf('a')],
      ['bob', hashOf('b')],
    ]),
  );
  /** Lets comparisons end until nothing waits any more. */
  const release = async (): Promise<void> => {
    for (let idle = 0; idle < 5; idle += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      if (waiting.length === 0) continue;
      idle = 0;
      waiting.shift()!();
    }
  };
  const check = async (user: string, password: string, client = 'one'): Promise<boolean | 'later'> => {
    try {
      return (await passwords.fitting(user, password, client)) !== undefined;
    } catch (error) {
      if (hasReason(error, 'login-limited')) return 'later';
      throw error;
    }
  };
  return { clock, compared, release, check };
}

test('a password that was right costs no comparison for ten minutes, and one that was wrong for ten seconds', async () => {
  const { clock, compared, check } = setting();
  for (const wanted of [1, 1]) {
    expect(await check('ann', 'a')).toBe(true);
    expect(compared).toHaveLength(wanted);
  }
  expect([await check('ann', 'w'), await check('ann', 'w')]).toEqual([false, false]);
  expect(compared).toHaveLength(2);
  clock.nowMs = 11_000;
  expect(await check('ann', 'w')).toBe(false);
  expect(compared).toHaveLength(3);
  clock.nowMs = 600_000;
  expect(await check('ann', 'a')).toBe(true);
  expect(compared).toHaveLength(4);
});

test('a user that does not exist costs a comparison with a hash of the same cost', async () => {
  const { compared, check } = setting();
  expect(await check('no one', 'a')).toBe(false);
  expect(compared[0]!.hash).toMatch(/^\$2b\$11\$[./A-Za-z0-9]{53}$/);
});

test('a thousand wrong passwords of one address cost few comparisons, and hold up no other address', async () => {
  const { compared, release, check } = setting({ isHeld: true });
  const flood = Array.from({ length: 1_000 }, (_, index) => check(`user ${index}`, `w${index}`, 'attacker'));
  const right = check('bob', 'b', 'other');
  let place = 0;
  void right.then(() => (place = compared.length));
  await release();
  expect(await right).toBe(true);
  // It waits for the one that is under way, and for one turn of the attacker.
  expect(place).toBeLessThanOrEqual(4);
  const answers = await Promise.all(flood);
  expect(answers.filter((answer) => answer === 'later').length).toBeGreaterThan(900);
  expect(compared.length).toBeLessThan(30);
});

test('an address that guesses for one user waits longer and longer, and others there do not', async () => {
  const { clock, check } = setting();
  const answers: unknown[] = [];
  for (let index = 0; index < 8; index += 1) answers.push(await check('ann', `w${index}`));
  expect(answers).toEqual([false, false, false, false, false, 'later', 'later', 'later']);
  expect(await check('bob', 'b')).toBe(true);
  clock.nowMs = 1_001;
  expect(await check('ann', 'w8')).toBe(false);
  clock.nowMs = 2_500;
  expect(await check('ann', 'a')).toBe('later');
  expect(await check('ann', 'a', 'two')).toBe(true);
  // What is known to be right is not compared.
  expect(await check('ann', 'a')).toBe(true);
});

test('an address that tries many users waits, and those who were right there before do not', async () => {
  const { clock, check } = setting();
  expect(await check('ann', 'a')).toBe(true);
  for (let index = 0; index < 70; index += 1) await check(`user ${index}`, 'w');
  expect(await check('bob', 'b')).toBe('later');
  clock.nowMs = 600_001;
  for (let index = 0; index < 70; index += 1) await check(`again ${index}`, 'w');
  expect(await check('ann', 'a')).toBe(true);
});

test('the event loop goes on while a password is compared', async () => {
  await using thread = new BcryptThread();
  const hash = hashSync('right', 4).replace('$04$', '$12$');
  const comparing = thread.compare('wrong', hash);
  let turns = 0;
  const over = { is: false };
  void comparing.then(() => (over.is = true));
  while (!over.is) {
    await new Promise((resolve) => setImmediate(resolve));
    turns += 1;
  }
  expect(await comparing).toBe(false);
  expect(turns).toBeGreaterThan(20);
  expect(await thread.compare('right', hashSync('right', 4))).toBe(true);
});
