import { mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { Archive } from '../../src/archive/archive.ts';
import { ArchiveFile } from '../../src/archive/archive-file.ts';
import { readContent } from '../../src/archive/archived-content.ts';
import { openDirectory } from '../../src/archive/directory-archive.ts';
import { spool } from '../../src/archive/spooled-file.ts';
import { openSpooled } from '../../src/archive/tar-archive.ts';
import { localImage, tarArchive } from '../support/images.ts';
import { fileOf, layoutOf, named, writeFolder } from '../support/layouts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const { signal } = new AbortController();

describe('a file of an archive', () => {
  const bytes = Buffer.from(Array.from({ length: 1000 }, (_, at) => at % 251));

  async function opened(pieces: readonly Buffer[]) {
    await using owned = new AsyncDisposableStack();
    const folder = owned.use(await temporaryDirectory('file'));
    const paths = pieces.map((_, at) => join(folder.path, `a.${at}`));
    for (const [at, path] of paths.entries()) await writeFile(path, pieces[at]!);
    const file = owned.use(await ArchiveFile.open(paths));
    const rest = owned.move();
    return { file, paths, [Symbol.asyncDispose]: () => rest.disposeAsync() };
  }

  test.each([
    [[bytes]],
    [[bytes.subarray(0, 10), bytes.subarray(10, 10), bytes.subarray(10, 700), bytes.subarray(700)]],
  ])('is read as one, whatever its parts (%#)', async (pieces) => {
    await using open = await opened(pieces);
    const { file } = open;
    expect([file.size, file.isSeekable]).toEqual([1000, true]);
    const cursor = file.cursor();
    expect(await cursor.read(5)).toEqual(bytes.subarray(0, 5));
    expect(await cursor.read(10)).toEqual(bytes.subarray(5, 15));
    expect(cursor.position).toBe(15);
    await cursor.skipTo(690, 'x');
    expect(await cursor.read(20)).toEqual(bytes.subarray(690, 710));
    expect(await cursor.read(1000)).toEqual(bytes.subarray(710));
    expect((await cursor.read(1)).length).toBe(0);
    expect(cursor.position).toBe(1000);
    await cursor.skipTo(1000, 'x');
    await expect(cursor.skipTo(1001, 'd/x')).rejects.toThrow('it is cut short within x');
    expect(await file.cursor(699).read(2)).toEqual(bytes.subarray(699, 701));
  });

  test('that becomes shorter says so, with its name', async () => {
    await using open = await opened([bytes.subarray(0, 500), bytes.subarray(500)]);
    await truncate(open.paths[1]!, 499);
    expect(await open.file.cursor(990).read(9)).toHaveLength(9);
    await expect(open.file.cursor(990).read(10)).rejects.toThrow(`${open.paths[1]} has become shorter`);
  });

  test('that is compressed is read from its beginning, and skipped by reading', async () => {
    const packed = gzipSync(bytes);
    await using open = await opened([packed.subarray(0, 15), Buffer.alloc(0), packed.subarray(15)]);
    const { file } = open;
    expect([file.size, file.isSeekable]).toEqual([packed.length, false]);
    expect(() => file.cursor(1)).toThrow('a compressed archive is read from its beginning');
    await using cursor = file.cursor();
    expect(await cursor.read(5)).toEqual(bytes.subarray(0, 5));
    await cursor.skipTo(690, 'x');
    await cursor.skipTo(600, 'x');
    expect(cursor.position).toBe(690);
    expect(await cursor.read(1000)).toEqual(bytes.subarray(690));
    expect([cursor.position, (await cursor.read(1)).length]).toEqual([1000, 0]);
    await cursor.skipTo(1000, 'x');
    await expect(cursor.skipTo(1001, 'd/x')).rejects.toThrow('it is cut short within x');
  });

  test('that is compressed and damaged says so', async () => {
    const packed = gzipSync(bytes);
    await using open = await opened([packed.subarray(0, -20)]);
    await using cursor = open.file.cursor();
    await expect(cursor.read(2000)).rejects.toThrow('what is compressed in it is damaged or cut short');
  });

  test('that is none, or not there, is refused', async () => {
    await using folder = await temporaryDirectory('file');
    const path = join(folder.path, 'none');
    await expect(ArchiveFile.open([path])).rejects.toThrow(`there is no ${path}`);
    await expect(ArchiveFile.open([folder.path])).rejects.toThrow(`${folder.path} is not a file`);
    await symlink(path, path);
    await expect(ArchiveFile.open([path])).rejects.toThrow(`${path} cannot be opened: ELOOP`);
  });
});

describe('what comes on standard input', () => {
  const tar = tarArchive({ a: 'content' });
  async function* chunks() {
    yield tar.subarray(0, 100);
    yield tar.subarray(100);
  }

  test('is kept in a file without a name, which is gone when the archive is closed', async () => {
    await using folder = await temporaryDirectory('spool');
    const path = join(folder.path, 'x', 'y');
    const spooled = await spool(chunks(), { folder: path, signal });
    expect(spooled.size).toBe(tar.length);
    expect(await readdir(path)).toEqual([]);
    const archive = await openSpooled(spooled);
    expect([...archive.files]).toEqual([['a', 7]]);
    await archive[Symbol.asyncDispose]();
    await expect(spooled.handle.stat()).rejects.toThrow();
  });

  test('that cannot be written, or is not wanted any more, leaves nothing', async () => {
    await using folder = await temporaryDirectory('spool');
    const path = join(folder.path, 'x');
    const reason = new Error('interrupted');
    await expect(spool(chunks(), { folder: path, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await readdir(path)).toEqual([]);
    await writeFile(join(path, `import-${process.pid}.partial`), 'of another one');
    await expect(spool(chunks(), { folder: path, signal })).rejects.toThrow(
      `what comes on standard input cannot be written to ${path}: EEXIST`,
    );
    expect(await readFile(join(path, `import-${process.pid}.partial`), 'utf8')).toBe('of another one');
  });

  test('may be of an archive that is none', async () => {
    await using folder = await temporaryDirectory('spool');
    async function* none() {
      yield Buffer.alloc(0);
    }
    await expect(openSpooled(await spool(none(), { folder: folder.path, signal }))).rejects.toThrow(
      'it is not a tar archive',
    );
  });
});

describe('a folder', () => {
  const image = localImage({ label: 'x' });
  const layout = layoutOf([{ manifest: image, annotations: named('docker.io/x:1') }]);
  async function opened(files: Record<string, Buffer>, prepare: (path: string) => Promise<void> = async () => {}) {
    await using owned = new AsyncDisposableStack();
    const folder = owned.use(await temporaryDirectory('folder'));
    await writeFolder(folder.path, files);
    await prepare(folder.path);
    const archive = owned.use(await openDirectory(folder.path));
    const rest = owned.move();
    return { archive, path: folder.path, [Symbol.asyncDispose]: () => rest.disposeAsync() };
  }
  const names = ({ files }: Archive): string[] => [...files.keys()].toSorted();
  const content = async (archive: Archive, ...wanted: string[]) => {
    const found: [string, string][] = [];
    for await (const { name, body } of archive.visit(new Set(wanted))) {
      found.push([name, Buffer.concat(await Array.fromAsync(body)).toString('latin1')]);
    }
    return found;
  };

  test('of an image layout has its lists and blobs', async () => {
    const more = { 'sub/other': Buffer.from('x'), 'sub/blobs/sha256/a': Buffer.from('x') };
    await using open = await opened({ ...layout, ...more });
    expect(names(open.archive)).toEqual(Object.keys(layout).toSorted());
    expect(open.archive.resolve('index.json')).toBe('index.json');
    expect(open.archive.resolve('none')).toBeUndefined();
    expect(open.archive.isNear('index.json')).toBe(true);
    expect((await readContent(open.archive)).manifests).toHaveLength(1);
    expect(await content(open.archive, 'oci-layout', 'none')).toEqual([['oci-layout', String(layout['oci-layout'])]]);
  });

  test('of one image has its files, and of others theirs, as deep as 16 folders', async () => {
    const file = Buffer.from('x');
    await using one = await opened({ 'manifest.json': file, abc: file, 'sub/manifest.json': file });
    expect(names(one.archive)).toEqual(['abc', 'manifest.json', 'sub/manifest.json']);
    const deep = (depth: number) => `${Array.from({ length: depth }, (_, at) => `d${at}`).join('/')}/manifest.json`;
    await using many = await opened({ top: file, 'x/manifest.json': file, [deep(16)]: file, [deep(17)]: file });
    expect(names(many.archive)).toEqual([deep(16), 'x/manifest.json']);
  });

  test('has links to blobs, and no others', async () => {
    const [, layer] = image.blobs;
    await using open = await opened(layout, async (path) => {
      await writeFile(join(path, '..', 'outside'), layer!.bytes).catch(() => undefined);
      await mkdir(join(path, 'elsewhere'));
      await writeFile(join(path, 'elsewhere', 'layer'), layer!.bytes);
      await rm(join(path, fileOf(layer!)));
      await symlink(join(path, 'elsewhere', 'layer'), join(path, fileOf(layer!)));
      await symlink('index.json', join(path, 'link'));
      await symlink('nowhere', join(path, 'blobs/sha256/gone'));
      await symlink('..', join(path, 'blobs/sha256/folder'));
    });
    const { archive } = open;
    expect(await content(archive, fileOf(layer!))).toEqual([[fileOf(layer!), layer!.bytes.toString('latin1')]]);
    expect(new Map(archive.unreadable)).toEqual(
      new Map([
        ['link', 'is a link'],
        ['blobs/sha256/gone', 'is a link that leads nowhere'],
        ['blobs/sha256/folder', 'is not a file'],
      ]),
    );
    await rm(join(open.path, 'index.json'));
    await symlink('oci-layout', join(open.path, 'index.json'));
    await expect(content(archive, 'index.json')).rejects.toThrow('"index.json" in it cannot be read: ELOOP');
  });

  test('whose files become shorter says so, and large ones come in chunks', async () => {
    const large = Buffer.alloc(150_000, 'ab');
    await using open = await opened({ 'manifest.json': Buffer.from('x'), large });
    expect(await content(open.archive, 'large')).toEqual([['large', large.toString('latin1')]]);
    await truncate(join(open.path, 'large'), 149_999);
    await expect(content(open.archive, 'large')).rejects.toThrow('"large" in it has become shorter');
    await expect(openDirectory(join(open.path, 'none'))).rejects.toThrow('none cannot be read: ENOENT');
  });
});
