import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readImageList } from '../../src/config/image-list.ts';
import { loadConfig } from '../../src/config/load.ts';
import { jsonSchema } from '../../src/config/schema.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { allBlocks } from './pages.ts';

/** The files that configurations in pages name, from the folder they are in. */
const cited = ['images.yaml'];

describe('snippets in the documentation', () => {
  test('what looks like a configuration of Millpond is one', async () => {
    await using folder = await temporaryDirectory('snippets');
    for (const name of cited) await writeFile(join(folder.path, name), '- nginx:1.27\n');
    const keys = Object.keys(jsonSchema().properties ?? {});
    let count = 0;
    for (const { page, info, text } of await allBlocks()) {
      if (!info.startsWith('yaml')) continue;
      const value: unknown = parse(text);
      if (typeof value !== 'object' || value === null || Array.isArray(value)) continue;
      if (info !== 'yaml millpond' && !Object.keys(value).every((key) => keys.includes(key))) continue;
      count += 1;
      await mkdir(folder.path, { recursive: true });
      const file = join(folder.path, 'shown.yaml');
      await writeFile(file, text);
      const loading = loadConfig({ flags: { config: file }, environment: {}, workingDirectory: folder.path });
      await expect(loading, `${page}:\n${text}`).resolves.toHaveProperty('config');
    }
    expect(count).toBeGreaterThan(6);
  });

  test('every list of images can be read', async () => {
    let count = 0;
    for (const { page, info, text } of await allBlocks()) {
      if (!info.startsWith('yaml') || !Array.isArray(parse(text))) continue;
      count += 1;
      expect(readImageList(text, page).length, page).toBeGreaterThan(1);
    }
    expect(count).toBeGreaterThan(1);
  });

  test('every block of JSON and YAML parses', async () => {
    const blocks = (await allBlocks()).filter(({ info }) => /^(?:json|yaml)\b/.test(info));
    expect(blocks.length).toBeGreaterThan(10);
    for (const { page, info, text } of blocks) {
      expect(() => (info.startsWith('json') ? JSON.parse(text) : parse(text)), `${page}:\n${text}`).not.toThrow();
    }
  });
});
