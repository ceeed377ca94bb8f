import { setImmediate } from 'node:timers/promises';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import type { BlobReply } from '../../src/mirror/blobs.ts';
import { emptyBlobDigest } from '../../src/oci/empty-blob.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { blobFact, rightFact } from '../../src/oci/facts.ts';
import { DiskFault, type StoredBlob } from '../../src/store/files/blob-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import {
  absent,
  blobOf,
  contentOf,
  denied,
  down,
  type MirrorScript,
  scriptedMirror,
  scriptedUpstream,
  waiting,
} from './scripted-mirror.ts';

const [large, small] = [blobOf('large'), blobOf('small', 1000)];
const fault = new DiskFault('read a blob', Object.assign(new Error('bad'), { code: 'EIO' }));
const own = 'docker.io/library/app';

/** A mirror and an upstream that has a large blob and a small one. */
async function start(script: MirrorScript = {}) {
  const upstream = scriptedUpstream();
  upstream.state.blobs.push(large, small);
  const on = await scriptedMirror(script);
  const repository = upstream.repository();
  const get = async ({ digest } = large, of = repository, more: object = {}) =>
    await on.blobs.get(of, digest, { ...waiting, ...more });
  /** As `get`, with all its bytes; resolves when no fill is under way. */
  const pull = async (...of: Parameters<typeof get>) => {
    const { body, ...head } = await get(...of);
    const content = await contentOf(body);
    await expect.poll(() => on.mirror.fills.count).toBe(0);
    return { ...head, content };
  };
  const head = async ({ digest } = large, of = repository) => await on.blobs.head(of, digest, waiting);
  return { ...on, upstream, repository, get, pull, head, other: upstream.repository('library/other') };
}

/** Counts the files that are open. */
class Counting extends MemoryStore {
  open_ = 0;

  override async open(digest: Parameters<MemoryStore['open']>[0]): Promise<StoredBlob | undefined> {
    const blob = await super.open(digest);
    if (blob === undefined) return undefined;
    this.open_ += 1;
    return {
      ...blob,
      path: `/${digest}`,
      [Symbol.asyncDispose]: async () => void (await Promise.resolve((this.open_ -= 1))),
    };
  }
}

