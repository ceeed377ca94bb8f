import { describe, expect, test } from 'vitest';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { Completeness } from '../../src/mirror/completeness.ts';
import { KeptManifests } from '../../src/mirror/kept-manifests.ts';
import { LentTags, type LentTagsOptions } from '../../src/mirror/lent-tags.ts';
import { ManifestsByDigest, type ManifestsByDigestOptions } from '../../src/mirror/manifests-by-digest.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { manifestAccept, ociManifest } from '../../src/oci/media-types.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { app, digest, foreign, Records } from '../store/records.ts';
import { MemoryStore } from '../support/memory-store.ts';

const waiting = { signal: new AbortController().signal };
const down = new RegistryError('unreachable', 'down');
const absent = new RegistryError('not-found', 'not here');
const layer = digest('layer');
const bytes = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, layers: [{ mediaType: 'a/b', digest: layer, size: 5 }] }),
);
const image = digestOf(bytes);
const answer = { bytes, contentType: ociManifest, digest: image };

/** Manifests over an upstream that the test writes. */
async function byDigest({ offline = false } = {}) {
  const records = await Records.open();
  const { catalog } = records;
  const asked: string[] = [];
  const state = {
    get: (_accept: readonly string[]): typeof answer => answer,
    head: (): object => ({ digest: image }),
    isAvailable: true,
    right: undefined as object | undefined,
    tag: undefined as object | undefined,
  };
  const upstream = {
    name: 'docker.io',
    answerMs: 60_000,
    freshness: { negativeTtlMs: 0, tagTtlMs: 1000, staleIfErrorMs: 9000 },
    fingerprint: async () => await Promise.resolve('one way'),
    isAvailableFor: () => state.isAvailable,
    client: {
      getManifest: async (_: string, __: Digest, { accept }: { accept: readonly string[] }) => {
        asked.push(accept === manifestAccept ? 'GET' : `GET ${accept.join()}`);
        return await Promise.resolve(state.get(accept));
      },
      headManifest: async () => {
        asked.push('HEAD');
        return await Promise.resolve(state.head());
      },
    },
  };
  const repository: Repository = repositoryOf(upstream as unknown as Upstream, 'library/app');
  const store = new MemoryStore();
  const reported: object[] = [];
  const shared = {
    catalog,
    store,
    offline,
    now: () => records.nowMs,
    report: (event: object) => reported.push(event),
    questions: {
      right: async () => {
        asked.push('replicas');
        return await Promise.resolve(state.right);
      },
      tag: async () => await Promise.resolve(state.tag),
    },
    replicas: { coordinator: new SoloCoordinator(), peers: undefined },
    gone: { note: () => undefined, isDoubtful: () => false },
  };
  const kept = new KeptManifests(shared);
  const completeness = new Completeness({ store, catalog, kept });
  const manifests = new ManifestsByDigest({ ...shared, kept, completeness } as unknown as ManifestsByDigestOptions);
  return {
    records,
    catalog,
    state,
    asked,
    reported,
    repository,
    manifests,
    store,
    lent: new LentTags({ ...shared, manifests } as unknown as LentTagsOptions),
    /** Stores the manifest, as if it had come through a repository. */
    put: async (through: string) => {
      await kept.keep({ ...repository, key: through }, answer, image);
      reported.length = 0;
    },
    get: async (more: object = {}) => await manifests.get(repository, image, { waiting, isConfirmed: false, ...more }),
    [Symbol.dispose]: () => records[Symbol.dispose](),
  };
}

describe('a manifest that is not here', () => {
  test('is fetched once, kept, and at hand afterwards', async () => {
    using on = await byDigest();
    expect(on.manifests.atHand(on.repository, image)).toBeUndefined();
    const both = await Promise.all([on.get(), on.get()]);
    expect(both.map(({ outcome, digest: found }) => [outcome, found])).toEqual([
      ['miss', image],
      ['miss', image],
    ]);
    expect(on.asked).toEqual(['GET']);
    expect(on.manifests.atHand(on.repository, image)).toMatchObject({
      outcome: 'hit',
      bytes,
      contentType: ociManifest,
    });
    expect(await on.get()).toMatchObject({ outcome: 'hit', digest: image });
    expect(on.asked).toEqual(['GET']);
    expect(on.catalog.grants.mayRead(app, layer)).toBe(true);
  });

  test('is asked for with what the client accepts where the upstream has none of our types', async () => {
    using on = await byDigest();
    on.state.get = (accept) => {
      if (accept === manifestAccept) throw absent;
      return answer;
    };
    await expect(on.get()).rejects.toBe(absent);
    expect(await on.get({ accept: ['x/y'] })).toMatchObject({ outcome: 'miss' });
    expect(on.asked).toEqual(['GET', 'GET', 'GET x/y']);
    using failing = await byDigest();
    failing.state.get = () => {
      throw down;
    };
    await expect(failing.get({ accept: ['x/y'] })).rejects.toBe(down);
    expect(failing.asked).toEqual(['GET']);
  });
});

