import fc from 'fast-check';
import { expect, test } from 'vitest';
import { matchesGlob, repositoryGlob } from '../../src/oci/glob.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

/** What the documentation says of a pattern, as a regular expression: right, and slow where it has many asterisks. */
function model(glob: string): RegExp {
  const source = glob.replaceAll(/\*\*\/|\*\*|\*|[^*]+/g, (token) => {
    if (token === '**/') return '(?:.*/)?';
    if (token === '**') return '.*';
    if (token === '*') return '[^/]*';
    return token.replaceAll(/[\\^$.+?()[\]{}|]/g, '\\$&');
  });
  return new RegExp(`^${source}$`);
}

const part = fc.constantFrom('a', 'b', 'ab', '/', '*', '**', '**/', '.', '-', '[');
const patterns = fc.array(part, { maxLength: 7 }).map((parts) => parts.join(''));
const names = fc
  .array(fc.constantFrom('a', 'b', '/', '.', '-', '['), { maxLength: 9 })
  .map((characters) => characters.join(''));

test('a pattern of repositories takes what its documentation says', () => {
  fc.assert(
    fc.property(patterns, names, (pattern, name) => {
      expect(repositoryGlob(pattern)(name)).toBe(model(pattern).test(name));
    }),
    { numRuns: 3000 },
  );
});

test.each<[string, string, boolean]>([
  ['', '', true],
  ['', 'a', false],
  ['*', '', true],
  ['a/**/b', 'a/b', true],
  ['a/**/b', 'a/x/y/b', true],
  ['a/**/b', 'a/xb', false],
  ['***', 'a/b', true],
  ['**/*', 'a', true],
  ['[a]', 'a', false],
  ['docker.io/library/*', 'docker.io/library/nginx', true],
  ['docker.io/library/*', 'docker.io/library/a/b', false],
])('the pattern %j takes %j: %s', (pattern, name, expected) => {
  expect(repositoryGlob(pattern)(name)).toBe(expected);
});

test('a pattern of tags takes any characters for an asterisk', () => {
  const pieces = fc.array(fc.constantFrom('a', 'b', '*', 'ab'), { maxLength: 7 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(pieces, names, (pattern, text) => {
      const right = new RegExp(`^${pattern.replaceAll('*', '.*')}$`).test(text);
      expect(matchesGlob(pattern, text)).toBe(right);
    }),
    { numRuns: 2000 },
  );
});
