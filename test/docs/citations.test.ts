import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { recordNames } from '../../scripts/generated-sections.ts';
import { allPages, pageText, root, sourceTexts } from './pages.ts';

const folders = ['src', 'test', 'bench', 'scripts'];

async function everyPath(): Promise<Set<string>> {
  const names = await readdir(root, { recursive: true, withFileTypes: true });
  return new Set(
    names
      .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
      .filter((name) => !/^(?:node_modules|\.git|data)\//.test(name)),
  );
}

describe('what pages cite of the code', () => {
  test('every file that a page names is there', async () => {
    const paths = await everyPath();
    const wrong: string[] = [];
    let count = 0;
    for (const { name, text } of await allPages()) {
      for (const [, path = ''] of text.matchAll(/`((?:src|test|bench|scripts|deploy|bin)\/[\w./-]+)`/g)) {
        count += 1;
        if (!paths.has(path.replace(/\/$/, ''))) wrong.push(`${name}: ${path}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(60);
  });

  test('every file below src that docs/how-it-works.md names by its folder is there', async () => {
    const paths = await everyPath();
    const text = await pageText('docs/how-it-works.md');
    const cited = [...text.matchAll(/`((?:\w+\/)+[\w-]+\.ts)`/g)].map(([, path = '']) => `src/${path}`);
    expect(cited.length).toBeGreaterThan(5);
    expect(cited.filter((path) => !paths.has(path.replace(/^src\/src\//, 'src/')))).toEqual([]);
  });

  test.each(recordNames())('%s has the form of a record, and what it is held by is in the code', async (name) => {
    const text = await pageText(`docs/adr/${name}`);
    const sections = [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
    expect(sections).toEqual(['Decision', 'Why', 'Alternatives', 'Consequences', 'Held by']);
    expect(text).toMatch(/^Status: (?:proposed|accepted|superseded by \d+) · Date: \d{4}-\d\d-\d\d$/m);
    expect(text.split('\n').length).toBeLessThanOrEqual(60);
    const heldBy = text.slice(text.indexOf('## Held by'));
    const quoted = [...heldBy.matchAll(/`([^`]+)`/g)].map(([, words = '']) => words);
    const files = quoted.filter((words) => words.includes('/') || /\.\w+$/.test(words));
    expect(files.filter((file) => file.startsWith('src/') || file.startsWith('scripts/')).length).toBeGreaterThan(0);
    const settings = await Promise.all(['tsconfig.json', 'package.json'].map(pageText));
    const sources = [...(await sourceTexts(folders)).values(), ...settings].join('\n');
    const identifiers = quoted.filter((words) => /^#?[A-Za-z]\w*$/.test(words) && !files.includes(words));
    expect(identifiers.filter((words) => !new RegExp(`(?<![\\w#])${words}\\b`).test(sources))).toEqual([]);
  });
});
