import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { giveBack, type Loan, Slabs, slabBytes } from '../../src/memory/slabs.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

describe('a slab', () => {
  test('is used again when its writer and all its readers have released it, and not before', () => {
    const freed: Buffer[] = [];
    const slabs = new Slabs({ onFree: (memory) => freed.push(memory) });
    const slab = slabs.take(Number.POSITIVE_INFINITY);
    expect(slab.fill(Buffer.from('abcdef'))).toBe(6);
    const first = slab.lend(0, 4);
    const second = first.again();
    slab.release();
    first[Symbol.dispose]();
    // Once is once, however often it is said.
    first[Symbol.dispose]();
    expect(freed).toEqual([]);
    expect(second.bytes.toString()).toBe('abcd');
    second[Symbol.dispose]();
    expect([freed.length, slabs.idle]).toEqual([1, 1]);
    expect(slabs.take(slabBytes).lend(0, 0).bytes.buffer).toBe(freed[0]?.buffer);
    expect(slabs.idle).toBe(0);
  });

  test('lends nothing that is not in it, and nothing of what has been given back', () => {
    const slab = new Slabs().take(10);
    slab.fill(Buffer.from('abc'));
    expect(() => slab.lend(0, 4)).toThrow('not here');
    const loan = slab.lend(0, 3);
    loan[Symbol.dispose]();
    expect(() => loan.again()).toThrow('given back');
    slab.release();
    expect(() => slab.lend(0, 3)).toThrow('not here');
  });

  test('takes no more than there is room for', () => {
    const slab = new Slabs().take(5);
    expect(slab.fill(Buffer.from('abcdefg'))).toBe(5);
    expect([slab.isFull, slab.length, slab.lend(0, 5).bytes.toString()]).toEqual([true, 5, 'abcde']);
    expect(slab.fill(Buffer.from('h'))).toBe(0);
  });

  test('is kept for the next blob while there are few, and gives its memory back at once when there are many', () => {
    const slabs = new Slabs();
    const taken = Array.from({ length: 40 }, () => slabs.take(slabBytes));
    const loans = taken.map((slab) => slab.lend(0, 0).bytes.buffer);
    for (const slab of taken) {
      slab.lend(0, 0)[Symbol.dispose]();
      slab.release();
    }
    // Each is still lent.
    expect(slabs.idle).toBe(0);
    const others = Array.from({ length: 40 }, () => slabs.take(slabBytes));
    for (const slab of others) slab.release();
    expect(slabs.idle).toBe(32);
    expect(loans.every(({ byteLength }) => byteLength === slabBytes)).toBe(true);
  });

  test('never changes under somebody who has it, in whatever order it is filled, lent and let go', () => {
    const actions = fc.array(fc.tuple(fc.constantFrom('fill', 'lend', 'again', 'drop', 'next'), fc.nat(1_000_000)), {
      maxLength: 200,
    });
    fc.assert(
      fc.property(actions, (steps) => {
        const slabs = new Slabs({ onFree: (memory) => memory.fill(0xdb) });
        let slab = slabs.take(slabBytes);
        let loans: { loan: Loan; expected: Buffer }[] = [];
        for (const [what, number] of steps) {
          const picked = loans[number % Math.max(1, loans.length)];
          if (what === 'fill') slab.fill(Buffer.alloc(number % 70_000, number % 0xdb));
          else if (what === 'lend' && slab.length > 0) {
            const start = number % slab.length;
            const loan = slab.lend(start, Math.min(slab.length, start + 100));
            loans.push({ loan, expected: Buffer.from(loan.bytes) });
          } else if (what === 'again' && picked) loans.push({ ...picked, loan: picked.loan.again() });
          else if (what === 'drop' && picked) {
            picked.loan[Symbol.dispose]();
            loans = loans.filter((other) => other !== picked);
          } else if (what === 'next') {
            slab.release();
            slab = slabs.take(slabBytes);
          }
        }
        for (const { loan, expected } of loans) expect(loan.bytes.equals(expected)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });
});

test('the memory of a chunk is given back where no other holder has a part of it', () => {
  const own = Buffer.allocUnsafeSlow(65_536);
  giveBack(own);
  expect([own.length, own.buffer.byteLength]).toEqual([0, 0]);
  const whole = Buffer.allocUnsafeSlow(65_536);
  giveBack(whole.subarray(0, 60_000));
  giveBack(whole.subarray(1));
  expect(whole.length).toBe(65_536);
  const pooled = Buffer.from('a few bytes');
  giveBack(pooled);
  expect(pooled.toString()).toBe('a few bytes');
});
