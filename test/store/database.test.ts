import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Database } from '../../src/store/database.ts';
import { temporaryFolder } from '../support/site.ts';

function names(database: Database): unknown[] {
  return database.all('SELECT name FROM repositories ORDER BY name').map((row) => row['name']);
}

test('what is written in one turn is read at once, and is there when the file is opened again', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'catalog.sqlite');
  const faults: unknown[] = [];
  {
    using database = await Database.open({ path, onFault: (fault) => faults.push(fault) });
    database.write(() => void database.repositoryId('docker.io/library/a'));
    expect(names(database)).toEqual(['docker.io/library/a']);
    database.write(() => void database.repositoryId('docker.io/library/b'));
  }
  using again = await Database.open({ path, onFault: (fault) => faults.push(fault) });
  expect(names(again)).toEqual(['docker.io/library/a', 'docker.io/library/b']);
  expect(faults).toEqual([]);
});

test('a write that fails takes no other of the same turn with it, and is told once', async () => {
  await using folder = await temporaryFolder();
  const faults: unknown[] = [];
  using database = await Database.open({
    path: join(folder.path, 'catalog.sqlite'),
    onFault: (fault) => faults.push(fault),
  });
  database.write(() => void database.repositoryId('docker.io/library/a'));
  database.write(() => database.run('INSERT INTO no_such_table VALUES (1)'));
  database.write(() => void database.repositoryId('docker.io/library/b'));
  expect(names(database)).toEqual(['docker.io/library/a', 'docker.io/library/b']);
  expect(faults).toHaveLength(1);
});
