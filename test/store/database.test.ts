import { statSync } from 'node:fs';
import { chown, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CatalogTaken, Database } from '../../src/store/catalog/database.ts';
import { temporaryFolder } from '../support/site.ts';

function names(database: Database): unknown[] {
  return database.all('SELECT name FROM repositories ORDER BY name').map((row) => row['name']);
}

/** A database in a folder, and what has failed in it. */
async function openIn(folder: string): Promise<{ readonly database: Database; readonly faults: readonly unknown[] }> {
  const faults: unknown[] = [];
  const path = join(folder, 'catalog.sqlite');
  return { database: await Database.open({ path, onFault: (fault) => faults.push(fault) }), faults };
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

test('a write that fails fails no other of the same turn, and is reported once', async () => {
  await using folder = await temporaryFolder();
  const { database, faults } = await openIn(folder.path);
  using _ = database;
  database.write(() => void database.repositoryId('docker.io/library/a'));
  database.write(() => database.run('INSERT INTO no_such_table VALUES (1)'));
  database.write(() => void database.repositoryId('docker.io/library/b'));
  expect(names(database)).toEqual(['docker.io/library/a', 'docker.io/library/b']);
  expect(faults).toHaveLength(1);
});

test('what is written within a moment is one transaction, which reads neither wait for nor end', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'catalog.sqlite');
  using database = await Database.open({ path, onFault: () => undefined });
  let commits = 0;
  database.beforeCommit = () => (commits += 1);
  for (const name of ['a', 'b', 'c']) {
    database.write(() => void database.repositoryId(`docker.io/library/${name}`));
    expect(names(database)).toContain(`docker.io/library/${name}`);
  }
  expect(commits).toBe(0);
  await expect.poll(() => commits).toBe(1);
  // In one turn: the transaction ends by itself in a later one.
  const log = statSync(`${path}-wal`);
  database.write(() => void database.repositoryId('docker.io/library/d'));
  expect(names(database)).toHaveLength(4);
  expect(statSync(`${path}-wal`).size).toBe(log.size);
  database.flush();
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(log.size);
});

test('a write that fails in a later turn takes none of the same transaction with it', async () => {
  await using folder = await temporaryFolder();
  const { database, faults } = await openIn(folder.path);
  using _ = database;
  database.write(() => void database.repositoryId('docker.io/library/a'));
  expect(names(database)).toEqual(['docker.io/library/a']);
  database.write(() => database.run('INSERT INTO no_such_table VALUES (1)'));
  database.write(() => void database.repositoryId('docker.io/library/b'));
  expect(names(database)).toEqual(['docker.io/library/a', 'docker.io/library/b']);
  expect(faults).toHaveLength(1);
});

test('a long log is moved into the file by another thread, again and again, and nothing is lost', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'catalog.sqlite');
  const faults: unknown[] = [];
  const onFault = (fault: unknown) => faults.push(fault);
  const name = (number: number) => `docker.io/${'x'.repeat(2000)}/${number}`;
  let count = 0;
  {
    using database = await Database.open({ path, onFault });
    let longest = 0;
    const size = async (suffix: string) => (await stat(path + suffix)).size;
    for (const round of [1, 2]) {
      const before = await size('');
      for (let burst = 0; burst < 300; burst += 1) {
        for (let each = 0; each < 10; each += 1) {
          const own = name((count += 1));
          database.write(() => void database.repositoryId(own));
        }
        database.flush();
        await new Promise(setImmediate);
      }
      longest = Math.max(longest, await size('-wal'));
      // The log begins again with what is written after all of it has been moved.
      await expect
        .poll(async () => {
          const own = name((count += 1));
          database.write(() => void database.repositoryId(own));
          database.flush();
          return await size('-wal');
        })
        .toBeLessThan(1024 * 1024);
      expect(await size(''), `round ${round}`).toBeGreaterThan(before + 4 * 1024 * 1024);
    }
    expect(longest).toBeGreaterThan(4 * 1024 * 1024);
    expect(names(database)).toHaveLength(count);
  }
  using again = await Database.open({ path, onFault });
  expect(names(again)).toHaveLength(count);
  expect(faults).toEqual([]);
});

/** Deletes the file, and what SQLite keeps beside it. */
async function remove(path: string): Promise<void> {
  for (const suffix of ['', '-wal']) await rm(path + suffix, { force: true });
}

test('a file that is deleted while it is in use keeps its lock, and is created again each time', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'catalog.sqlite');
  const faults: string[] = [];
  const options = { path, onFault: (fault: unknown) => faults.push((fault as Error).message) };
  {
    using database = await Database.open(options);
    let replaced = 0;
    database.onReplaced = () => void (replaced += 1);
    database.look();
    expect([replaced, faults]).toEqual([0, []]);
    for (const time of [1, 2]) {
      database.writeNow(() => void database.repositoryId(`docker.io/library/${time}`));
      await remove(path);
      await expect(Database.open(options)).rejects.toThrow(CatalogTaken);
      database.look();
      database.look();
      expect(replaced).toBe(time);
      expect(faults).toHaveLength(time);
      expect(faults.at(-1)).toContain(`${path} has been removed or replaced`);
      expect(names(database)).toEqual([]);
    }
    database.writeNow(() => void database.repositoryId('docker.io/library/kept'));
  }
  using again = await Database.open(options);
  expect(names(again)).toEqual(['docker.io/library/kept']);
});

test('what another process has begun in a directory that was emptied is left to it', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'catalog.sqlite');
  const faults: string[] = [];
  const options = { path, onFault: (fault: unknown) => faults.push((fault as Error).message) };
  using first = await Database.open(options);
  first.writeNow(() => void first.repositoryId('docker.io/library/first'));
  await remove(path);
  await rm(join(folder.path, 'owner.lock'));
  {
    using second = await Database.open(options);
    second.writeNow(() => void second.repositoryId('docker.io/library/second'));
    first.look();
    expect(faults).toHaveLength(2);
    expect(faults[1]).toContain('locked');
    expect(names(second)).toEqual(['docker.io/library/second']);
    expect(names(first)).toEqual(['docker.io/library/first']);
  }
  expect((await readFile(path)).includes('docker.io/library/second')).toBe(true);
  // It has left: the first has the directory again.
  first.look();
  await expect(Database.open(options)).rejects.toThrow(CatalogTaken);
});

test.skipIf(process.getuid?.() !== 0)(
  'the lock that a command of root makes is of the user who has the directory',
  async () => {
    await using folder = await temporaryFolder();
    await chown(folder.path, 12_345, 12_346);
    using _ = await Database.open({ path: join(folder.path, 'catalog.sqlite'), onFault: () => undefined });
    expect(await stat(join(folder.path, 'owner.lock'))).toMatchObject({ uid: 12_345, gid: 12_346 });
  },
);
