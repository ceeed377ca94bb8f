import { expect, test } from 'vitest';
import { Seal } from '../../src/coordination/seal.ts';

const seal = new Seal(Buffer.from('a secret of the replicas'));
const value = { id: 'a', address: 'http://10.0.0.1:5000' };

test('what is sealed opens in its own context', () => {
  expect(seal.open('replica', seal.close('replica', value))).toEqual(value);
});

test('what is sealed for one purpose does not open for another', () => {
  expect(seal.open('tag', seal.close('replica', value))).toBeUndefined();
  // The boundary between context and text cannot be moved either.
  const shifted = seal.mac('replica', 'x\ny');
  expect(seal.matches('replica', 'x\ny', shifted)).toBe(true);
  expect(seal.matches('replica\nx', 'y', shifted)).toBe(false);
});

test('what another secret has sealed, what is altered and what is no text does not open', () => {
  const sealed = seal.close('replica', value);
  const other = new Seal(Buffer.from('a secret of somebody else'));
  for (const forged of [other.close('replica', value), `${sealed} `, sealed.slice(1), '', undefined, 7, null]) {
    expect(seal.open('replica', forged)).toBeUndefined();
  }
});

test('the code of an empty text is no sealed value', () => {
  expect(seal.open('replica', seal.mac('replica', ''))).toBeUndefined();
});

test('a secret of fewer than 16 bytes is refused', () => {
  expect(() => new Seal(Buffer.alloc(15))).toThrow('fewer than 16 bytes');
  expect(new Seal(Buffer.alloc(16)).open('a', '')).toBeUndefined();
});

test('while the secret is exchanged, replicas that have either understand each other; then the former is of no use', () => {
  let nowMs = 0;
  const [before, after] = [Buffer.from('the secret of before'), Buffer.from('the secret of afterwards')];
  const exchanging = new Seal(before, { now: () => nowMs });
  exchanging.renew(after, 1_000);
  const [late, early] = [new Seal(before), new Seal(after)];
  for (const other of [late, early]) {
    expect(other.open('replica', exchanging.close('replica', value))).toEqual(value);
    expect(exchanging.open('replica', other.close('replica', value))).toEqual(value);
    expect(exchanging.open('tag', other.close('replica', value))).toBeUndefined();
  }
  expect(exchanging.mac('mark', 'x')).toBe(early.mac('mark', 'x'));
  nowMs = 1_000;
  expect(exchanging.open('replica', late.close('replica', value))).toBeUndefined();
  expect(exchanging.open('replica', early.close('replica', value))).toEqual(value);
  expect(late.open('replica', exchanging.close('replica', value))).toBeUndefined();
});

test('a secret that is written once more is no other one', () => {
  const same = new Seal(Buffer.from('a secret of the replicas'));
  same.renew(Buffer.from('a secret of the replicas'));
  expect(same.close('replica', value)).toBe(seal.close('replica', value));
  expect(() => same.renew(Buffer.alloc(15))).toThrow('fewer than 16 bytes');
});
