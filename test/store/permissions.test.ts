import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { keepPrivate } from '../../src/store/files/private-folders.ts';
import { mountRequirements, SmallDisk } from '../support/mounts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

async function modesIn(dir: string): Promise<Record<string, string>> {
  const names = await readdir(dir, { recursive: true });
  const modes = ['.', ...names].map(async (name) => {
    const { mode } = await stat(join(dir, name));
    return [name, (mode & 0o777).toString(8)] as const;
  });
  return Object.fromEntries(await Promise.all(modes));
}

test('what is stored can be read by its owner alone, also in a cache that an earlier version has made', async () => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(join(folder.path, 'cache'));
  await mkdir(join(layout.blobs, 'sha256'), { recursive: true });
  await mkdir(layout.quarantine);
  for (const path of [layout.dir, layout.blobs, layout.quarantine]) await chmod(path, 0o755);
  await prepareLayout(layout);
  using catalog = await Catalog.open({ path: layout.catalog, now: Date.now, onFault: () => undefined });
  const bytes = Buffer.from('private');
  const digest = digestOf(bytes);
  const store = new DiskStore({ layout, memoryBytes: 0 });
  await store.put(digest, bytes);
  catalog.blobs.record(digest, { size: bytes.length, contentType: 'text/plain' });
  catalog.blobs.usage();
  const modes = await modesIn(layout.dir);
  expect(modes).toMatchObject({ '.': '700', blobs: '700', ingest: '700', quarantine: '700', 'catalog.sqlite': '600' });
  expect(modes[`blobs/sha256/${digest.slice(7)}`]).toBe('600');
  expect(modes['catalog.sqlite-wal']).toBe('600');
  expect(modes['names-1.journal']).toBe('600');
});

test('permissions that an earlier version has given are corrected, of the catalog and its logs too', async () => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(join(folder.path, 'cache'));
  const folders = [layout.dir, layout.blobs, layout.quarantine];
  const files = [layout.catalog, `${layout.catalog}-wal`, `${layout.catalog}-shm`];
  for (const path of folders) {
    await mkdir(path);
    await chmod(path, 0o750);
  }
  for (const path of files) {
    await writeFile(path, '');
    await chmod(path, 0o664);
  }
  const modesOf = async (paths: string[]): Promise<number[]> =>
    await Promise.all(paths.map(async (path) => (await stat(path)).mode & 0o777));
  // There is no folder for what comes, and that is no fault.
  await keepPrivate(layout);
  expect([await modesOf(folders), await modesOf(files)]).toEqual([
    [0o700, 0o700, 0o700],
    [0o600, 0o600, 0o600],
  ]);
  await chmod(layout.blobs, 0o500);
  await keepPrivate(layout);
  expect(await modesOf([layout.blobs])).toEqual([0o500]);
});

describeWith(mountRequirements(), 'a cache directory', () => {
  test('over several file systems is refused in one sentence', async () => {
    await using folder = await temporaryDirectory();
    using disk = new SmallDisk('8m');
    const layout = layoutOf(join(folder.path, 'cache'));
    await mkdir(layout.dir);
    await mkdir(join(disk.path, 'blobs'));
    await symlink(join(disk.path, 'blobs'), layout.blobs);
    await expect(prepareLayout(layout)).rejects.toThrow(
      `${join(layout.blobs, 'sha256')} and ${layout.ingest} are on different file systems`,
    );
  });

  test('whose folders are mounts of one file system is refused too: files cannot be moved between them', async () => {
    using disk = new SmallDisk('8m');
    const layout = layoutOf(join(disk.path, 'cache'));
    await mkdir(layout.ingest, { recursive: true });
    await mkdir(join(disk.path, 'elsewhere'));
    execFileSync('mount', ['--bind', join(disk.path, 'elsewhere'), layout.ingest]);
    try {
      await expect(prepareLayout(layout)).rejects.toThrow('are on different file systems');
    } finally {
      execFileSync('umount', [layout.ingest]);
    }
  });

  test('that cannot be made because the file system is read-only says so', async () => {
    using disk = new SmallDisk('8m');
    using _ = disk.makeReadOnly();
    const { dir } = layoutOf(join(disk.path, 'some', 'cache'));
    await expect(prepareLayout(layoutOf(dir))).rejects.toThrow(
      `cannot make the folder ${dir}: its file system is read-only (EROFS)`,
    );
  });
});
