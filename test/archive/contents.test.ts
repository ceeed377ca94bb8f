import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readContent } from '../../src/archive/archived-content.ts';
import { openTar } from '../../src/archive/tar-archive.ts';
import { type LocalManifest, localBlob, localImage, localIndex, tarArchive } from '../support/images.ts';
import { fileOf, type LayoutFiles, layoutOf, named } from '../support/layouts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const image = localImage({ label: 'contents' });
const [, layer] = image.blobs;

async function read(files: LayoutFiles) {
  await using folder = await temporaryDirectory('contents');
  const path = join(folder.path, 'a.tar');
  await writeFile(path, tarArchive(files));
  await using archive = await openTar([path]);
  return await readContent(archive);
}

describe('an archive', () => {
  test('whose manifest gives a layer another size says so of that layer, with both sizes', async () => {
    const files = layoutOf([{ manifest: image, annotations: named('docker.io/library/x:1') }]);
    files[fileOf(layer!)] = Buffer.concat([layer!.bytes, Buffer.from('more')]);
    expect((await read(files)).wrong.get(layer!.digest)).toBe(
      `a manifest in it gives ${layer!.digest} ${layer!.size} bytes, and it has ${layer!.size + 4}`,
    );
  });

  test('with eight indexes within each other is read whole, one with nine as far as the eighth', async () => {
    const { mediaType } = localIndex('nested', ['amd64']);
    const nested = (depth: number): LocalManifest => {
      if (depth === 0) return image;
      const child = nested(depth - 1);
      const manifests = [{ mediaType: child.mediaType, digest: child.digest, size: child.size }];
      const body = JSON.stringify({ schemaVersion: 2, mediaType, manifests });
      return { ...localBlob(body, mediaType), blobs: [], manifests: [child] };
    };
    const files = (depth: number) => layoutOf([{ manifest: nested(depth), annotations: named('docker.io/x:1') }]);
    expect((await read(files(8))).manifests).toHaveLength(9);
    const { manifests, wrong } = await read(files(9));
    expect(manifests).toHaveLength(9);
    expect(wrong.get(image.digest)).toBe('its indexes are nested too deeply');
  });
});

test('an archive whose names add up to more than 16 MiB is refused', async () => {
  // Names of 4,000 characters, each in an extra header.
  const padding = 'n'.repeat(3990);
  const entries = (count: number): Buffer[] =>
    Array.from({ length: count }, (_, number) => longName(`${number}/${padding}`)).flat();
  const names = async (count: number): Promise<number> => {
    await using folder = await temporaryDirectory('names');
    const path = join(folder.path, 'a.tar');
    await writeFile(path, Buffer.concat([...entries(count), Buffer.alloc(1024)]));
    await using archive = await openTar([path]);
    return archive.files.size;
  };
  expect(await names(4_100)).toBe(4_100);
  await expect(names(4_300)).rejects.toThrow('the names of its entries are too long');
});

/** An empty file whose name is in a header of GNU's. */
function longName(name: string): Buffer[] {
  const extra = tarArchive({ '././@LongLink': `${name}\0` }).subarray(0, -1024);
  const header = extra.subarray(0, 512);
  header.write('        L', 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return [extra, tarArchive({ short: '' }).subarray(0, -1024)];
}
