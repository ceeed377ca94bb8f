import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Members } from '../../src/coordination/members.ts';
import { PeerPass, type PeerRequest } from '../../src/coordination/peer-pass.ts';
import { readPosition, readUntold } from '../../src/coordination/position.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { damaged, fuzz, textOf } from '../support/fuzz.ts';

const seal = new Seal(Buffer.from('a secret of the replicas'));
const entry = { id: 'a', address: 'http://a.test:5000', boot: '1' };
const right = seal.close('replica', entry);

describe('what is in Redis', () => {
  const value = fc.oneof(
    damaged(Buffer.from(right)).map((bytes) => bytes.toString('latin1')),
    fc.string(),
    fc.jsonValue(),
  );

  test('is believed if a replica has sealed exactly that, for exactly this', async () => {
    await fuzz(
      [value, fc.constantFrom('replica', 'tag')],
      (found, context) => {
        const opened = seal.open(context, found);
        if (found === right && context === 'replica') expect(opened).toEqual(entry);
        else expect(opened).toBeUndefined();
      },
      { runs: 2000 },
    );
  });

  test('names replicas that are ours, under their own ids, and no others', async () => {
    await fuzz(
      [fc.array(fc.oneof(fc.constantFrom('a', 'b', '', right), value.map(String)), { maxLength: 8 })],
      (entries) => {
        const members = new Members(seal);
        members.hear({ version: 1, isAll: true, entries });
        for (const { id, address } of members.without('')) expect([id, address]).toEqual([entry.id, entry.address]);
      },
      { runs: 1000 },
    );
  });

  test('is a position or what is untold, or nothing', async () => {
    const position = JSON.stringify({ epoch: 'e', seq: 1, changedAt: 2, atMs: 3, unread: ['x'] });
    const untold = JSON.stringify([{ change: '{"kind":"pin"}', sealed: right }]);
    const text = fc.oneof(
      fc.json(),
      damaged(Buffer.from(position)).map(String),
      damaged(Buffer.from(untold)).map(String),
    );
    await fuzz(
      [text],
      (found) => {
        const read = readPosition(found);
        if (read)
          expect([read.seq, read.changedAt, read.atMs].every((number) => typeof number === 'number')).toBe(true);
        for (const { change } of readUntold(found)) expect(() => JSON.parse(change) as unknown).not.toThrow();
      },
      { runs: 1000 },
    );
  });
});

test('the header of a request between replicas lets in exactly what was signed, once', async () => {
  const request: PeerRequest = {
    method: 'GET',
    path: '/v2/_millpond/blobs/x?want=stored',
    range: undefined,
    to: 'b:1',
  };
  const now = 1_000_000;
  const header = new PeerPass({ seal, toleranceMs: 1000, now: () => now }).sign(request, 'a');
  const changed = fc.oneof(
    fc.constant(header),
    damaged(Buffer.from(header)).map((bytes) => bytes.toString('latin1')),
    textOf('a', ' ', '1000000', header.slice(0, 30), header.slice(-43)),
  );
  const asked = fc.record({
    method: fc.constantFrom('GET', 'HEAD'),
    path: fc.constantFrom(request.path, `${request.path}&x`, `${request.path}\n`),
    range: fc.constantFrom(undefined, '', 'bytes=0-1'),
    to: fc.constantFrom('b:1', 'b:2'),
  });
  await fuzz(
    [changed, asked],
    (shown, other) => {
      const pass = new PeerPass({ seal, toleranceMs: 1000, now: () => now });
      const isRight = shown === header && other.method === 'GET' && other.path === request.path && other.to === 'b:1';
      const first = pass.check(other, shown);
      // No range and an empty one are the same to the one who answers.
      const isIn = isRight && (other.range ?? '') === '';
      expect('from' in first).toBe(isIn);
      expect('from' in pass.check(other, shown)).toBe(false);
    },
    { runs: 2000 },
  );
});
