import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeAttributes } from '../../src/archive/tar-header.ts';
import { plainName } from '../../src/archive/tar-reader.ts';
import { AcceptReader } from '../../src/oci/accept.ts';
import { readManifest } from '../../src/oci/descriptor.ts';
import { matchesGlob, repositoryGlob } from '../../src/oci/glob.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { readContentRange, readRanges } from '../../src/oci/range.ts';
import { parseReference } from '../../src/oci/reference.ts';
import { parseRequest } from '../../src/oci/request.ts';
import { parseChallenges } from '../../src/upstream/challenge.ts';
import { retryAfterSeconds } from '../../src/upstream/failures.ts';
import { nextQuery, withoutSelection } from '../../src/upstream/link.ts';
import { readRateLimit } from '../../src/upstream/rate-limit.ts';
import { parseReferenceName } from '../../src/upstream/reference-name.ts';
import { fuzz } from '../support/fuzz.ts';
import { stepsOf } from '../support/steps.ts';

/** Parsers of what others write, with the pieces that mean something to each. */
const parsers: readonly [name: string, parse: (text: string) => unknown, pieces: readonly string[]][] = [
  ['a path', parseRequest, ['/v2/', 'a', '/', 'blobs/', 'tags/', '-', '__', '.', '%3a', ':']],
  ['a reference', parseReference, ['a', '/', ':', '@', '-', '.', 'sha256:']],
  ['a reference name', (text) => parseReferenceName(text, () => false), ['a', '/', ':', '@', '%', '[', '.']],
  ['Range', (text) => readRanges(text, 1000), ['bytes=', '0', '-', ',', ' ']],
  ['Content-Range', readContentRange, ['bytes ', '0', '-', '/', '*', ' ']],
  ['Accept', (text) => new AcceptReader().takes('a/b', text), ['a/b', ',', ';', 'q=0', '.', '0', ' ', '*/*']],
  ['a challenge', parseChallenges, ['Bearer ', 'a', '=', '"', '\\', ',', ' ', '"b"']],
  ['Link', nextQuery, ['<', '>', ';', 'rel', '=', '"', '\\', ',', ' ', '?', '#', 'next']],
  ['a query', withoutSelection, ['a', '=', '&', 'ns', '%', '%20', '+']],
  ['Retry-After', (text) => retryAfterSeconds(text, 0), ['0', ' ', 'Thu, ', 'a', '-']],
  ['a budget of pulls', (text) => readRateLimit({ 'ratelimit-remaining': text }, 0), ['0', ' ', ';', 'w=']],
  [
    'a manifest',
    (text) => readManifest(Buffer.from(text), ociManifest),
    ['{', '}', '[', ']', '"', '\\', ',', ':', 'a'],
  ],
  [
    'a manifest of layers',
    (text) => readManifest(Buffer.from(`{"layers":[${text}0]}`), ociManifest),
    ['{},', '[],', '0,'],
  ],
  ['a pattern of tags', (text) => matchesGlob(text, 'a'.repeat(100)), ['*', 'a', 'b']],
  ['a tag', (text) => matchesGlob('*a*a*b*', text), ['a', 'b', '-']],
  ['a repository', repositoryGlob('**/a*a*a**/b*'), ['a', '/', 'b']],
  ['a pattern of repositories', (text) => repositoryGlob(text)('aaa/bbb'), ['*', '**', '**/', 'a']],
  ['a pax header', (text) => decodeAttributes(Buffer.from(text)), ['6 a=b\n', '5 a=\n', ' ', '=', '1', '\0']],
  ['the name of an entry', plainName, ['a', '/', '.', '..', '\0']],
];

test.each(parsers)('%s is read in as many steps as it has characters', async (_, parse, pieces) => {
  const some = (most: number): fc.Arbitrary<string> =>
    fc.array(fc.constantFrom(...pieces), { maxLength: most }).map((parts) => parts.join(''));
  await fuzz(
    [some(2), some(4), some(2)],
    (before, repeated, after) => {
      const steps = (times: number): number => stepsOf(() => parse(before + repeated.repeat(times) + after));
      const [few, many] = [steps(40), steps(160)];
      // Four times the text: four times the steps, where a square would be sixteen times.
      expect(many).toBeLessThanOrEqual(6 * few + 1000);
    },
    { runs: 10 },
  );
});