describe('a stored manifest', () => {
  test('is given without a question to a repository that may read it and all that it names', async () => {
    using on = await byDigest();
    await on.put(app);
    expect(await on.get()).toMatchObject({ outcome: 'hit' });
    expect(on.asked).toEqual([]);
  });

  test('that came through another upstream is compared first', async () => {
    using on = await byDigest();
    await on.put(foreign);
    // This upstream's own bytes show it.
    expect(on.manifests.atHand(on.repository, image)).toBeUndefined();
    expect(await on.get()).toMatchObject({ outcome: 'hit' });
    expect(on.asked).toEqual(['GET']);
    using other = await byDigest();
    await other.put(foreign);
    other.state.get = () => ({ ...answer, bytes: Buffer.from('{}') });
    await expect(other.get()).rejects.toMatchObject({ reason: 'wrong-bytes' });
  });

  test('that came through another repository is confirmed by a HEAD, and shared then', async () => {
    using on = await byDigest();
    await on.put('docker.io/library/other');
    expect(await on.get()).toMatchObject({ outcome: 'hit' });
    expect(on.asked).toEqual(['HEAD']);
    expect([on.catalog.grants.mayRead(app, image), on.catalog.grants.mayRead(app, layer)]).toEqual([true, true]);
    using refused = await byDigest();
    await refused.put('docker.io/library/other');
    refused.state.head = () => {
      throw absent;
    };
    await expect(refused.get()).rejects.toBe(absent);
    expect(refused.catalog.grants.mayRead(app, image)).toBe(false);
    // Confirmed by a tag a moment ago.
    expect(await refused.get({ isConfirmed: true })).toMatchObject({ outcome: 'hit' });
    expect(refused.asked).toEqual(['HEAD']);
    expect(refused.catalog.grants.mayRead(app, layer)).toBe(true);
  });

  test('that an index of the repository names is given although the upstream does not confirm it', async () => {
    using on = await byDigest();
    await on.put('docker.io/library/other');
    on.records.manifest('index', { children: [image] });
    on.state.head = () => {
      throw down;
    };
    expect(on.catalog.grants.mayReadAll(app, image)).toBe(false);
    expect(await on.get()).toMatchObject({ outcome: 'hit' });
    expect([on.catalog.grants.mayRead(app, image), on.catalog.grants.mayRead(app, layer)]).toEqual([true, false]);
  });
});

describe('a pull that cannot complete', () => {
  test('is refused by the upstream itself while it is in trouble, unless nothing is missing or the client can go elsewhere', async () => {
    using on = await byDigest();
    await on.put(app);
    on.state.isAvailable = false;
    on.state.head = () => {
      throw down;
    };
    await expect(on.get()).rejects.toBe(down);
    expect(on.asked).toEqual(['HEAD']);
    expect(await on.get({ waiting: { ...waiting, canFallBack: true } })).toMatchObject({ outcome: 'hit' });
    const content = Buffer.from('layer');
    await on.store.put(layer, content);
    on.catalog.blobs.record(layer, { size: 5, contentType: 'a/b', shownBy: 'docker.io' });
    expect(await on.get()).toMatchObject({ outcome: 'hit' });
    expect(on.asked).toEqual(['HEAD']);
  });

  test('is refused offline with what is missing', async () => {
    using on = await byDigest({ offline: true });
    await on.put(app);
    const refused = on.get({ waiting: { ...waiting, canFallBack: true } });
    await expect(refused).rejects.toMatchObject({
      reason: 'offline',
      message: `this mirror is offline and lacks a part of ${app}@${image}: ${layer}`,
      detail: { missing: layer, size: 5 },
    });
    expect(on.asked).toEqual([]);
    using empty = await byDigest({ offline: true });
    await expect(empty.get()).rejects.toMatchObject({ reason: 'offline' });
    expect(empty.asked).toEqual([]);
  });
});

describe('a tag that another replica knows', () => {
  const key = { repository: app, tag: '1', variant: '' };
  const told = { digest: image, contentType: ociManifest, size: bytes.length };

  test('is served by its word, stale past its time, and not at all once that is over', async () => {
    for (const [ageMs, outcome] of [
      [0, 'peer'],
      [999, 'peer'],
      [1000, 'stale'],
      [9999, 'stale'],
      [10_000, undefined],
    ] as const) {
      using on = await byDigest();
      on.state.tag = { ...told, ageMs };
      const found = await on.lent.resolve(on.repository, key, { waiting, error: down });
      expect([ageMs, found?.outcome, found?.record.digest]).toEqual([ageMs, outcome, outcome && image]);
      expect(on.catalog.tags.get(key)?.checkedAtMs).toBe(outcome && on.records.nowMs - ageMs);
      const stale = { ageSeconds: Math.floor(ageMs / 1000), warning: expect.stringContaining('down') as string };
      expect(found?.stale).toEqual(outcome === 'stale' ? stale : undefined);
      expect(on.reported.filter((event) => 'kind' in event && event.kind === 'stale-served')).toEqual(
        outcome === 'stale' ? [{ kind: 'stale-served', upstream: 'docker.io' }] : [],
      );
    }
  });

  test('is unknown where no replica tells it, or its manifest cannot be had', async () => {
    using on = await byDigest();
    expect(await on.lent.resolve(on.repository, key, { waiting, error: down })).toBeUndefined();
    on.state.tag = { ...told, ageMs: 0 };
    on.state.get = () => {
      throw down;
    };
    expect(await on.lent.resolve(on.repository, key, { waiting, error: down })).toBeUndefined();
    expect(on.catalog.tags.get(key)).toBeUndefined();
    on.state.get = () => {
      throw new TypeError('bug');
    };
    await expect(on.lent.resolve(on.repository, key, { waiting, error: down })).rejects.toThrow('bug');
  });
});
