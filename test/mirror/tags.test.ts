import { describe, expect, test } from 'vitest';
import type { SharedTag, TagClaim } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { dockerManifest, ociManifest } from '../../src/oci/media-types.ts';
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

describe('a tag past its time, of an upstream that cannot answer,', () => {
  async function pulled({ isWhole = true, ...script }: { isWhole?: boolean; times?: object } = {}) {
    const on = await scriptedManifests(script);
    on.serve({ v1: old });
    await on.get('v1');
    if (isWhole) await on.keepLayer(old);
    on.reported.length = 0;
    on.state.head = () => {
      throw down;
    };
    return on;
  }

  test('is served with a warning where its image is whole', async () => {
    await using on = await pulled();
    on.records.nowMs += 59_999;
    expect(await on.get('v1')).toMatchObject({
      outcome: 'stale',
      bytes: old.bytes,
      ageSeconds: 59,
      stale: { ageSeconds: 59, warning: expect.stringContaining('docker.io could not confirm it: down') as string },
    });
    expect(on.reported).toEqual([{ kind: 'stale-served', upstream: 'docker.io' }]);
    expect(await on.head('v1')).toMatchObject({ outcome: 'stale', stale: { ageSeconds: 59 } });
    on.records.nowMs += 1;
    await expect(on.get('v1')).rejects.toBe(down);
  });

  test('is refused where its image is not, unless the client can go elsewhere for what is missing', async () => {
    await using on = await pulled({ isWhole: false });
    on.records.nowMs += 10_000;
    await expect(on.get('v1')).rejects.toBe(down);
    expect(on.reported).toEqual([]);
    expect(await on.get('v1', { canFallBack: true })).toMatchObject({ outcome: 'stale' });
  });

  test('is served, whole or not, where only pulls are spared', async () => {
    await using on = await pulled({ isWhole: false });
    on.records.nowMs += 10_000;
    on.state.head = () => {
      throw new RegistryError('pull-spared', 'few are left');
    };
    expect(await on.get('v1')).toMatchObject({ outcome: 'stale' });
  });

  test('is refused where the upstream says no', async () => {
    await using on = await pulled();
    on.records.nowMs += 10_000;
    on.state.head = () => {
      throw denied;
    };
    await expect(on.get('v1')).rejects.toBe(denied);
    expect([on.reported, on.tagged('v1')?.digest]).toEqual([[], old.digest]);
  });

  test('is what it was where the new manifest cannot be had, and that is said', async () => {
    await using on = await pulled();
    on.records.nowMs += 20_000;
    on.serve({ v1: fresh });
    on.state.get = () => {
      throw down;
    };
    const served = { outcome: 'stale', bytes: old.bytes, stale: { ageSeconds: 20 } };
    expect(await on.get('v1')).toMatchObject(served);
    expect(on.reported).toEqual([{ kind: 'stale-served', upstream: 'docker.io' }]);
    expect(on.tagged('v1')?.digest).toBe(old.digest);
    // The image is whole no more.
    await on.store.remove(old.layer.digest);
    await expect(on.get('v1')).rejects.toBe(down);
    expect(await on.get('v1', { canFallBack: true })).toMatchObject(served);
    await on.store.remove(old.digest);
    await expect(on.get('v1', { canFallBack: true })).rejects.toBe(down);
  });

  test('is not what it was where that is too old', async () => {
    await using on = await pulled();
    on.records.nowMs += 60_000;
    on.serve({ v1: fresh });
    on.state.get = () => {
      throw down;
    };
    await expect(on.get('v1')).rejects.toBe(down);
  });

  test('is what it was where few pulls are left for the new manifest', async () => {
    await using on = await pulled();
    on.records.nowMs += 10_000;
    on.serve({ v1: fresh });
    on.state.isSparing = true;
    expect(await on.get('v1')).toMatchObject({ outcome: 'stale', digest: old.digest });
    expect(on.asked).toEqual(['GET v1', 'HEAD v1']);
    on.state.isSparing = false;
    expect(await on.get('v1')).toMatchObject({ outcome: 'miss', digest: fresh.digest });
  });

  test('is served to a client whose own time is over', async () => {
    await using on = await pulled();
    on.records.nowMs += 10_000;
    const over = AbortSignal.abort(new DOMException('too late', 'TimeoutError'));
    const found = await on.manifests.byTag(on.repository, 'v1', { accept: '', signal: over });
    expect(found).toMatchObject({ outcome: 'stale', stale: { warning: expect.stringContaining('in time') as string } });
    const left = AbortSignal.abort(new Error('left'));
    await expect(on.manifests.byTag(on.repository, 'v1', { accept: '', signal: left })).rejects.toThrow('left');
  });
});