describe('a blob', () => {
  test('that is not here comes from the upstream, and is here afterwards', async () => {
    await using on = await start();
    const { digest, bytes } = large;
    const first = await on.pull();
    expect(first).toMatchObject({ digest, size: bytes.length, contentType: 'a/b', outcome: 'miss' });
    expect(first.content.equals(bytes)).toBe(true);
    expect(on.upstream.asked).toEqual(['GET 0-']);
    expect([on.changed.includes(blobFact(digest)), on.mirror.isStored(digest)]).toEqual([true, true]);
    const again = await on.pull();
    expect([again.outcome, again.contentType, again.content.equals(bytes)]).toEqual(['hit', 'a/b', true]);
    expect(on.upstream.asked).toHaveLength(1);
  });

  test('that is small is at hand in memory', async () => {
    await using on = await start();
    expect((await on.pull(small)).outcome).toBe('miss');
    const { body, ...head } = await on.get(small);
    expect(head).toEqual({ digest: small.digest, size: 1000, contentType: 'a/b', outcome: 'hit' });
    expect([body.bytes?.equals(small.bytes), body.peek(0)]).toEqual([true, undefined]);
    const buffer = Buffer.alloc(10);
    expect(await body.read(buffer, 995, undefined)).toBe(5);
    expect(buffer.subarray(0, 5).equals(small.bytes.subarray(995))).toBe(true);
    await body[Symbol.asyncDispose]();
  });

  test('that comes right now is shared by clients that want it', async () => {
    await using on = await start();
    const gate = Promise.withResolvers<void>();
    on.upstream.state.gate = gate.promise;
    const first = await on.get();
    const second = await on.get();
    expect([first.outcome, second.outcome, (await on.head()).outcome]).toEqual(['miss', 'collapsed', 'collapsed']);
    expect(on.mirror.fills.progress()[0]?.readers).toBe(2);
    gate.resolve();
    for (const { body } of [first, second]) expect((await contentOf(body)).equals(large.bytes)).toBe(true);
    expect(on.upstream.asked).toEqual(['GET 0-']);
  });

  test('is confirmed for a repository through which it was not pulled', async () => {
    await using on = await start({ store: new Counting() });
    await on.pull();
    const { key } = on.other;
    on.upstream.state.head = denied;
    await expect(on.get(large, on.other)).rejects.toBe(denied);
    expect([(on.store as Counting).open_, on.catalog.grants.mayRead(key, large.digest)]).toEqual([0, false]);
    on.upstream.state.head = undefined;
    expect((await on.pull(large, on.other)).outcome).toBe('hit');
    expect((await on.pull(large, on.other)).outcome).toBe('hit');
    expect(on.upstream.asked).toEqual(['GET 0-', 'HEAD', 'HEAD']);
    expect((on.store as Counting).open_).toBe(0);
  });

  test('of another upstream is compared, or fetched where it gives no parts', async () => {
    for (const ignoresRange of [false, true]) {
      await using on = await start({ store: new Counting() });
      const elsewhere = scriptedUpstream('quay.io');
      elsewhere.state.blobs.push(large);
      await on.pull(large, elsewhere.repository());
      Object.assign(on.upstream.state, { ignoresRange });
      expect((await on.pull()).outcome).toBe(ignoresRange ? 'miss' : 'hit');
      expect(on.catalog.blobs.isShown(large.digest, 'docker.io')).toBe(true);
      expect(on.upstream.asked.at(-1)).toMatch(ignoresRange ? /^GET 0-$/ : /^GET \d+-\d+$/);
      expect((on.store as Counting).open_).toBe(0);
    }
  });

  test('that joins a fill of another repository is given to those that the upstream lets have it', async () => {
    await using on = await start();
    const gate = Promise.withResolvers<void>();
    on.upstream.state.gate = gate.promise;
    const first = await on.get();
    on.upstream.state.head = denied;
    await expect(on.get(large, on.other)).rejects.toBe(denied);
    expect(on.mirror.fills.progress()[0]?.readers).toBe(1);
    on.upstream.state.head = undefined;
    const second = await on.get(large, on.other);
    expect([second.outcome, on.catalog.grants.mayRead(on.other.key, large.digest)]).toEqual(['collapsed', true]);
    gate.resolve();
    for (const { body } of [first, second]) expect((await contentOf(body)).equals(large.bytes)).toBe(true);
    expect(on.upstream.asked).toEqual(['GET 0-', 'HEAD', 'HEAD']);
  });

  test('that the upstream does not have is not found, and says so to what needs it', async () => {
    await using on = await start();
    const missing = blobOf('missing');
    await expect(on.get(missing)).rejects.toBe(absent);
    await expect.poll(() => on.mirror.fills.count).toBe(0);
    on.upstream.state.get = down;
    await expect(on.get(missing)).rejects.toBe(down);
  });

  test('has the size that the manifest of its repository says', async () => {
    await using on = await start();
    on.records.manifest('image', { layers: [large.digest], size: 100 });
    await expect(on.get()).rejects.toMatchObject({ reason: 'wrong-size' });
  });

  test('is asked for in parts where its client wants a part', async () => {
    const huge = blobOf('huge', 9 * 1024 * 1024);
    await using on = await start();
    on.upstream.state.blobs.push(huge);
    const reply = await on.get(huge, on.repository, { isRanged: true });
    expect(on.upstream.asked).toEqual([`GET 0-${8 * 1024 * 1024}`]);
    await reply.body[Symbol.asyncDispose]();
  });

  test('is asked for in the same way as other replicas first, where there are some', async () => {
    class Others extends SoloCoordinator {
      override readonly isAlone: true = false as unknown as true;
    }
    await using on = await start({ coordinator: new Others() });
    on.upstream.state.head = denied;
    await expect(on.get()).rejects.toBe(denied);
    on.upstream.state.head = undefined;
    await on.pull();
    expect(on.upstream.asked).toEqual(['HEAD', 'HEAD', 'GET 0-']);
    // The right is known.
    await on.store.remove(large.digest);
    await on.pull();
    expect(on.upstream.asked).toEqual(['HEAD', 'HEAD', 'GET 0-', 'GET 0-']);
  });
});

describe('the empty blob', () => {
  const empty = { digest: emptyBlobDigest, bytes: Buffer.from('{}') };

  test('is given although the upstream cannot answer, or may not be asked', async () => {
    for (const offline of [false, true]) {
      await using on = await start({ offline });
      on.upstream.state.get = down;
      const { body, ...head } = await on.get(empty);
      expect(head).toEqual({
        digest: emptyBlobDigest,
        size: 2,
        contentType: 'application/octet-stream',
        outcome: 'hit',
      });
      expect(body.bytes?.toString()).toBe('{}');
      await expect(on.get(large)).rejects.toMatchObject({ reason: offline ? 'offline' : 'unreachable' });
    }
  });

  test('is not where the upstream says that it has none', async () => {
    await using on = await start();
    await expect(on.get(empty)).rejects.toBe(absent);
  });
});

