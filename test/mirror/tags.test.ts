import { describe, expect, test } from 'vitest';
import type { SharedTag, TagClaim } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { dockerManifest, dockerManifestList, ociManifest } from '../../src/oci/media-types.ts';
import { tagRule } from '../../src/upstream/freshness.ts';
import { absent, denied, down, imageOf, scriptedManifests } from './scripted-manifests.ts';

const [old, fresh] = [imageOf('old'), imageOf('fresh')];
const docker = imageOf('docker', { type: dockerManifest });

describe('a tag', () => {
  test('of which nothing is known is got at once, and then known for its time', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    expect(await on.get('v1')).toEqual({
      digest: old.digest,
      size: old.size,
      contentType: ociManifest,
      bytes: old.bytes,
      outcome: 'miss',
      ageSeconds: 0,
      stale: undefined,
    });
    expect(on.asked).toEqual(['GET v1']);
    expect(on.tagged('v1')).toMatchObject({ digest: old.digest, checkedAtMs: on.records.nowMs });
    on.records.nowMs += 9_999;
    expect(await on.get('v1')).toMatchObject({ outcome: 'hit', ageSeconds: 9, bytes: old.bytes });
    expect(on.asked).toHaveLength(1);
  });

  test('past its time is confirmed by a HEAD', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    on.records.nowMs += 10_000;
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidated', ageSeconds: 0 });
    expect(on.asked).toEqual(['GET v1', 'HEAD v1']);
    expect(on.tagged('v1')?.checkedAtMs).toBe(on.records.nowMs);
  });

  test('that has moved stands for the new manifest once that is here', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    on.records.nowMs += 10_000;
    on.serve({ v1: fresh });
    expect(await on.head('v1')).toMatchObject({ outcome: 'miss', digest: fresh.digest });
    expect(on.tagged('v1')?.digest).toBe(old.digest);
    expect(await on.get('v1')).toMatchObject({ outcome: 'miss', bytes: fresh.bytes });
    expect(on.tagged('v1')?.digest).toBe(fresh.digest);
    expect(on.asked).toEqual(['GET v1', 'HEAD v1', 'HEAD v1', `GET ${fresh.digest}`]);
  });

  test('that only HEADs have asked for is confirmed although its manifest is not here', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.head('v1');
    on.records.nowMs += 10_000;
    expect(await on.head('v1')).toMatchObject({ outcome: 'revalidated', ageSeconds: 0 });
    expect(on.tagged('v1')?.checkedAtMs).toBe(on.records.nowMs);
  });

  test('that is fresh, or was confirmed, and whose manifest is no longer here is a miss', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    for (const passedMs of [0, 1, 10_000]) {
      on.records.nowMs += passedMs;
      expect(await on.get('v1')).toMatchObject({ outcome: 'miss', digest: old.digest });
      await on.store.remove(old.digest);
    }
    expect(on.asked).toEqual(['GET v1', `GET ${old.digest}`, 'HEAD v1', `GET ${old.digest}`]);
  });

  test('has the times of the rule that matches its repository and its name', async () => {
    const rule = tagRule({ match: 'v*', repositories: ['library/app'], tagTtlMs: 20_000, staleIfErrorMs: 0 });
    await using on = await scriptedManifests({ times: { tags: [rule] } });
    on.serve({ v1: old, latest: old });
    for (const tag of ['v1', 'latest']) await on.get(tag);
    const { nowMs } = on.records;
    on.records.nowMs += 19_999;
    const atHand = (tag: string) => on.manifests.atHand(on.repository, { kind: 'tag', tag }, '');
    expect([atHand('v1')?.digest, atHand('latest')]).toEqual([old.digest, undefined]);
    const until = (tag: string) => on.manifests.standing(on.repository, { kind: 'tag', tag }, atHand('v1')!).untilMs;
    expect([until('v1'), until('latest')]).toEqual([nowMs + 20_000, nowMs + 10_000]);
    expect((await on.get('v1')).outcome).toBe('hit');
    on.state.head = () => {
      throw down;
    };
    on.records.nowMs += 1;
    await on.keepLayer(old);
    expect((await on.get('latest')).outcome).toBe('stale');
    await expect(on.get('v1')).rejects.toBe(down);
  });

  test('is asked for once by clients that want it at the same time', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old, v2: fresh });
    const all = await Promise.all([on.get('v1'), on.get('v1'), on.get('v2')]);
    expect(all.map(({ digest }) => digest)).toEqual([old.digest, old.digest, fresh.digest]);
    expect(on.asked).toEqual(['GET v1', 'GET v2']);
  });

  test('that is not there is forgotten, and asked for again after a while', async () => {
    await using on = await scriptedManifests({ times: { negativeTtlMs: 5_000 } });
    on.serve({ v1: old });
    await on.get('v1');
    on.records.nowMs += 10_000;
    on.serve({});
    await expect(on.get('v1')).rejects.toBe(absent);
    expect(on.tagged('v1')).toBeUndefined();
    on.serve({ v1: fresh });
    await expect(on.get('v1')).rejects.toMatchObject({ reason: 'not-found' });
    expect(on.asked).toEqual(['GET v1', 'HEAD v1']);
    on.records.nowMs += 5_001;
    await expect.poll(async () => await on.get('v1').catch(() => undefined)).toMatchObject({ digest: fresh.digest });
  });

  test('needs a part that is gone, and is asked for again although it is fresh', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    expect(on.manifests.atHand(on.repository, { kind: 'tag', tag: 'v1' }, '')).toBeDefined();
    on.gone.push(old.digest);
    expect(on.manifests.atHand(on.repository, { kind: 'tag', tag: 'v1' }, '')).toBeUndefined();
    on.serve({ v1: fresh });
    expect(await on.get('v1')).toMatchObject({ digest: fresh.digest });
  });

  test('confirmed by a clock that was ahead is taken over by what is confirmed now', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    on.records.nowMs -= 60_000;
    on.serve({ v1: fresh });
    expect(await on.get('v1')).toMatchObject({ digest: fresh.digest });
    expect(on.tagged('v1')).toMatchObject({ digest: fresh.digest, checkedAtMs: on.records.nowMs });
  });
});

