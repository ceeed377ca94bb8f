import { renameSync } from 'node:fs';
import { mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import { FileHasher } from '../../src/store/files/file-hasher.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { type Verdict, Verification } from '../../src/store/files/verification.ts';
import { run } from '../support/processes.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const KiB = 1024;
const { signal } = new AbortController();

/** A cache directory with nothing in it, and what verifies it. */
async function openCache(options: { bytesPerSecond?: () => number | undefined } = {}) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryDirectory('verification'));
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const catalog = owned.use(
    await Catalog.open({
      path: layout.catalog,
      now: Date.now,
      onFault: (error) => {
        throw error;
      },
    }),
  );
  const store = new DiskStore({ layout, memoryBytes: 0 });
  const hasher = owned.use(new FileHasher(options));
  // What was made a moment ago is settled for this clock.
  const verification = new Verification({ layout, catalog, hasher, now: () => Date.now() + 10_000 });
  const rest = owned.move();
  return {
    layout,
    catalog,
    verification,
    hasher,
    async put(content: Buffer): Promise<Digest> {
      const digest = digestOf(content);
      await store.put(digest, content);
      catalog.blobs.record(digest, { size: content.length, contentType: 'application/octet-stream' });
      return digest;
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

/** Does something the first time only. */
function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) work();
    isDone = true;
  };
}

async function all(verdicts: AsyncIterable<Verdict>): Promise<Verdict[]> {
  const found: Verdict[] = [];
  for await (const verdict of verdicts) found.push(verdict);
  return found;
}

