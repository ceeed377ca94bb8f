import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SmallFiles } from '../../src/store/files/small-files.ts';
import { temporaryFolder } from '../support/site.ts';

/** Folders as a cache directory has them. */
async function foldersIn(path: string) {
  const folders = { ingest: join(path, 'ingest'), blobs: join(path, 'blobs', 'sha256') };
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true });
  const places = (name: string) => ({ temporary: join(folders.ingest, name), path: join(folders.blobs, name) });
  return { ...folders, places };
}

test('many small files are written at once, whole and private, and nothing is left beside them', async () => {
  await using folder = await temporaryFolder();
  const { ingest, blobs, places } = await foldersIn(folder.path);
  const files = new SmallFiles();
  const contents = Array.from({ length: 700 }, (_, index) => Buffer.alloc(index * 7, index % 251));
  const times = await Promise.all(contents.map((bytes, index) => files.write(bytes, places(`f${index}`))));
  await files.sync();
  expect(await readdir(ingest)).toEqual([]);
  expect(await readdir(blobs)).toHaveLength(contents.length);
  for (const [index, bytes] of contents.entries()) {
    const { path } = places(`f${index}`);
    expect((await readFile(path)).equals(bytes)).toBe(true);
    const { mode, mtimeMs } = await stat(path);
    expect(mode & 0o777).toBe(0o600);
    expect(mtimeMs).toBe(times[index]);
  }
});

test('folders that are gone are made again, and a directory that is gone is the system’s error for each file', async () => {
  await using folder = await temporaryFolder();
  const { ingest, blobs, places } = await foldersIn(folder.path);
  const files = new SmallFiles();
  await rm(ingest, { recursive: true });
  await rm(join(blobs, '..'), { recursive: true });
  await files.write(Buffer.from('one'), places('one'));
  expect(await readFile(places('one').path, 'utf8')).toBe('one');
  const gone = await foldersIn(join(folder.path, 'other'));
  await rm(join(folder.path, 'other'), { recursive: true });
  const refused = Promise.all([
    expect(files.write(Buffer.from('two'), gone.places('two'))).rejects.toMatchObject({
      name: 'DiskFault',
      code: 'ENOENT',
    }),
    files.write(Buffer.from('three'), places('three')),
  ]);
  await refused;
  expect(await readFile(places('three').path, 'utf8')).toBe('three');
});

test('what comes while many wait for the disk waits, too', async () => {
  await using folder = await temporaryFolder();
  const { blobs, places } = await foldersIn(folder.path);
  const files = new SmallFiles();
  const written = Array.from({ length: 2000 }, (_, index) => files.write(Buffer.from('x'), places(`f${index}`)));
  let hasRoom = false;
  const room = files.room().then(() => (hasRoom = true));
  await new Promise(setImmediate);
  expect(hasRoom).toBe(false);
  await room;
  await Promise.all(written);
  expect(await readdir(blobs)).toHaveLength(2000);
});