describe('a client that accepts other types', () => {
  test('gets its own variant, which other clients do not', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    on.state.get = (reference, accept) => (accept.includes(ociManifest) || reference === old.digest ? old : docker);
    expect(await on.get('v1', { accept: dockerManifest })).toMatchObject({ outcome: 'miss', digest: docker.digest });
    expect(on.asked).toEqual(['GET v1', `GET v1 as ${dockerManifest}`]);
    expect([on.tagged('v1')?.digest, on.tagged('v1', dockerManifest)?.digest]).toEqual([old.digest, docker.digest]);
    expect(on.manifests.atHand(on.repository, { kind: 'tag', tag: 'v1' }, '')?.digest).toBe(old.digest);
    expect(on.manifests.atHand(on.repository, { kind: 'tag', tag: 'v1' }, dockerManifest)).toBeUndefined();
    // Where nothing is known, what all clients get is asked for first.
    expect(await on.get('v2', { accept: dockerManifest })).toMatchObject({ digest: docker.digest });
    expect(on.asked.slice(2)).toEqual(['GET v2', `GET v2 as ${dockerManifest}`]);
  });

  test('gets what is there where it accepts everything, or no manifest at all', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    expect(await on.get('v1', { accept: 'text/html' })).toMatchObject({ outcome: 'miss', digest: old.digest });
    for (const accept of ['', '*/*', 'text/html'])
      expect(await on.get('v1', { accept })).toMatchObject({ digest: old.digest });
    on.records.nowMs += 10_000;
    await on.get('v1', { accept: 'text/html' });
    expect(on.asked).toEqual(['GET v1', 'HEAD v1']);
  });

  test('has its variant asked for again by its name, with its types, where the digest cannot be had', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    const accept = [dockerManifest, dockerManifestList].toSorted().join();
    on.state.get = (_, types) => (types.includes(ociManifest) ? old : docker);
    await on.get('v1', { accept });
    await on.store.remove(docker.digest);
    on.state.get = (reference) => {
      if (reference === 'v1') return fresh;
      throw absent;
    };
    on.asked.length = 0;
    expect(await on.get('v1', { accept })).toMatchObject({ outcome: 'miss', digest: fresh.digest });
    expect(on.asked).toEqual([`GET ${docker.digest}`, `GET v1 as ${accept}`]);
    expect([on.tagged('v1')?.digest, on.tagged('v1', accept)?.digest]).toEqual([old.digest, fresh.digest]);
  });

  test('is asked for with its types where the upstream has none of ours', async () => {
    const own = 'application/vnd.example.thing+json';
    const both = `${own},application/vnd.example.thong+json`;
    const thing = imageOf('thing', { type: own });
    for (const error of [absent, new RegistryError('bad-status', 'odd')]) {
      await using on = await scriptedManifests();
      on.state.get = (_, accept) => {
        if (accept.join() === both) return thing;
        throw error;
      };
      expect(await on.get('v1', { accept: both })).toMatchObject({ digest: thing.digest, contentType: own });
      expect(on.asked).toEqual(['GET v1', `GET v1 as ${both}`]);
      expect(on.tagged('v1', both)?.digest).toBe(thing.digest);
    }
    await using on = await scriptedManifests();
    // Neither where it names none beyond ours, nor where the upstream says something else.
    await expect(on.get('v2', { accept: ociManifest })).rejects.toBe(absent);
    on.state.get = () => {
      throw denied;
    };
    await expect(on.get('v3', { accept: own })).rejects.toBe(denied);
    expect(on.asked).toEqual(['GET v2', 'GET v3']);
  });
});

