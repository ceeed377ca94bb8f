import { expect, test } from 'vitest';
import { Slabs } from '../../src/memory/slabs.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { BatchWriter } from '../../src/store/files/batch-writer.ts';
import { DiskFault, type PartialBlob } from '../../src/store/files/blob-store.ts';
import { MemoryStore } from '../support/memory-store.ts';

const MiB = 1024 * 1024;

async function start(partial: PartialBlob) {
  const written: number[] = [];
  const slabs = new Slabs();
  const writer = new BatchWriter(partial, {
    position: 0,
    slabs,
    expectedBytes: () => 8 * MiB,
    onTaken: () => undefined,
    onWritten: () => void written.push(partial.written),
  });
  return { writer, written, slabs };
}

test('chunks are written in batches of a mebibyte, in order, and the rest when it is flushed', async () => {
  const content = Buffer.alloc(2.5 * MiB, 'abc');
  const partial = await new MemoryStore().ingest(digestOf(content));
  const { writer, written, slabs } = await start(partial);
  for (let at = 0; at < content.length; at += 100_000)
    await writer.write(Buffer.from(content.subarray(at, at + 100_000)));
  await writer.flush();
  expect(partial.digest()).toBe(digestOf(content));
  expect(written.at(-1)).toBe(content.length);
  expect(written.length).toBeLessThanOrEqual(4);
  await writer[Symbol.asyncDispose]();
  // All memory is back.
  expect(slabs.idle).toBeGreaterThan(0);
});

test('after a write that fails nothing more is written, and each later write or flush fails', async () => {
  const content = Buffer.alloc(4 * MiB, 'abc');
  const partial = await new MemoryStore().ingest(digestOf(content));
  const fault = new DiskFault('write a blob', Object.assign(new Error('full'), { code: 'ENOSPC' }));
  const attempts: number[] = [];
  const failing = Object.create(partial, {
    write: {
      value: async (position: number) => {
        attempts.push(position);
        throw fault;
      },
    },
  }) as PartialBlob;
  const { writer, written } = await start(failing);
  await expect(
    (async () => {
      for (let at = 0; at < content.length; at += 100_000) await writer.write(Buffer.alloc(100_000));
      await writer.flush();
    })(),
  ).rejects.toBe(fault);
  await writer.write(Buffer.alloc(2 * MiB)).catch(() => undefined);
  await expect(writer.flush()).rejects.toBe(fault);
  await writer[Symbol.asyncDispose]();
  expect(attempts).toEqual([0]);
  expect(written).toEqual([]);
});
