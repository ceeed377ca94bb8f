import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ArchiveError } from '../../src/archive/archive-error.ts';
import { readContent } from '../../src/archive/archived-content.ts';
import { readChecksumList } from '../../src/archive/checksum-list.ts';
import { openTar } from '../../src/archive/tar-archive.ts';
import { decodeAttributes, decodeHeader, encodeHeader } from '../../src/archive/tar-header.ts';
import { plainName } from '../../src/archive/tar-reader.ts';
import { digestOf, isDigest } from '../../src/oci/digest.ts';
import { damaged, fuzz, textOf } from '../support/fuzz.ts';
import { localImage, tarArchive } from '../support/images.ts';
import { layoutOf, named } from '../support/layouts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

/** What a reader gives; `undefined` where it refuses the archive in one line. Anything else it throws fails. */
function readOrRefused<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error;
    expect(error.message).not.toContain('\n');
    return undefined;
  }
}

describe('a tar archive', () => {
  test('has headers with a size that can be counted, or is refused', async () => {
    await fuzz(
      [damaged(encodeHeader('blobs/sha256/x', 1234).subarray(0, 512)), fc.boolean()],
      (bytes, repaired) => {
        const block = Buffer.alloc(512);
        bytes.copy(block);
        if (repaired) withChecksum(block);
        const header = readOrRefused(() => decodeHeader(block));
        if (header) expect(Number.isSafeInteger(header.size) && header.size >= 0).toBe(true);
      },
      { runs: 2000 },
    );
  });

  test('has attributes that lie within their header, or is refused', async () => {
    const content = textOf('12 path=ab\n', '9 size=1\n', ' ', '=', '\n', '0', '99 ', 'x', '\0', '-1');
    await fuzz(
      [content],
      (text) => {
        const attributes = readOrRefused(() => decodeAttributes(Buffer.from(text)));
        for (const [key, value] of attributes ?? []) expect(key.length + value.length).toBeLessThan(text.length);
      },
      { runs: 2000 },
    );
  });

  test('has names that lead nowhere else, or is refused', async () => {
    await fuzz(
      [textOf('..', '.', '/', 'blobs', 'sha256', '\0', '\\')],
      (text) => {
        const name = readOrRefused(() => plainName(text));
        if (name === undefined) return;
        expect(`/${name}/`).not.toMatch(/\/\.{0,2}\/.|\0/);
        expect(name.startsWith('/')).toBe(false);
      },
      { runs: 2000 },
    );
  });

  test('gives images whose manifests are right, or is refused', async () => {
    await using folder = await temporaryDirectory('fuzz');
    const path = join(folder.path, 'a.tar');
    const right = tarArchive(
      layoutOf([{ manifest: localImage({ label: 'fuzz' }), annotations: named('docker.io/library/x:1') }]),
    );
    await fuzz(
      [damaged(right)],
      async (bytes) => {
        await writeFile(path, bytes);
        try {
          await using archive = await openTar([path]);
          const { images, manifests, blobs } = await readContent(archive);
          for (const image of images) expect(isDigest(image.digest)).toBe(true);
          for (const { digest, size } of [...manifests, ...blobs])
            expect([isDigest(digest), size >= 0]).toEqual([true, true]);
        } catch (error) {
          if (!(error instanceof ArchiveError)) throw error;
        }
      },
      { runs: 150 },
    );
  });
});

test('a list of checksums names digests and files, or is none', async () => {
  await using folder = await temporaryDirectory('fuzz');
  const path = join(folder.path, 'a.tar.sha256');
  const digest = digestOf(Buffer.from('x'));
  const list = textOf('# archive ', '# holds ', '# since ', digest, digest.slice(7), '  ', 'a.tar', '\n', '\r');
  await fuzz(
    [
      fc.oneof(
        list,
        list.map((text) => `# archive ${digest}\n${text}`),
      ),
    ],
    async (text) => {
      await writeFile(path, text);
      const found = await readChecksumList(path).catch((error: unknown) => {
        expect(error).toBeInstanceOf(ArchiveError);
        return undefined;
      });
      for (const one of found ? [found.id, ...found.complete] : []) expect(isDigest(one)).toBe(true);
      for (const { sha256 } of found?.files ?? []) expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    },
    { runs: 300 },
  );
});

function withChecksum(block: Buffer): void {
  block.write('        ', 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
}