describe('offline, a tag', () => {
  test('is what it was, however long ago that is', async () => {
    await using on = await scriptedManifests({ offline: true });
    on.records.nowMs += 1_000_000_000;
    const key = { repository: on.repository.key, tag: 'v1', variant: '' };
    const { digest, contentType, size } = old;
    on.catalog.tags.record(key, { digest, contentType, size, checkedAtMs: 0 });
    await expect(on.get('v2')).rejects.toMatchObject({
      reason: 'offline',
      message: `this mirror is offline and has not stored ${on.repository.key}:v2`,
    });
    await expect(on.get('v1', { accept: dockerManifest })).rejects.toMatchObject({
      reason: 'offline',
      message: `this mirror is offline and has ${on.repository.key}:v1 only as ${ociManifest}, which this client does not accept`,
    });
    expect(on.asked).toEqual([]);
  });
});

describe('other replicas', () => {
  /** A replica that knows tags by the word of others. */
  class Others extends SoloCoordinator {
    override readonly isAlone: true = false as unknown as true;
    readonly told: unknown[] = [];
    listeners = 0;
    known: SharedTag | undefined;

    override claimTag(...of: unknown[]): Promise<TagClaim> {
      this.told.push(['claimed', ...of.slice(0, 1)]);
      return Promise.resolve(this.known ? { kind: 'known', tag: this.known } : { kind: 'ours' });
    }

    override subscribe(): Disposable {
      this.listeners += 1;
      return { [Symbol.dispose]: () => (this.listeners -= 1) };
    }

    override async recordTag(...of: unknown[]): Promise<void> {
      await Promise.resolve(this.told.push(['recorded', of[1]]));
    }
  }

  const { digest, contentType, size } = old;

  test('have asked a moment ago, and the upstream is not asked', async () => {
    const coordinator = new Others();
    coordinator.known = { kind: 'manifest', digest, contentType, size, ageMs: 3_000 };
    await using on = await scriptedManifests({ coordinator });
    on.serve({ v1: old });
    expect(await on.head('v1')).toMatchObject({ outcome: 'miss', digest, ageSeconds: 3 });
    expect(on.asked).toEqual([]);
    expect(on.tagged('v1')).toMatchObject({ digest, checkedAtMs: on.records.nowMs - 3_000, access: 'one way' });
    on.records.nowMs += 10_000;
    expect(await on.head('v1')).toMatchObject({ outcome: 'revalidated', ageSeconds: 3 });
    // What it stands for by their word is recorded once it is here.
    on.records.nowMs += 10_000;
    coordinator.known = { ...coordinator.known, digest: fresh.digest };
    expect(await on.head('v1')).toMatchObject({ outcome: 'miss', digest: fresh.digest });
    expect(on.tagged('v1')?.digest).toBe(digest);
    on.serve({ v1: fresh });
    await on.manifests.byDigest(on.repository, fresh.digest, { signal: new AbortController().signal });
    await on.head('v1');
    expect(on.tagged('v1')?.digest).toBe(fresh.digest);
  });

  test('are told what the upstream says, and that there is none', async () => {
    const coordinator = new Others();
    await using on = await scriptedManifests({ coordinator, times: { negativeTtlMs: 1_000 } });
    on.serve({ v1: old });
    await on.head('v1');
    await expect.poll(() => coordinator.told).toHaveLength(2);
    expect(coordinator.told[1]).toEqual(['recorded', { kind: 'manifest', digest, contentType, size, ageMs: 0 }]);
    expect(on.tagged('v1')?.access).toBe('one way');
    await expect(on.head('v2')).rejects.toBe(absent);
    await expect.poll(() => coordinator.told).toHaveLength(4);
    expect(coordinator.told[3]).toMatchObject(['recorded', { kind: 'missing' }]);
  });

  test('are listened to until the mirror stops', async () => {
    const coordinator = new Others();
    await using on = await scriptedManifests({ coordinator });
    expect(coordinator.listeners).toBe(1);
    await on.manifests[Symbol.asyncDispose]();
    expect(coordinator.listeners).toBe(0);
  });

  test('lend what they know of a tag while the upstream cannot answer', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old });
    await on.manifests.byDigest(on.repository, digest, { signal: new AbortController().signal });
    on.state.get = () => {
      throw down;
    };
    await expect(on.get('v1')).rejects.toBe(down);
    on.state.lent = { digest, contentType, size, ageMs: 1_000 };
    expect(await on.get('v1')).toMatchObject({ outcome: 'peer', digest, ageSeconds: 1 });
    expect(on.tagged('v1')?.checkedAtMs).toBe(on.records.nowMs - 1_000);
    on.state.get = () => {
      throw denied;
    };
    await expect(on.get('v2')).rejects.toBe(denied);
  });
});

test('a mirror that answers for the registry, and cannot confirm a tag, leads to a stale answer', async () => {
  await using on = await scriptedManifests();
  on.state.get = () => ({ ...old, age: { seconds: 30, isStale: true } });
  expect(await on.get('v1')).toMatchObject({ outcome: 'stale', ageSeconds: 30, stale: { ageSeconds: 30 } });
});
