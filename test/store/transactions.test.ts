import { afterEach, describe, expect, test, vi } from 'vitest';
import { Transactions } from '../../src/store/catalog/transactions.ts';

/** Transactions over a connection that records its commands. */
function start({ isHeld = (): boolean => false } = {}) {
  const said: string[] = [];
  const faults: unknown[] = [];
  const fails = new Set<string>();
  const connection = {
    isOpen: true,
    isTransaction: false,
    exec: (sql: string) => {
      said.push(sql);
      if (fails.has(sql)) throw new Error(`${sql} failed`);
      if (sql.startsWith('BEGIN')) connection.isTransaction = true;
      else connection.isTransaction = false;
    },
  };
  const transactions = new Transactions({
    connection: () => connection as never,
    isHeld,
    onCommitted: () => said.push('committed'),
    onRolledBack: () => said.push('rolled back'),
    onFault: (error) => faults.push(error),
  });
  const work = (name: string) => () => void said.push(name);
  return { transactions, said, faults, fails, connection, work };
}

const begin = 'BEGIN IMMEDIATE';
const turn = () => new Promise(setImmediate);

/** Time stands still until it is moved: it may be late on a busy machine. */
function stopTime(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
}

afterEach(() => {
  vi.useRealTimers();
});

describe('what is written', () => {
  test('runs at the end of the turn, in one transaction that is committed a moment later', async () => {
    stopTime();
    const { transactions, said, work } = start();
    transactions.beforeCommit = work('before');
    transactions.add(work('a'));
    transactions.add(work('b'));
    expect(said).toEqual([]);
    await turn();
    transactions.add(work('c'));
    await turn();
    vi.advanceTimersByTime(4);
    expect(said).toEqual([begin, 'a', 'b', 'c']);
    vi.advanceTimersByTime(1);
    expect(said.slice(4)).toEqual(['before', 'COMMIT', 'committed']);
    transactions.commit();
    expect(said).toHaveLength(7);
  });

  test('runs before a read, and nested work at once', () => {
    const { transactions, said, work } = start();
    const seen: boolean[] = [];
    transactions.add(() => {
      seen.push(transactions.isWriting);
      said.push('outer');
      transactions.add(work('inner'));
      transactions.apply();
      said.push('end');
    });
    transactions.apply();
    expect([said, seen, transactions.isWriting]).toEqual([[begin, 'outer', 'inner', 'end'], [true], false]);
    transactions.apply();
    expect(said).toHaveLength(4);
    transactions.commit();
    expect(said.slice(4)).toEqual(['COMMIT', 'committed']);
  });

  test('is committed at once where it is much', () => {
    const { transactions, said, work } = start();
    for (let at = 0; at < 499; at += 1) transactions.add(work('x'));
    transactions.apply();
    expect(said).not.toContain('COMMIT');
    transactions.add(work('x'));
    transactions.apply();
    expect(said.slice(-2)).toEqual(['COMMIT', 'committed']);
  });

  test('waits a moment while a checkpoint ends, and no longer', async () => {
    stopTime();
    let held = true;
    const on = start({ isHeld: () => held });
    on.transactions.add(on.work('a'));
    await turn();
    vi.advanceTimersByTime(104);
    expect(on.said).toEqual([begin, 'a']);
    vi.advanceTimersByTime(1);
    expect(on.said).toEqual([begin, 'a', 'COMMIT', 'committed']);
    on.said.length = 0;
    on.transactions.add(on.work('b'));
    await turn();
    vi.advanceTimersByTime(50);
    expect(on.said).toEqual([begin, 'b']);
    held = false;
    vi.advanceTimersByTime(5);
    expect(on.said).toEqual([begin, 'b', 'COMMIT', 'committed']);
  });

  test('that fails takes nothing else with it', () => {
    const { transactions, said, faults, work } = start();
    const error = new Error('wrong');
    transactions.add(work('a'));
    transactions.apply();
    transactions.add(() => {
      throw error;
    });
    transactions.add(work('b'));
    transactions.apply();
    expect(said).toEqual([
      begin,
      'a',
      'rolled back',
      'ROLLBACK',
      begin,
      'a',
      'COMMIT',
      begin,
      'rolled back',
      'ROLLBACK',
      begin,
      'b',
      'COMMIT',
    ]);
    expect([faults, transactions.isWriting]).toEqual([[error], false]);
  });

  test('is repeated one by one where the commit fails', () => {
    const { transactions, said, faults, fails, work } = start();
    transactions.add(work('a'));
    transactions.apply();
    fails.add('COMMIT');
    transactions.commit();
    expect(said.filter((line) => line === 'a')).toHaveLength(2);
    expect(faults).toHaveLength(1);
    expect(said.at(-1)).toBe('committed');
    fails.clear();
    transactions.commit();
    expect(said.at(-1)).toBe('committed');
  });

  test('is reported as lost where no transaction can begin, and is not rolled back on a closed connection', () => {
    const { transactions, said, faults, fails, connection, work } = start();
    fails.add(begin);
    transactions.add(work('a'));
    transactions.apply();
    expect([said, faults.length]).toEqual([[begin, 'rolled back', begin], 1]);
    fails.clear();
    said.length = 0;
    transactions.add(work('b'));
    transactions.apply();
    connection.isOpen = false;
    fails.add('COMMIT');
    transactions.commit();
    expect(said).not.toContain('ROLLBACK');
  });

  test('at once has a transaction of its own, after what waits', () => {
    const { transactions, said, faults, work } = start();
    transactions.beforeCommit = work('before');
    transactions.add(work('a'));
    transactions.now(work('b'));
    expect(said).toEqual([begin, 'a', 'before', 'COMMIT', 'committed', begin, 'b', 'before', 'COMMIT', 'committed']);
    said.length = 0;
    const error = new Error('wrong');
    expect(() =>
      transactions.now(() => {
        throw error;
      }),
    ).toThrow(error);
    expect([said, faults]).toEqual([[begin, 'rolled back', 'ROLLBACK'], []]);
  });

  test('goes to the next connection where that is replaced', () => {
    const { transactions, said, work } = start();
    transactions.add(work('a'));
    transactions.apply();
    transactions.add(work('b'));
    transactions.keep();
    said.length = 0;
    transactions.commit();
    expect(said).toEqual([begin, 'a', 'b', 'COMMIT', 'committed']);
  });
});
