import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { FileHasher } from '../../src/store/files/file-hasher.ts';
import { temporaryFolder } from '../support/site.ts';

const MiB = 1024 * 1024;
const { signal } = new AbortController();

test('a file is hashed, and its bytes are counted as they are read, 8 MiB at a time', async () => {
  await using folder = await temporaryFolder();
  await using hasher = new FileHasher();
  const path = join(folder.path, 'file');
  const content = Buffer.alloc(9 * MiB, 'x');
  await writeFile(path, content);
  const counts: number[] = [];
  const options = { algorithm: 'sha256', signal, onRead: (bytes: number) => void counts.push(bytes) } as const;
  expect(await hasher.hash(path, options)).toMatchObject({ digest: digestOf(content), size: content.length });
  expect(counts).toEqual([8 * MiB, MiB]);
  // Another one after it begins at nothing.
  await writeFile(path, 'abc');
  expect(await hasher.hash(path, options)).toMatchObject({ digest: digestOf(Buffer.from('abc')), size: 3 });
  expect(counts.slice(2)).toEqual([3]);
  expect(await hasher.hash(join(folder.path, 'none'), options)).toBeUndefined();
  await expect(hasher.hash(folder.path, options)).rejects.toMatchObject({ name: 'DiskFault', code: 'EISDIR' });
});

test('a file that is read slowly reports what it has read, and is given up when that is wanted', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'file');
  await writeFile(path, Buffer.alloc(3 * MiB));
  const hasher = new FileHasher({ bytesPerSecond: () => 1024 });
  const left = new AbortController();
  const counts: number[] = [];
  const onRead = (bytes: number): void => {
    counts.push(bytes);
    left.abort(new Error('left'));
  };
  await expect(hasher.hash(path, { algorithm: 'sha256', signal: left.signal, onRead })).rejects.toThrow('left');
  expect(counts).toEqual([MiB]);
  // The end of the hasher ends what it reads.
  let closing: Promise<void> | undefined;
  const close = (): void => {
    closing = hasher[Symbol.asyncDispose]();
  };
  const hashed = hasher.hash(path, { algorithm: 'sha256', signal, onRead: close });
  await expect(hashed).rejects.toThrow('the hasher has been closed');
  await closing;
  await expect(hasher.hash(path, { algorithm: 'sha256', signal })).rejects.toThrow('the hasher has been closed');
});
