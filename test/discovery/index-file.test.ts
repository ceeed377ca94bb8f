import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { IndexFile } from '../../src/discovery/search/index-file.ts';
import { IndexThread } from '../../src/discovery/search/index-thread.ts';
import { readSearch } from '../../src/discovery/search/search-parameters.ts';
import { temporaryFolder } from '../support/site.ts';

const everything = { query: readSearch(new URLSearchParams(), { nowMs: 0 }), excluded: [] };

test('an index that cannot be read is begun again, and one that another thread has is left alone', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'search.sqlite');
  writeFileSync(path, 'this is no database, and longer than the header of one would be: '.repeat(20));
  using file = new IndexFile(path);
  file.run('INSERT INTO pulls VALUES (?, 3, 4)', 'docker.io/library/app 1');
  const before = readFileSync(path);
  expect(() => new IndexFile(path)).toThrow('database is locked');
  expect(readFileSync(path).equals(before)).toBe(true);
  expect(file.get('SELECT pulls FROM pulls')?.['pulls']).toBe(3);
}, 20_000);

test('questions that come while the thread ends are refused, and one that has failed does not end it', async () => {
  await using folder = await temporaryFolder();
  const thread = new IndexThread(join(folder.path, 'search.sqlite'));
  expect(await thread.ask('search', everything)).toEqual([]);
  const query = { ...everything.query, sort: 'nothing' as 'name' };
  await expect(thread.ask('search', { query, excluded: [] })).rejects.toThrow('the search index: ');
  expect(await thread.ask('search', everything)).toEqual([]);
  const last = thread.ask('search', everything);
  await thread[Symbol.asyncDispose]();
  expect(await last).toEqual([]);
  await expect(thread.ask('search', everything)).rejects.toThrow('has been closed');
});
