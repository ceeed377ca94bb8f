import { open, writeFile } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const content = Buffer.from('a small blob');
const digest = digestOf(content);

async function openStore() {
  const folder = await temporaryDirectory('store');
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const store = new DiskStore({ layout, memoryBytes: 1024 * 1024 });
  return { layout, store, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

test.each<[string, (store: DiskStore) => Promise<unknown>]>([
  ['removed', (store) => store.remove(digest)],
  ['evicted', (store) => store.evict(digest, () => undefined)],
  ['set aside', (store) => store.setAside(digest)],
])('a small blob that was %s is not read from memory either', async (_, remove) => {
  await using here = await openStore();
  const { store } = here;
  await store.put(digest, content);
  expect(store.small(digest)?.equals(content)).toBe(true);
  await remove(store);
  expect(store.small(digest)).toBeUndefined();
  expect(await store.open(digest)).toBeUndefined();
  expect(await store.read(digest)).toBeUndefined();
});

test('a small blob whose read fails leaves no open file', async () => {
  await using here = await openStore();
  const { store, layout } = here;
  await writeFile(layout.blob(digest), content);
  await using some = await open(layout.blob(digest));
  const handles = Object.getPrototypeOf(some) as typeof some;
  const ioError = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
  using readFile = vi.spyOn(handles, 'readFile').mockRejectedValue(ioError);
  await expect(store.open(digest)).rejects.toThrow(DiskFault);
  const [handle] = readFile.mock.contexts as [typeof some];
  // A handle that has been closed has no descriptor.
  expect(handle.fd).toBe(-1);
  expect(store.isInUse(digest)).toBe(false);
});
