import { expect, test } from 'vitest';
import { PeerPass, type PeerRequest } from '../../src/coordination/peer-pass.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { secret } from './support.ts';

const request: PeerRequest = { method: 'GET', path: '/x', range: undefined, to: 'a:1' };
const toleranceMs = 60_000;

test('a request is let in once, whenever it comes again', () => {
  let nowMs = 1_000_000;
  const pass = new PeerPass({ seal: new Seal(secret), toleranceMs, now: () => nowMs });
  // Of one whose clock is as far ahead as it may be, one that goes right, and one that is as far behind.
  const headers = [toleranceMs, 0, -toleranceMs].map((aheadMs) =>
    new PeerPass({ seal: new Seal(secret), toleranceMs, now: () => nowMs + aheadMs }).sign(request, 'b'),
  );
  const check = () => headers.map((header) => pass.check(request, header));
  const [letIn, replayed, old] = [{ from: 'b' }, { refused: 'replayed' }, { refused: 'old' }];
  expect(check()).toEqual([letIn, letIn, letIn]);
  expect(check()).toEqual([replayed, replayed, replayed]);
  nowMs += toleranceMs;
  expect(check()).toEqual([replayed, replayed, old]);
  nowMs += toleranceMs;
  expect(check()).toEqual([replayed, old, old]);
  nowMs += 1;
  expect(check()).toEqual([old, old, old]);
});

test('as many requests are let in as are made', () => {
  const pass = new PeerPass({ seal: new Seal(secret), toleranceMs, now: () => 0 });
  let refused = 0;
  for (let turn = 0; turn < 210_000; turn += 1) {
    if ('refused' in pass.check(request, pass.sign(request, 'b'))) refused += 1;
  }
  expect(refused).toBe(0);
});
