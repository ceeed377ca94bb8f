import { expect, test } from 'vitest';
import { Members } from '../../src/coordination/members.ts';
import { Seal } from '../../src/coordination/seal.ts';

const seal = new Seal(Buffer.from('a secret of the replicas'));

function entryOf(id: string): string {
  return seal.close('replica', { id, address: `http://${id}.test:5000`, boot: '1' });
}

test('the sealed entry of one replica under the id of another makes the other one absent, not a copy', () => {
  const members = new Members(seal);
  members.hear({ version: 1, isAll: true, entries: ['a', entryOf('a'), 'b', entryOf('b')] });
  expect(members.find('b')?.address).toBe('http://b.test:5000');
  members.hear({ version: 2, isAll: false, entries: ['b', entryOf('a')] });
  expect(members.find('b')).toBeUndefined();
  expect(members.without('').map(({ id, address }) => [id, address])).toEqual([['a', 'http://a.test:5000']]);
});

test('an entry that was sealed for another purpose, or by a stranger, is absent', () => {
  const members = new Members(seal);
  const stranger = new Seal(Buffer.from('a secret of somebody else'));
  const entry = { id: 'a', address: 'http://a.test:5000', boot: '1' };
  for (const sealed of [seal.close('tag', entry), stranger.close('replica', entry), 'nonsense', '']) {
    members.hear({ version: 1, isAll: true, entries: ['a', entryOf('a')] });
    members.hear({ version: 2, isAll: false, entries: ['a', sealed] });
    expect(members.find('a')).toBeUndefined();
  }
});
