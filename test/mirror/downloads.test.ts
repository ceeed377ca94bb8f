import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { Downloads } from '../../src/mirror/fill/downloads.ts';
import { DirectRoute, type Source } from '../../src/mirror/fill/sources.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { Repository } from '../../src/upstream/repository.ts';
import { MemoryStore } from '../support/memory-store.ts';

const content = Buffer.alloc(100_000, 'content');
const digest = digestOf(content);
const repository = { key: 'docker.io/library/app', name: 'library/app', upstream: { name: 'docker.io' } } as Repository;

/** A source that says another size than the blob has, and never ends; or one that is right. */
function sourceOf(id: string, size: number, body: () => Readable): Source {
  return {
    id,
    upstream: 'docker.io',
    repository: repository.key,
    connections: 1,
    open: async (_, { offset, signal }) => {
      const bytes = body();
      signal?.addEventListener('abort', () => bytes.destroy());
      return { size, start: offset, end: size, contentType: 'a/b', body: bytes as never };
    },
  };
}

test('a joiner whose manifest gives another size does not share the fill of a source that says otherwise', async () => {
  const signal = AbortSignal.timeout(60_000);
  await using downloads = new Downloads({
    store: new MemoryStore(),
    report: () => undefined,
    limits: { maxFills: 4, maxBlobBytes: 10_000_000 },
    route: (_, sources) => new DirectRoute(sources),
    onStored: () => undefined,
    isLeftoverOf: () => true,
  });
  const lying = sourceOf('lying', 2 * content.length, () => {
    const silent = new Readable({ read() {} });
    silent.push(content.subarray(0, 1000));
    return silent;
  });
  const first = downloads.join(digest, { repository, sources: [lying], expectedSize: undefined, isRanged: false });
  await first.reader.heading(signal);
  const right = sourceOf('right', content.length, () => Readable.from([content]));
  const same = downloads.join(digest, { repository, sources: [], expectedSize: 2 * content.length, isRanged: false });
  expect(same.begun).toBe(false);
  const other = downloads.join(digest, { repository, sources: [right], expectedSize: content.length, isRanged: false });
  expect(other.begun).toBe(true);
  expect((await other.reader.heading(signal)).size).toBe(content.length);
  for (const { reader } of [first, same, other]) await reader[Symbol.asyncDispose]();
});
