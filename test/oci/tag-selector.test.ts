import { describe, expect, test } from 'vitest';
import { parseTagSelector, selectTags, type TagSelector } from '../../src/oci/tag-selector.ts';

const tags = ['latest', '1.2.0', 'v1.2.10', '1.2.9', '1.3', '1.3-alpine', '2.0.0-rc.1', '2.0.0', '10.0.0', 'nightly-2'];
const select = (texts: readonly string[], limit?: number): string[] =>
  selectTags(
    tags,
    texts.map((text) => parseTagSelector(text) as TagSelector),
    { limit },
  );

describe('tags', () => {
  test.each([
    ['a tag', ['latest'], ['latest']],
    ['a pattern', ['1.2.*'], ['1.2.9', '1.2.0']],
    ['a pattern with several asterisks', ['v*.*.1*'], ['v1.2.10']],
    [
      'everything, versions by their order and the rest behind',
      ['*'],
      ['10.0.0', '2.0.0', '2.0.0-rc.1', '1.3', '1.3-alpine', 'v1.2.10', '1.2.9', '1.2.0', 'nightly-2', 'latest'],
    ],
    [
      'a range, with or without a v, without what comes before a version',
      ['>=1.2 <3'],
      ['2.0.0', '1.3', 'v1.2.10', '1.2.9', '1.2.0'],
    ],
    ['a tilde', ['~1.2.5'], ['v1.2.10', '1.2.9']],
    ['a caret', ['^1'], ['1.3', 'v1.2.10', '1.2.9', '1.2.0']],
    ['a range that asks for what comes before a version', ['>=2.0.0-0 <2.0.1'], ['2.0.0', '2.0.0-rc.1']],
    ['alternatives', ['latest', '>=10'], ['10.0.0', 'latest']],
    ['nothing', ['3.*'], []],
  ])('are chosen by %s', (_, texts, expected) => {
    expect(select(texts)).toEqual(expected);
  });

  test('of which only the newest are wanted', () => {
    expect(select(['~1.2'], 2)).toEqual(['v1.2.10', '1.2.9']);
  });

  test('of charts, with what builds say of themselves: no part of the version, but in order', () => {
    const charts = ['103.1.0_up0.3.10', '103.1.0_up0.3.9', '103.0.0-rc.1_up0.3.1', '102.0.1_up0.2.0', '16.0_debian'];
    const chosen = (text: string) => selectTags(charts, [parseTagSelector(text) as TagSelector]);
    expect(chosen('>=102 <104')).toEqual(['103.1.0_up0.3.10', '103.1.0_up0.3.9', '102.0.1_up0.2.0']);
    expect(chosen('103.1.0 || 16')).toEqual(['103.1.0_up0.3.10', '103.1.0_up0.3.9']);
    expect(chosen('*')).toEqual(charts);
  });

  test.each(['', 'a b', '>=y', 'a/b', '*/x', '^', '-x', 'x'.repeat(129)])('%j selects nothing', (text) => {
    expect(parseTagSelector(text)).toBeUndefined();
  });

  test('that try to be slow are not', () => {
    const selector = parseTagSelector('*a'.repeat(90)) as TagSelector;
    expect(selector.matches(`${'a'.repeat(127)}b`)).toBe(false);
    expect(selector.matches('a'.repeat(128))).toBe(true);
  });
});
