import { describe } from 'vitest';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { testBlobStore } from './conformance.ts';

async function onDisk(memoryBytes: number) {
  const folder = await temporaryDirectory('store');
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  return { store: new DiskStore({ layout, memoryBytes }), [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

describe('the disk', () => {
  testBlobStore(() => onDisk(1024 * 1024));
});

describe('the disk without memory for small blobs', () => {
  testBlobStore(() => onDisk(0));
});

describe('memory, as tests have it', () => {
  testBlobStore(async () => ({ store: new MemoryStore(), [Symbol.asyncDispose]: async () => undefined }));
});
