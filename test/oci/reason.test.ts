import { expect, test } from 'vitest';
import { hasReason, isNotFound, isTransient, RegistryError } from '../../src/oci/error.ts';
import { type Reason, type ReasonFacts, reasonFacts } from '../../src/oci/reason.ts';

const reasons = Object.entries(reasonFacts) as [Reason, ReasonFacts][];

test.each(reasons)('an error with the reason %s has its code, its status and its kind', (reason, facts) => {
  const error = new RegistryError(reason, 'a sentence');
  expect(error).toMatchObject({ reason, code: facts.code, status: facts.status, blame: facts.fault });
  expect(isTransient(error)).toBe(['UNAVAILABLE', 'TOOMANYREQUESTS'].includes(facts.code));
  expect(isNotFound(error)).toBe(facts.status === 404);
});

test('an error may have another code than is usual for its reason, and nothing is decided by it', () => {
  const error = new RegistryError('not-found', 'no such blob', { code: 'BLOB_UNKNOWN', detail: { a: 1 } });
  expect(error).toMatchObject({ status: 404, code: 'BLOB_UNKNOWN' });
  expect(hasReason(error, 'denied', 'not-found')).toBe(true);
  expect(hasReason(error, 'denied')).toBe(false);
  expect(error.toBody()).toEqual({
    errors: [{ code: 'BLOB_UNKNOWN', message: 'no such blob', detail: { a: 1 } }],
  });
});

test('what is no error of ours is neither transient nor an absence', () => {
  for (const error of [new Error('not found'), undefined, 'limited']) {
    expect([isTransient(error), isNotFound(error), hasReason(error, 'limited')]).toEqual([false, false, false]);
  }
});
