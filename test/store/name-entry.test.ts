import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { entryOf, lineOf, type NameEntry } from '../../src/store/catalog/name-entry.ts';

const digest = digestOf(Buffer.from('a'));
const repository = 'docker.io/library/app';
const entries: readonly NameEntry[] = [
  { kind: 'manifest', repository, digest, contentType: 'a/b' },
  { kind: 'tag', repository, tag: '1', variant: '', digest, contentType: 'a/b', size: 1, checkedAtMs: 2 },
  { kind: 'tag gone', repository, tag: '1', variant: '', atMs: 3 },
  { kind: 'grant', repository, digest, size: -1 },
  { kind: 'right gone', repository, digest },
  { kind: 'type', digest, contentType: 'a/b' },
  { kind: 'shown', digest, upstream: 'docker.io' },
  { kind: 'pin', repository, reference: '1', atMs: 4 },
  { kind: 'unpin', repository, reference: '1' },
];

test.each(entries)(
  'a line of kind $kind is read as it was written, and not with a member missing or of another type',
  (entry) => {
    const line = lineOf(entry).trimEnd();
    expect(entryOf(line)).toEqual(entry);
    for (const name of Object.keys(entry)) {
      for (const value of [undefined, null, {}]) {
        expect(entryOf(lineOf({ ...entry, [name]: value }).trimEnd()), name).toBeUndefined();
      }
    }
    // One flipped bit.
    expect(entryOf(line.replace('{', '['))).toBeUndefined();
    expect(entryOf(line.slice(0, -1))).toBeUndefined();
  },
);
