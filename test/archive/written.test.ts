import { mkdir, open, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ArchiveOutput } from '../../src/archive/archive-output.ts';
import { type ExportedImage, planArchive, writeArchive } from '../../src/archive/archive-writer.ts';
import { readContent } from '../../src/archive/archived-content.ts';
import { readBase } from '../../src/archive/base.ts';
import { formatChecksumList, readChecksumList } from '../../src/archive/checksum-list.ts';
import { isFileOf, listBeside, openArchive, partPaths, partsOf } from '../../src/archive/parts.ts';
import { StreamOutput } from '../../src/archive/stream-output.ts';
import { openTar } from '../../src/archive/tar-archive.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { localArtifact, localBlob, localImage, tarArchive } from '../support/images.ts';
import { fileOf, layoutOf, writeFolder } from '../support/layouts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const { signal } = new AbortController();
const sha256 = (bytes: Buffer): string => digestOf(bytes).slice(7);

describe('the parts of an archive', () => {
  const tar = tarArchive({ a: 'content' });
  const pieces = [tar.subarray(0, 600), tar.subarray(600, 1100), tar.subarray(1100)];
  async function parts(...files: string[]) {
    const folder = await temporaryDirectory('parts');
    for (const name of files) {
      const [, number] = /\.(\d{3})$/.exec(name) ?? [];
      await writeFile(join(folder.path, name), number === undefined ? tar : pieces[Number(number) - 1]!);
    }
    return {
      at: (...names: string[]) => names.map((name) => join(folder.path, name)),
      ...folder,
      [Symbol.asyncDispose]: folder[Symbol.asyncDispose],
    };
  }
  const read = async (paths: string[]): Promise<string[]> => {
    await using archive = await openArchive(paths);
    return [...archive.files.keys()];
  };

  test('are found by the name of one, or of the whole, and may be named in any order', async () => {
    await using folder = await parts('a.tar.002', 'a.tar.001', 'a.tar.003', 'other.002');
    for (const names of [['a.tar'], ['a.tar.001'], ['a.tar.003'], ['a.tar.003', 'a.tar.001', 'a.tar.002']]) {
      expect(await read(folder.at(...names))).toEqual(['a']);
    }
    const [first] = folder.at('a.tar.001');
    await expect(read([...folder.at('a.tar.001', 'a.tar.003')])).rejects.toThrow('part 002 is missing');
    await expect(read([...folder.at('a.tar.002', 'a.tar.003')])).rejects.toThrow('part 001 is missing');
    await expect(read([first!, first!])).rejects.toThrow();
    await expect(read(folder.at('a.tar.001', 'a.tar'))).rejects.toThrow(
      'is not a part: parts end in .001, .002 and so on',
    );
    await expect(read(folder.at('a.tar.001', 'other.002'))).rejects.toThrow('are not parts of one archive');
    await expect(read(folder.at('a.tar.001', 'a.tar.0001'))).rejects.toThrow('are the same part');
    await expect(read([])).rejects.toThrow('no archive is named');
    expect((await partsOf(folder.at('a.tar')[0]!)).toSorted()).toEqual(
      folder.at('a.tar.001', 'a.tar.002', 'a.tar.003'),
    );
    expect(await partsOf(join(folder.path, 'none', 'x'))).toEqual([]);
  });

  test('are none where a whole archive has the name', async () => {
    await using folder = await parts('a.tar', 'a.tar.002');
    expect(await read(folder.at('a.tar'))).toEqual(['a']);
    await writeFile(folder.at('image.2024')[0]!, tar);
    expect(await read(folder.at('image.2024'))).toEqual(['a']);
    await expect(read(folder.at('none'))).rejects.toThrow(`there is no ${folder.at('none')[0]}`);
    await expect(read(folder.at('none.001'))).rejects.toThrow('there is no');
    await writeFolder(folder.path, layoutOf([]));
    expect(await read([folder.path])).toContain('index.json');
  });

  test('are named so that their names sort in their order', () => {
    expect(partPaths('/d/a', 2)).toEqual(['/d/a.001', '/d/a.002']);
    expect(partPaths('a', 999).at(-1)).toBe('a.999');
    expect([partPaths('a', 1000)[0], partPaths('a', 9999).at(-1)]).toEqual(['a.0001', 'a.9999']);
    expect(() => partPaths('a', 10_000)).toThrow(
      'a would come in 10000 parts, and 9999 are the most: choose larger ones',
    );
    const files = ['a', 'a.001', 'a.0001', 'a.01', 'a.00001', 'b.001', 'a.001.x'];
    expect(files.map((name) => isFileOf('a', name))).toEqual([true, true, true, false, false, false, false]);
  });

  test('have one list, beside the whole or a part', async () => {
    await using folder = await temporaryDirectory('list');
    const id = digestOf(Buffer.from('x'));
    const list = formatChecksumList({ id, since: undefined, complete: [], files: [] });
    const path = join(folder.path, 'a.tar');
    expect(await listBeside(path)).toBeUndefined();
    expect(await listBeside(`${path}.001`)).toBeUndefined();
    await writeFile(`${path}.sha256`, list);
    expect((await listBeside(path))?.id).toBe(id);
    expect((await listBeside(`${path}.001`))?.id).toBe(id);
    await writeFile(`${path}.001.sha256`, list.replace(id, digestOf(Buffer.from('y'))));
    expect((await listBeside(`${path}.001`))?.id).not.toBe(id);
  });
});

