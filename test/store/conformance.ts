import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { Fills } from '../../src/mirror/fill/fills.ts';
import { DirectRoute } from '../../src/mirror/fill/sources.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { BlobStore, PartialBlob, StoredBlob } from '../../src/store/files/blob-store.ts';
import type { Repository } from '../../src/upstream/repository.ts';

const small = Buffer.from('a small blob');
const large = randomBytes(300_000);
const other = randomBytes(200_000);

/** All of a blob, through its reads. */
async function contentOf(blob: StoredBlob | undefined): Promise<Buffer | undefined> {
  if (blob === undefined) return undefined;
  const content = Buffer.alloc(blob.size);
  for (let position = 0; position < blob.size; ) {
    const count = await blob.read(content.subarray(position), position);
    expect(count).toBeGreaterThan(0);
    position += count;
  }
  return content;
}

async function partOf(partial: PartialBlob, start: number, end: number): Promise<Buffer> {
  const content = Buffer.alloc(end - start);
  let count = 0;
  while (count < content.length) {
    count += await partial.read(content.subarray(count), start + count, content.length - count);
  }
  return content;
}

/** What every store of blobs does, wherever it keeps them. */
export function testBlobStore(open: () => Promise<{ readonly store: BlobStore } & AsyncDisposable>): void {
  test('has nothing of a blob that never came, and removing it is no error', async () => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(small);
    expect([await store.open(digest), await store.read(digest), await store.stat(digest)]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(store.small(digest)).toBeUndefined();
    await store.remove(digest);
  });

  test.each([
    ['small', small],
    ['large', large],
  ])('gives a %s blob as it was put, and a second time too', async (_, content) => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(content);
    for (let turn = 0; turn < 2; turn += 1) {
      await store.put(digest, content);
      await using blob = await store.open(digest);
      expect(blob?.size).toBe(content.length);
      expect((await contentOf(blob))?.equals(content)).toBe(true);
      expect((await store.read(digest))?.equals(content)).toBe(true);
      expect((await store.stat(digest))?.size).toBe(content.length);
    }
  });

  test('reads from any position, and says when a file was last written to', async () => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(large);
    {
      await using partial = await store.ingest(digest);
      await partial.append([large]);
      await partial.commit();
    }
    await using blob = await store.open(digest);
    const buffer = Buffer.alloc(1000);
    const count = await blob!.read(buffer, 299_500);
    expect(buffer.subarray(0, count).equals(large.subarray(299_500, 299_500 + count))).toBe(true);
    expect(blob?.modifiedAtMs).toBe((await store.stat(digest))?.modifiedAtMs);
  });

  test('shows a blob that comes part by part only once it is committed', async () => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(large);
    await using partial = await store.ingest(digest);
    expect(partial.written).toBe(0);
    await partial.append([large.subarray(0, 1000), large.subarray(1000, 100_000)]);
    expect([partial.written, partial.availableFrom(0), partial.nextAvailable(0)]).toEqual([
      100_000,
      100_000,
      undefined,
    ]);
    expect(partial.digest()).toBe(digestOf(large.subarray(0, 100_000)));
    expect(await store.open(digest)).toBeUndefined();
    await partial.append([large.subarray(100_000)]);
    expect(partial.digest()).toBe(digest);
    expect(partial.hashSoFar().digest('hex')).toBe(digest.slice(7));
    expect(await partial.commit()).toBe((await store.stat(digest))?.modifiedAtMs);
    // Those that follow it read on.
    expect((await partOf(partial, 250_000, 300_000)).equals(large.subarray(250_000))).toBe(true);
    await using blob = await store.open(digest);
    expect((await contentOf(blob))?.equals(large)).toBe(true);
  });

  test('takes bytes ahead of the prefix, and joins them when the gap is filled; none twice', async () => {
    await using here = await open();
    const { store } = here;
    await using partial = await store.ingest(digestOf(large));
    await partial.append([large.subarray(0, 50_000)]);
    await partial.write(200_000, [large.subarray(200_000)]);
    expect([partial.written, partial.availableFrom(200_000), partial.nextAvailable(60_000)]).toEqual([
      50_000, 300_000, 200_000,
    ]);
    expect((await partOf(partial, 210_000, 220_000)).equals(large.subarray(210_000, 220_000))).toBe(true);
    await expect(partial.write(190_000, [large.subarray(190_000, 210_000)])).rejects.toThrow('written twice');
    await expect(partial.write(40_000, [large.subarray(40_000, 60_000)])).rejects.toThrow('written twice');
    await partial.write(50_000, [large.subarray(50_000, 200_000)]);
    expect([partial.written, partial.digest()]).toEqual([300_000, digestOf(large)]);
    await partial.commit();
    expect((await store.read(digestOf(large)))?.equals(large)).toBe(true);
  });

  test('continues what was left behind, begins again where told to, and keeps nothing that was discarded', async () => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(large);
    {
      await using partial = await store.ingest(digest);
      await partial.append([large.subarray(0, 120_000)]);
    }
    {
      await using partial = await store.ingest(digest);
      expect([partial.written, partial.digest()]).toEqual([120_000, digestOf(large.subarray(0, 120_000))]);
      await partial.restart();
      expect([partial.written, partial.digest()]).toEqual([0, digestOf(Buffer.alloc(0))]);
      await partial.append([large.subarray(0, 10)]);
      await partial.discard();
    }
    await using partial = await store.ingest(digest);
    expect(partial.written).toBe(0);
  });

  test('keeps two files of one digest apart where told to', async () => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(large);
    await using partial = await store.ingest(digest);
    await partial.append([large.subarray(0, 100)]);
    {
      await using apart = await store.ingest(digest, { isApart: true });
      expect(apart.written).toBe(0);
      await apart.append([large]);
      await apart.commit();
    }
    expect(partial.written).toBe(100);
    expect((await store.read(digest))?.equals(large)).toBe(true);
  });

  test.each([
    ['removed', (store: BlobStore, digest: ReturnType<typeof digestOf>) => store.remove(digest)],
    ['set aside', (store: BlobStore, digest: ReturnType<typeof digestOf>) => store.setAside(digest)],
  ])('has nothing of a blob that was %s; who has it open reads on', async (_, take) => {
    await using here = await open();
    const { store } = here;
    for (const content of [small, other]) {
      const digest = digestOf(content);
      await store.put(digest, content);
      await using blob = await store.open(digest);
      await take(store, digest);
      expect(await store.open(digest)).toBeUndefined();
      expect([store.small(digest), await store.stat(digest)]).toEqual([undefined, undefined]);
      expect((await contentOf(blob))?.equals(content)).toBe(true);
    }
  });

  test('is filled by a download, whatever order its parts come in', async () => {
    await using here = await open();
    const { store } = here;
    const digest = digestOf(large);
    const stored: number[] = [];
    await using fills = new Fills({
      store,
      report: () => undefined,
      limits: { maxFills: 1, maxBlobBytes: 1_000_000 },
      route: (_, sources) => new DirectRoute(sources),
      onStored: (_, { size }) => void stored.push(size),
      isLeftoverOf: () => true,
    });
    const repository = { key: 'docker.io/library/app', name: 'library/app', upstream: { name: 'docker.io' } };
    const signal = AbortSignal.timeout(60_000);
    const source = {
      id: 'one',
      upstream: 'docker.io',
      repository: repository.key,
      connections: 1,
      open: async (_: unknown, { offset }: { readonly offset: number }) => ({
        size: large.length,
        start: offset,
        end: large.length,
        contentType: 'a/b',
        body: Readable.from([large.subarray(offset, 150_000), large.subarray(Math.max(offset, 150_000))]),
      }),
    };
    const joiner = { repository: repository as Repository, sources: [source], expectedSize: large.length };
    await fills.bring(digest, joiner, { signal });
    expect(stored).toEqual([large.length]);
    expect((await store.read(digest))?.equals(large)).toBe(true);
  });
}