describe('verification', () => {
  test('tells what is right from each way to be wrong, and goes through all of it in order', async () => {
    await using cache = await openCache();
    const { layout, catalog, verification } = cache;
    const contents = Array.from({ length: 450 }, (_, index) => Buffer.from(`blob ${index}`));
    const digests = await Promise.all(contents.map((content) => cache.put(content)));
    const [altered, short, gone, misrecorded, shortened] = digests as [Digest, Digest, Digest, Digest, Digest];
    await writeFile(layout.blob(altered), 'blob #');
    await truncate(layout.blob(short), 3);
    await rm(layout.blob(gone));
    catalog.blobs.record(misrecorded, { size: 1, contentType: 'application/octet-stream' });
    await truncate(layout.blob(shortened), 0);
    let read = 0;
    const verdicts = await all(verification.recorded({ signal, onRead: (bytes) => void (read += bytes) }));
    expect(verdicts.map((verdict) => 'digest' in verdict && verdict.digest)).toEqual(digests.toSorted());
    expect(verdicts.filter(({ kind }) => kind === 'ok')).toHaveLength(445);
    const wrong = new Map(verdicts.flatMap((verdict) => ('digest' in verdict ? [[verdict.digest, verdict]] : [])));
    expect(wrong.get(altered)).toEqual({
      kind: 'altered',
      digest: altered,
      size: 6,
      actual: digestOf(Buffer.from('blob #')),
    });
    expect(wrong.get(short)).toEqual({ kind: 'truncated', digest: short, size: 3, recordedSize: 6 });
    expect(wrong.get(shortened)).toEqual({ kind: 'truncated', digest: shortened, size: 0, recordedSize: 6 });
    expect(wrong.get(gone)).toEqual({ kind: 'missing', digest: gone, recordedSize: 6 });
    expect(wrong.get(misrecorded)).toEqual({
      kind: 'misrecorded',
      digest: misrecorded,
      size: 6,
      recordedSize: 1,
      modifiedAtMs: expect.any(Number),
    });
    const size = contents.reduce((sum, { length }) => sum + length, 0);
    expect(read).toBe(size - 6 - 3 - 6);
    const rest = await all(verification.recorded({ signal, after: digests.toSorted()[400]! }));
    expect(rest.map((verdict) => 'digest' in verdict && verdict.digest)).toEqual(digests.toSorted().slice(401));
  });

  test('finds files that the catalog does not know, and those that are no blobs', async () => {
    await using cache = await openCache();
    const { layout, verification } = cache;
    const known = await cache.put(Buffer.from('known'));
    const unknown = digestOf(Buffer.from('unknown'));
    const wrong = digestOf(Buffer.from('wrong'));
    const sha512 = digestOf(Buffer.from('other'), 'sha512');
    await writeFile(layout.blob(unknown), 'unknown');
    await writeFile(layout.blob(wrong), 'not that');
    await writeFile(layout.blob(sha512), 'other');
    await writeFile(join(layout.blobs, 'sha256', 'note.txt'), 'hello');
    const found = await all(verification.unrecorded({ signal }));
    expect(found).toHaveLength(4);
    expect(found).toContainEqual({ kind: 'unrecorded', digest: unknown, size: 7, modifiedAtMs: expect.any(Number) });
    expect(found).toContainEqual({
      kind: 'altered',
      digest: wrong,
      size: 8,
      actual: digestOf(Buffer.from('not that')),
    });
    expect(found).toContainEqual({ kind: 'unrecorded', digest: sha512, size: 5, modifiedAtMs: expect.any(Number) });
    expect(found).toContainEqual({ kind: 'stray', path: join(layout.blobs, 'sha256', 'note.txt') });
    expect(await all(verification.recorded({ signal }))).toMatchObject([{ kind: 'ok', digest: known, size: 5 }]);
  });

  test('does not take for damage what is removed, recorded or replaced while it looks', async () => {
    await using cache = await openCache();
    const { layout, catalog, verification } = cache;
    const content = Buffer.alloc(300 * KiB, 'x');
    const removed = await cache.put(Buffer.from('removed'));
    const replaced = await cache.put(content);
    const late = digestOf(Buffer.from('late'));
    await writeFile(layout.blob(late), 'late');
    await writeFile(`${layout.dir}/right`, content);
    await writeFile(layout.blob(replaced), 'wrong');
    // The thread has read the wrong file; the right one is there before its word on that is heard.
    const onRead = () => renameSync(`${layout.dir}/right`, layout.blob(replaced));
    expect(await verification.check(replaced, content.length, { signal, onRead: once(onRead) })).toEqual({
      kind: 'ok',
      digest: replaced,
      size: content.length,
      modifiedAtMs: expect.any(Number),
    });
    await rm(layout.blob(removed));
    catalog.blobs.forget(removed);
    expect(await verification.check(removed, 7, { signal })).toBeUndefined();
    const looking = all(
      verification.unrecorded({
        signal,
        onRead: () => catalog.blobs.record(late, { size: 4, contentType: 'application/octet-stream' }),
      }),
    );
    expect(await looking).toEqual([]);
  });

  test('keeps to its rate, and stops at once in the middle of a file', async () => {
    let bytesPerSecond: number | undefined = 1;
    await using cache = await openCache({ bytesPerSecond: () => bytesPerSecond });
    const digest = await cache.put(Buffer.alloc(64 * KiB, 'y'));
    // At a KiB a second it would take a minute.
    const stop = new AbortController();
    const onRead = () => stop.abort(new Error('enough'));
    await expect(cache.verification.check(digest, 64 * KiB, { signal: stop.signal, onRead })).rejects.toThrow('enough');
    bytesPerSecond = undefined;
    expect(await cache.verification.check(digest, 64 * KiB, { signal })).toMatchObject({ kind: 'ok' });
    bytesPerSecond = 1;
    const isReading = Promise.withResolvers<void>();
    const closed = expect(
      cache.verification.check(digest, 64 * KiB, { signal, onRead: () => isReading.resolve() }),
    ).rejects.toThrow('has been closed');
    await isReading.promise;
    await cache.hasher[Symbol.asyncDispose]();
    await closed;
    await expect(cache.verification.check(digest, 64 * KiB, { signal })).rejects.toThrow('has been closed');
  });

  test.each(['a pipe', 'a device'])(
    'takes %s in place of a blob for an altered one, and reads nothing',
    async (what) => {
      await using cache = await openCache();
      const digest = await cache.put(Buffer.from('a blob'));
      const path = cache.layout.blob(digest);
      await rm(path);
      if (what === 'a pipe') await run('mkfifo', [path]);
      else await symlink('/dev/zero', path);
      const found = { digest, size: 0 };
      expect(await cache.verification.check(digest, 6, { signal })).toEqual({
        kind: 'truncated',
        ...found,
        recordedSize: 6,
      });
      expect(await cache.verification.check(digest, undefined, { signal })).toEqual({ kind: 'altered', ...found });
    },
  );

  test('tells of a file that cannot be read', async () => {
    await using cache = await openCache();
    const digest = digestOf(Buffer.from('folder'));
    await rm(cache.layout.blob(digest), { force: true });
    await mkdir(cache.layout.blob(digest));
    expect(await cache.verification.check(digest, 6, { signal })).toEqual({
      kind: 'unreadable',
      digest,
      code: 'EISDIR',
    });
  });
});