describe('an archive that is written', () => {
  const image = localImage({ label: 'written' });
  const long = localBlob('a layer', 'application/x', 'sha512');
  const attached = localArtifact({ layers: [long], subject: image });
  const exported = (manifest: typeof attached, more: Partial<ExportedImage>): ExportedImage => ({
    name: 'docker.io/library/x:1',
    isAttachment: false,
    digest: manifest.digest,
    mediaType: manifest.mediaType,
    size: manifest.size,
    lacks: [],
    absent: [],
    container: undefined,
    manifests: [manifest],
    blobs: manifest.blobs,
    ...more,
  });
  const container = { config: image.config.digest, layers: [image.blobs[1]!.digest] };
  const images = [
    exported(image, { container, name: 'docker.io/library/z:1' }),
    exported(attached, { name: 'docker.io/library/a:1', isAttachment: true }),
  ];
  const contents = new Map(
    [image, attached, ...image.blobs, ...attached.blobs].map(({ digest, bytes }) => [digest, bytes]),
  );
  const options = (onWritten: (bytes: number) => void = () => undefined) => ({
    read: async function* ({ digest }: { digest: typeof image.digest }) {
      const bytes = contents.get(digest)!;
      yield bytes.subarray(0, 3);
      yield bytes.subarray(3);
    },
    onWritten,
    signal,
  });

  test('has as many bytes as planned, and all that was planned', async () => {
    await using folder = await temporaryDirectory('written');
    const path = join(folder.path, 'a.tar');
    const plan = planArchive(images, undefined);
    let written = 0;
    await using output = await ArchiveOutput.open(path, { bytes: plan.size, splitBytes: undefined });
    const files = await writeArchive(
      plan,
      output,
      options((bytes) => (written += bytes)),
    );
    const bytes = await readFile(path);
    expect([bytes.length, written]).toEqual([plan.size, plan.size]);
    expect(files).toEqual([{ name: 'a.tar', sha256: sha256(bytes), size: bytes.length }]);
    expect(await readdir(folder.path)).toEqual(['a.tar', 'a.tar.sha256']);
    const list = await readChecksumList(`${path}.sha256`);
    expect(list).toMatchObject({ id: plan.id, since: undefined, files: [{ name: 'a.tar', sha256: sha256(bytes) }] });
    await using archive = await openTar([path]);
    expect([...archive.files.keys()].slice(0, 4)).toEqual([
      'oci-layout',
      'index.json',
      'millpond.json',
      'manifest.json',
    ]);
    const digests = [...contents.keys()].toSorted();
    expect([...archive.files.keys()].slice(4)).toEqual(
      [
        ...[image, attached].map(({ digest }) => digest).toSorted(),
        ...digests.filter((one) => one !== image.digest && one !== attached.digest),
      ].map((digest) => fileOf({ digest })),
    );
    expect(plan.files.filter(({ name }) => name.endsWith('/')).map(({ name }) => name)).toEqual([
      'blobs/',
      'blobs/sha256/',
      'blobs/sha512/',
    ]);
    expect(planArchive([images[0]!], undefined).files.map(({ name }) => name)).not.toContain('blobs/sha512/');
    const content = await readContent(archive);
    expect([content.id, content.wrong.size, content.manifests.length]).toEqual([plan.id, 0, 2]);
    expect(content.images.map(({ name, isAttachment }) => [name, isAttachment])).toEqual([
      [{ kind: 'full', name: 'docker.io/library/a:1' }, true],
      [{ kind: 'full', name: 'docker.io/library/z:1' }, false],
    ]);
    expect([plan.blobs, plan.leftOut, plan.base]).toEqual([contents.size, 0, undefined]);
    expect(plan.complete.toSorted()).toEqual(digests);
    for (const base of [path, `${path}.sha256`]) {
      const { id, complete } = await readBase(base);
      expect([id, complete.toSorted()]).toEqual([plan.id, digests]);
    }
  });

  test('in parts has them full, but for the last, and the list of all', async () => {
    await using folder = await temporaryDirectory('written');
    const path = join(folder.path, 'a.tar');
    const plan = planArchive(images, undefined);
    await using output = await ArchiveOutput.open(path, { bytes: plan.size, splitBytes: 1000 });
    const files = await writeArchive(plan, output, options());
    expect(files.map(({ size }) => size)).toEqual([
      ...Array.from({ length: Math.floor(plan.size / 1000) }, () => 1000),
      plan.size % 1000,
    ]);
    expect(files[0]?.name).toBe('a.tar.001');
    expect((await readdir(folder.path)).toSorted()).toEqual(
      [...files.map(({ name }) => name), 'a.tar.sha256'].toSorted(),
    );
    await using archive = await openArchive([path]);
    expect((await readContent(archive)).id).toBe(plan.id);
    // Another one with fewer parts takes their place.
    await using again = await ArchiveOutput.open(path, { bytes: plan.size, splitBytes: plan.size });
    await writeFile(join(folder.path, 'a.tar.999'), 'not in the list');
    await writeArchive(plan, again, options());
    expect((await readdir(folder.path)).toSorted()).toEqual(['a.tar.001', 'a.tar.999', 'a.tar.sha256']);
  });

  test('has a list that says since when, and leaves the rest out', async () => {
    const base = planArchive([images[0]!], undefined);
    const next = planArchive(images, base);
    expect([next.base, next.blobs, next.leftOut]).toEqual([base.id, 1 + attached.blobs.length, 1 + image.blobs.length]);
    const sink = {
      lists: [] as string[],
      write: async () => {},
      finish: async (list: (files: []) => string) => (sink.lists.push(list([])), []),
    };
    await writeArchive(next, sink, options());
    expect(sink.lists[0]).toContain(`# since ${base.id}`);
    expect(next.files.map(({ name }) => name)).not.toContain('manifest.json');
  });

  test('that is interrupted has no name, and leaves nothing', async () => {
    await using folder = await temporaryDirectory('written');
    const path = join(folder.path, 'a.tar');
    const plan = planArchive(images, undefined);
    const reason = new Error('interrupted');
    {
      await using output = await ArchiveOutput.open(path, { bytes: plan.size, splitBytes: 1000 });
      const abort = new AbortController();
      const writing = writeArchive(plan, output, { ...options(() => abort.abort(reason)), signal: abort.signal });
      await expect(writing).rejects.toBe(reason);
      expect(await readdir(folder.path)).toHaveLength(1);
    }
    expect(await readdir(folder.path)).toEqual([]);
  });

  test('removes what processes have left that have ended, and of no other archive', async () => {
    await using folder = await temporaryDirectory('written');
    const gone = 2 ** 22 + 1;
    const left = ['a.tar', 'a.tar.001', 'a.tar.0001', 'a.tar.sha256', 'a.tar.001.sha256'].map(
      (name) => `${name}.${gone}.partial`,
    );
    const own = `a.tar.${process.pid}.partial`;
    const kept = [
      `a.tar.1.partial`,
      `b.tar.${gone}.partial`,
      `a.tar.x.${gone}.partial`,
      `a.tar.01.${gone}.partial`,
      `a.tar.${gone}.partial.x`,
    ];
    for (const name of [...left, own, ...kept]) await writeFile(join(folder.path, name), '');
    await using _ = await ArchiveOutput.open(join(folder.path, 'a.tar'), { bytes: 1, splitBytes: undefined });
    expect((await readdir(folder.path)).toSorted()).toEqual(kept.toSorted());
  });

  test('takes the place of files alone', async () => {
    await using folder = await temporaryDirectory('written');
    const path = join(folder.path, 'a.tar');
    const opened = () => ArchiveOutput.open(path, { bytes: 1, splitBytes: undefined });
    await symlink('x', path);
    await expect(opened()).rejects.toThrow(`${path} is not a file (a link): choose another name for the archive`);
    await rm(path);
    await mkdir(`${path}.sha256`);
    await expect(opened()).rejects.toThrow(`${path}.sha256 is not a file (a folder)`);
    await expect(ArchiveOutput.open('/dev/null', { bytes: 1, splitBytes: undefined })).rejects.toThrow(
      '(a device, pipe or socket)',
    );
    await rm(`${path}.sha256`, { recursive: true });
    await writeFile(path, 'before');
    await using output = await opened();
    await output.write(Buffer.from('x'));
    expect(await readFile(path, 'utf8')).toBe('before');
    await output.finish(() => '');
    expect(await readFile(path, 'utf8')).toBe('x');
    await using none = await ArchiveOutput.open(join(folder.path, 'none', 'a'), { bytes: 1, splitBytes: undefined });
    await expect(none.write(Buffer.from('x'))).rejects.toThrow('none/a cannot be written: ENOENT');
  });

  test('to another program comes to it in its order, and ends with an error where nothing reads', async () => {
    const taken: Buffer[] = [];
    const output = new StreamOutput({ write: (chunk, done) => (taken.push(Buffer.from(chunk)), done()) });
    await output.write(Buffer.from('ab'));
    await output.write(Buffer.alloc(0));
    await output.write(Buffer.from('c'));
    expect(taken.map(String)).toEqual(['ab', 'c']);
    expect(await output.finish()).toEqual([{ name: '-', sha256: sha256(Buffer.from('abc')), size: 3 }]);
    const broken = new StreamOutput({ write: (_, done) => done(Object.assign(new Error('x'), { code: 'EPIPE' })) });
    await expect(broken.write(Buffer.from('x'))).rejects.toThrow('standard output cannot be written: EPIPE');
    const odd = new StreamOutput({ write: (_, done) => done(new Error('x')) });
    await expect(odd.write(Buffer.from('x'))).rejects.toThrow('standard output cannot be written: unknown');
  });

  test('can be a base though Millpond has not made it', async () => {
    await using folder = await temporaryDirectory('written');
    const path = join(folder.path, 'b.tar');
    const files = layoutOf([{ manifest: image }]);
    await writeFile(path, tarArchive(files));
    const { id, complete } = await readBase(path);
    expect(id).toBe(digestOf(files['index.json']!));
    expect(complete.toSorted()).toEqual([image, ...image.blobs].map(({ digest }) => digest).toSorted());
    await writeFile(path, 'none');
    await expect(readBase(path)).rejects.toThrow('b.tar: it is cut short in the middle of a header');
    const handle = await open(path, 'w');
    await handle.close();
    await expect(readBase(path)).rejects.toThrow('b.tar: it is not a tar archive, or it is empty');
  });
});
