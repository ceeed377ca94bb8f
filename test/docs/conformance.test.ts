import { expect, test } from 'vitest';
import { pageText } from './pages.ts';

test('every requirement of the distribution-spec is held by a test that is there', async () => {
  const page = await pageText('docs/conformance.md');
  const rows = page.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| requirement'));
  expect(rows.length).toBeGreaterThan(45);
  const missing: string[] = [];
  for (const row of rows) {
    const [, file = '', title = ''] = /`(test\/[\w/.-]+)`: \*(.+)\* \|$/.exec(row) ?? [];
    const text = file === '' ? '' : await pageText(file);
    // Titles are quoted in the sources.
    if (title === '' || !text.includes(`'${title.replaceAll("'", "\\'")}'`)) missing.push(row);
  }
  expect(missing).toEqual([]);
});
