import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Loan } from '../../src/memory/slabs.ts';
import { UnsettledBytes } from '../../src/mirror/fill/unsettled-bytes.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

test('bytes that come again agree exactly where they are those that were handed out', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 10 }),
      fc.constantFrom(0, 0, 30),
      fc.nat(400),
      fc.nat(400),
      (lengths, first, written, flipped) => {
        const blob = randomBytes(700);
        const unsettled = new UnsettledBytes({ isPart: false });
        let position = first;
        for (const length of lengths) {
          unsettled.add(position, blob.subarray(position, position + length), Math.min(written, position));
          position += length;
        }
        // From the hashed part on, in pieces that fit nothing.
        const from = Math.min(written, first + lengths.slice(0, -1).reduce((sum, length) => sum + length, 0));
        const again = Buffer.from(blob);
        again[flipped] = again[flipped]! ^ 1;
        const wrong = first === 0 && flipped >= from && flipped < position;
        const pieces: boolean[] = [];
        for (let at = from; at < position; at += 7) {
          pieces.push(unsettled.agrees(at, again.subarray(at, Math.min(at + 7, position))));
        }
        expect(pieces.every(Boolean)).toBe(!wrong);
      },
    ),
  );
});

test('where too much was handed out to remember, nothing agrees', () => {
  const unsettled = new UnsettledBytes({ isPart: false });
  const piece = Buffer.alloc(1024 * 1024);
  for (let index = 0; index < 9; index += 1) unsettled.add(index * piece.length, piece, 0);
  expect(unsettled.agrees(0, piece)).toBe(false);
});

test('of a part of a blob nothing is kept, however far it is ahead of the hashed part, and the client is not cut for that', () => {
  const unsettled = new UnsettledBytes({ isPart: true });
  for (let megabyte = 0; megabyte < 16; megabyte += 1) {
    unsettled.add(megabyte * 2 ** 20, Buffer.alloc(2 ** 20, megabyte), 0);
  }
  expect(unsettled.agrees(0, Buffer.alloc(2 ** 20, 0))).toBe(true);
  expect(unsettled.agrees(12 * 2 ** 20, Buffer.alloc(2 ** 20, 12))).toBe(true);
});

test('bytes are given back as soon as the hashed part has reached their end', () => {
  const held = new Set<string>();
  const lent = (name: string): Loan => ({
    bytes: Buffer.alloc(10),
    again: () => {
      held.add(name);
      return { ...lent(name), [Symbol.dispose]: () => void held.delete(name) };
    },
    [Symbol.dispose]: () => undefined,
  });
  const unsettled = new UnsettledBytes({ isPart: false });
  unsettled.add(0, lent('first'), 10);
  expect([...held]).toEqual([]);
  unsettled.add(10, lent('second'), 19);
  expect([...held]).toEqual(['second']);
  unsettled.add(20, lent('third'), 20);
  expect([...held]).toEqual(['third']);
  unsettled[Symbol.dispose]();
  expect([...held]).toEqual([]);
});
