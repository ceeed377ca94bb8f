import { expect, test } from 'vitest';
import { sourceTexts } from './pages.ts';

const declaration = /^export (?:abstract )?(?:async )?(const|function\*?|class|interface|type) (\w+)/gm;

test('every exported value is used by another file, and every exported type at all', async () => {
  const texts = await sourceTexts(['src', 'test', 'bench', 'scripts']);
  const words = new Map([...texts].map(([file, text]) => [file, text.match(/\w+/g) ?? []]));
  const users = new Map<string, Set<string>>();
  for (const [file, used] of words) {
    for (const word of used) users.set(word, (users.get(word) ?? new Set()).add(file));
  }
  const unused: string[] = [];
  let count = 0;
  for (const [file, text] of texts) {
    if (!file.startsWith('src/')) continue;
    for (const [, kind = '', name = ''] of text.matchAll(declaration)) {
      count += 1;
      const isUsedElsewhere = (users.get(name)?.size ?? 0) > 1;
      // A type is exported with what has it in its signature.
      const isType = kind === 'interface' || kind === 'type';
      const isUsedHere = isType && words.get(file)!.filter((word) => word === name).length > 1;
      if (!isUsedElsewhere && !isUsedHere) unused.push(`${file}: ${name}`);
    }
  }
  expect(count).toBeGreaterThan(400);
  expect(unused).toEqual([]);
});
