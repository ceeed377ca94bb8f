import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { nameJournalFile } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

test.each([
  ['removed', (path: string) => rm(path)],
  ['cut', (path: string) => truncate(path, 40)],
] as const)('a journal of names that was %s beside a whole catalog is written again', async (_, damage) => {
  await using folder = await temporaryDirectory();
  const open = () =>
    Catalog.open({ path: join(folder.path, 'catalog.sqlite'), now: () => 1000, onFault: () => undefined });
  const between = () => Promise.resolve();
  const key = { repository: 'docker.io/library/app', tag: '1', variant: '' };
  const record = { digest: digestOf(Buffer.from('app')), contentType: 'text/plain', size: 3, checkedAtMs: 1000 };
  {
    using catalog = await open();
    catalog.tags.record(key, record);
    await catalog.names.rewriteJournal(between);
    expect(catalog.names.isJournalWorn).toBe(false);
  }
  await damage(join(folder.path, nameJournalFile));
  using catalog = await open();
  expect(catalog.names.isJournalWorn).toBe(true);
  await catalog.names.rewriteJournal(between);
  expect(catalog.names.isJournalWorn).toBe(false);
  const entries = (await Array.fromAsync(catalog.names.journal(0))).flatMap((batch) => batch.entries);
  expect(entries).toContainEqual({ kind: 'tag', ...key, ...record });
});