describe('a disk', () => {
  const broken = (fails: Error) => {
    const store = new MemoryStore();
    store.open = () => Promise.reject(fails);
    return store;
  };

  test('that cannot read a blob leads to the upstream', async () => {
    await using on = await start({ store: broken(fault) });
    on.catalog.blobs.record(large.digest, { size: 100_000, contentType: 'a/b', shownBy: 'docker.io' });
    expect((await on.pull()).outcome).toBe('miss');
    expect(on.reported).toContainEqual({ kind: 'disk-fault', error: fault });
    const bug = new TypeError('bug');
    await using other = await start({ store: broken(bug) });
    other.catalog.blobs.record(large.digest, { size: 100_000, contentType: 'a/b', shownBy: 'docker.io' });
    await expect(other.get()).rejects.toBe(bug);
    expect(other.upstream.asked).toEqual([]);
  });

  test('that fails while a blob is read leads there, too, but not offline', async () => {
    const again = (on: Awaited<ReturnType<typeof start>>, error: unknown): Promise<BlobReply> =>
      on.blobs.getUnreadable(on.repository, large.digest, { ...waiting, error });
    await using on = await start();
    const reply = await again(on, fault);
    expect([reply.outcome, (await contentOf(reply.body)).equals(large.bytes)]).toEqual(['miss', true]);
    expect(on.reported).toContainEqual({ kind: 'disk-fault', error: fault });
    await expect(again(on, down)).rejects.toBe(down);
    await using offline = await start({ offline: true });
    await expect(again(offline, fault)).rejects.toBe(fault);
    expect(offline.reported).toEqual([{ kind: 'disk-fault', error: fault }]);
  });

  test('is not looked at for what is not known and not there', async () => {
    const bug = new TypeError('bug');
    await using on = await start({ store: broken(bug) });
    expect((await on.pull()).outcome).toBe('miss');
  });
});

describe('a file in doubt', () => {
  /** Of which the catalog knows a time. */
  async function doubtful(
    { modifiedAtMs, size = 100_000 }: { modifiedAtMs?: number; size?: number },
    isRight: boolean,
  ) {
    const checked: unknown[] = [];
    const store = new Counting();
    const on = await start({
      store,
      check: async (digest, recordedSize) => {
        checked.push(recordedSize);
        const file = await store.stat(digest);
        const verdict = { digest, size: file!.size, modifiedAtMs: file!.modifiedAtMs };
        return isRight ? { kind: 'ok', ...verdict } : { kind: 'altered', digest, size: file!.size };
      },
    });
    await store.put(large.digest, large.bytes);
    const record = {
      size,
      contentType: 'a/b',
      shownBy: 'docker.io',
      ...(modifiedAtMs !== undefined && { modifiedAtMs }),
    };
    on.catalog.blobs.record(large.digest, record);
    on.catalog.grants.grant(own, large.digest);
    return { ...on, checked, open: () => store.open_ };
  }

  test('is read again before it is given, once', async () => {
    for (const known of [{}, { modifiedAtMs: 1 }]) {
      await using on = await doubtful(known, true);
      expect((await on.pull()).outcome).toBe('hit');
      expect((await on.pull()).outcome).toBe('hit');
      expect([on.checked, on.upstream.asked, on.open()]).toEqual([[100_000], [], 0]);
    }
  });

  test('that is wrong is set aside, and fetched', async () => {
    await using on = await doubtful({}, false);
    expect((await on.pull()).outcome).toBe('miss');
    expect(on.reported).toContainEqual({ kind: 'altered', digest: large.digest });
    expect([on.checked, on.upstream.asked, on.open()]).toEqual([[100_000], ['GET 0-'], 0]);
    await using shorter = await doubtful({ modifiedAtMs: 1, size: 99_999 }, true);
    expect((await shorter.pull()).outcome).toBe('miss');
    expect(shorter.checked).toEqual([]);
  });
});

describe('the head of a blob', () => {
  test('that is not here is that of the upstream, and nothing is fetched', async () => {
    await using on = await start();
    expect(await on.head()).toEqual({ digest: large.digest, size: 100_000, contentType: 'a/b', outcome: 'bypass' });
    expect([on.upstream.asked, on.mirror.fills.count]).toEqual([['HEAD'], 0]);
  });

  test('that is here is that of the file', async () => {
    const store = new Counting();
    await using on = await start({ store });
    await on.pull();
    const { modifiedAtMs } = (await store.stat(large.digest))!;
    const file = { path: `/${large.digest}`, size: 100_000, modifiedAtMs };
    const head = { digest: large.digest, size: 100_000, contentType: 'a/b', outcome: 'hit', file };
    expect(await on.head()).toMatchObject(head);
    expect(on.upstream.asked).toEqual(['GET 0-']);
    // Through another repository once the upstream has confirmed it.
    expect(await on.head(large, on.other)).toMatchObject(head);
    expect(on.upstream.asked).toEqual(['GET 0-', 'HEAD']);
    // What another upstream has given is not told about.
    const elsewhere = scriptedUpstream('quay.io');
    elsewhere.state.blobs.push(large);
    expect(await on.head(large, elsewhere.repository())).toMatchObject({ outcome: 'bypass' });
    expect([elsewhere.asked, store.open_]).toEqual([['HEAD'], 0]);
  });
});