describe('a tag that is served while the upstream is asked', () => {
  const times = { staleWhileRevalidateMs: 5_000 };

  async function pulled() {
    const on = await scriptedManifests({ times });
    on.serve({ v1: old });
    await on.get('v1');
    on.asked.length = 0;
    on.reported.length = 0;
    return on;
  }

  test('is what it was until the new manifest is here, and asked for once', async () => {
    await using on = await pulled();
    on.records.nowMs += 14_999;
    on.serve({ v1: fresh });
    const both = await Promise.all([on.get('v1'), on.get('v1')]);
    for (const found of both) expect(found).toMatchObject({ outcome: 'revalidating', digest: old.digest });
    await expect.poll(() => on.tagged('v1')?.digest).toBe(fresh.digest);
    expect(on.asked).toEqual(['HEAD v1', `GET ${fresh.digest}`]);
    expect(await on.get('v1')).toMatchObject({ outcome: 'hit', digest: fresh.digest });
    expect(on.reported).toMatchObject([{ kind: 'manifest-received' }]);
    // It is asked for again the next time.
    on.records.nowMs += 10_000;
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidating' });
    await expect.poll(() => on.tagged('v1')?.checkedAtMs).toBe(on.records.nowMs);
    expect(on.asked).toHaveLength(3);
  });

  test('stays what it was where pulls are few', async () => {
    await using on = await pulled();
    on.records.nowMs += 10_000;
    on.serve({ v1: fresh });
    on.state.isSparing = true;
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidating', digest: old.digest });
    await on.manifests[Symbol.asyncDispose]();
    expect([on.asked, on.tagged('v1')?.digest]).toEqual([['HEAD v1'], old.digest]);
  });

  test('and cannot be confirmed is reported', async () => {
    await using on = await pulled();
    on.records.nowMs += 10_000;
    on.state.head = () => {
      throw down;
    };
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidating' });
    await expect.poll(() => on.reported).toHaveLength(1);
    expect(on.reported).toEqual([
      { kind: 'revalidation-failed', repository: on.repository.key, tag: 'v1', error: down },
    ]);
  });

  test('is asked for no longer once the mirror stops', async () => {
    await using on = await pulled();
    on.records.nowMs += 10_000;
    const begun = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<object>();
    on.state.head = () => {
      begun.resolve();
      return answer.promise;
    };
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidating' });
    await begun.promise;
    const stopping = on.manifests[Symbol.asyncDispose]();
    answer.reject(down);
    await stopping;
    expect(on.reported).toEqual([]);
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
    for (const accept of ['', '*/*', 'text/html'])
      expect(await on.get('v1', { accept })).toMatchObject({ digest: old.digest });
    expect(on.asked).toEqual(['GET v1']);
  });

  test('is asked for with its types where the upstream has none of ours', async () => {
    const own = 'application/vnd.example.thing+json';
    const thing = imageOf('thing', { type: own });
    await using on = await scriptedManifests();
    on.state.get = (_, accept) => {
      if (accept.includes(own)) return thing;
      throw absent;
    };
    expect(await on.get('v1', { accept: own })).toMatchObject({ digest: thing.digest, contentType: own });
    expect(on.asked).toEqual(['GET v1', `GET v1 as ${own}`]);
    expect(on.tagged('v1', own)?.digest).toBe(thing.digest);
    // Neither where it names none beyond ours, nor where the upstream says something else.
    await expect(on.get('v2', { accept: ociManifest })).rejects.toBe(absent);
    on.state.get = () => {
      throw denied;
    };
    await expect(on.get('v3', { accept: own })).rejects.toBe(denied);
    expect(on.asked.slice(2)).toEqual(['GET v2', 'GET v3']);
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

describe('a tag whose digest cannot be had', () => {
  const movedWith = async (error: Error) => {
    const on = await scriptedManifests();
    on.serve({ v1: old });
    await on.get('v1');
    on.records.nowMs += 10_000;
    on.serve({ v1: fresh });
    on.state.get = (reference) => {
      if (reference === 'v1') return docker;
      throw error;
    };
    on.asked.length = 0;
    return on;
  };

  test.each([absent, denied, new RegistryError('bad-status', 'odd'), new RegistryError('wrong-bytes', 'wrong')])(
    'is asked for again by its name: $reason',
    async (error) => {
      await using on = await movedWith(error);
      expect(await on.get('v1')).toMatchObject({ outcome: 'miss', digest: docker.digest });
      expect(on.asked.at(-1)).toBe('GET v1');
      expect(on.tagged('v1')?.digest).toBe(docker.digest);
    },
  );

  test('has the error of its name where it was not found, and else its own', async () => {
    for (const [error, again, expected] of [
      [absent, denied, denied],
      [denied, down, denied],
    ] as const) {
      await using on = await movedWith(error);
      const { get } = on.state;
      on.state.get = (reference, accept) => {
        if (reference === 'v1') throw again;
        return get(reference, accept);
      };
      await expect(on.get('v1')).rejects.toBe(expected);
    }
  });

  test('is not asked for again where the upstream cannot answer', async () => {
    await using on = await movedWith(down);
    await expect(on.get('v1')).rejects.toBe(down);
    expect(on.asked).toEqual(['HEAD v1', `GET ${fresh.digest}`]);
  });
});

describe('other replicas', () => {
  /** A replica that knows tags by the word of others. */
  class Others extends SoloCoordinator {
    override readonly isAlone: true = false as unknown as true;
    readonly told: unknown[] = [];
    known: SharedTag | undefined;

    override claimTag(...of: unknown[]): Promise<TagClaim> {
      this.told.push(['claimed', ...of.slice(0, 1)]);
      return Promise.resolve(this.known ? { kind: 'known', tag: this.known } : { kind: 'ours' });
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
