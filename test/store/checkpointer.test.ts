import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Database } from '../../src/store/catalog/database.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

test('a catalog closed while its log is moved is the last one to be closed, and leaves no log', async () => {
  await using folder = await temporaryDirectory();
  const path = join(folder.path, 'catalog.sqlite');
  const faults: unknown[] = [];
  for (let round = 0; round < 5; round += 1) {
    {
      using database = await Database.open({ path, onFault: (error) => faults.push(error) });
      const value = 'x'.repeat(100_000);
      for (let number = 0; number < 400; number += 1) {
        database.write(() => database.run('INSERT OR REPLACE INTO notes VALUES (?, ?)', `${round} ${number}`, value));
        database.flush();
        // The thread that moves the log needs turns of this one to begin.
        if (number % 16 === 0) await new Promise(setImmediate);
      }
    }
    await expect(stat(`${path}-wal`)).rejects.toThrow('ENOENT');
  }
  expect(faults).toEqual([]);
});
