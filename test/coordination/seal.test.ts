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

test('a secret of fewer than 16 bytes is refused', () => {
  expect(() => new Seal(Buffer.alloc(15))).toThrow('fewer than 16 bytes');
  expect(new Seal(Buffer.alloc(16)).open('a', '')).toBeUndefined();
});