describe('an answer stands', () => {
  test('as long as the blob is here and its repository may read it', async () => {
    await using on = await start({ store: new Counting() });
    await on.pull();
    await on.pull(small);
    const facts = ({ digest } = large) => [blobFact(digest), rightFact(own, digest)];
    const head = await on.head();
    const standing = (of: object = {}, repository = on.repository) => on.blobs.standing(repository, { ...head, ...of });
    expect(standing()).toEqual({ digest: large.digest, facts: facts(), file: head.file });
    const { file: _, ...inMemory } = await on.head(small);
    expect(on.blobs.standing(on.repository, inMemory)).toEqual({
      digest: small.digest,
      facts: facts(small),
      file: undefined,
    });
    expect(standing({ outcome: 'collapsed' })).toBeUndefined();
    expect(standing({}, on.other)).toBeUndefined();
    expect(standing({ digest: blobOf('unknown').digest })).toBeUndefined();
    const { file } = head;
    expect(standing({ file: { ...file, size: 1 } })).toBeUndefined();
    expect(standing({ file: { ...file, modifiedAtMs: 1 } })).toBeUndefined();
    expect(standing({ file: undefined })).toBeUndefined();
    // It is fetched again.
    const gate = Promise.withResolvers<void>();
    on.upstream.state.gate = gate.promise;
    const reply = await on.blobs.getUnreadable(on.repository, large.digest, { ...waiting, error: fault });
    expect(standing()).toBeUndefined();
    // Nor is a file given while its blob comes: the fill is joined.
    expect((await on.get()).outcome).toBe('collapsed');
    gate.resolve();
    await contentOf(reply.body);
  });
});

describe('a client that waits for the place of a blob', () => {
  /** One large blob has the only place, and stops in the middle. */
  async function occupied() {
    const on = await start({ limits: { maxFills: 1 } });
    const gate = Promise.withResolvers<void>();
    on.upstream.state.gate = gate.promise;
    const first = await on.get();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    return { ...on, gate, first };
  }

  async function until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await setImmediate();
  }

  test('gets it anyway after half its time', async () => {
    await using on = await occupied();
    const second = on.get(small);
    await until(() => on.mirror.fills.count === 2);
    await vi.advanceTimersByTimeAsync(29_999);
    expect(on.upstream.asked).toEqual(['GET 0-']);
    await vi.advanceTimersByTimeAsync(1);
    const replies = [on.first, await second];
    expect(replies.map(({ outcome }) => outcome)).toEqual(['miss', 'miss']);
    on.gate.resolve();
    for (const { body } of replies) await contentOf(body);
  });

  test('is told to come back where too many have', async () => {
    await using on = await occupied();
    const { fills } = on.mirror;
    const others = Array.from({ length: 64 }, (_, index) => blobOf(`${index}`, 1000));
    on.upstream.state.blobs.push(...others);
    const joined = others.map(({ digest }) =>
      fills.join(digest, { repository: on.repository, expectedSize: undefined, isRanged: false }),
    );
    await until(() => joined.every(({ fill }) => fills.isQueued(fill)));
    for (const { fill } of joined) fills.startAnyway(fill);
    const late = on.get(small);
    const refused = expect(late).rejects.toMatchObject({
      reason: 'no-place',
      status: 503,
      headers: { 'Retry-After': '5' },
    });
    await until(() => fills.count === 66);
    await vi.advanceTimersByTimeAsync(60_000);
    await refused;
    on.gate.resolve();
    for (const { reader } of joined) await reader[Symbol.asyncDispose]();
    await on.first.body[Symbol.asyncDispose]();
  });

  test('leaves the queue when it disconnects', async () => {
    await using on = await occupied();
    const leaving = new AbortController();
    const left = on.get(small, on.repository, { signal: leaving.signal });
    const refused = expect(left).rejects.toBeInstanceOf(RegistryError);
    await until(() => on.mirror.fills.count === 2);
    leaving.abort(new RegistryError('client-idle', 'it has left'));
    await refused;
    expect(on.mirror.fills.count).toBe(1);
    on.gate.resolve();
    await on.first.body[Symbol.asyncDispose]();
  });
});
