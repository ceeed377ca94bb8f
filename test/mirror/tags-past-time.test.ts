import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import { dockerManifest, ociManifest } from '../../src/oci/media-types.ts';
import { absent, denied, down, imageOf, scriptedManifests } from './scripted-manifests.ts';

const [old, fresh] = [imageOf('old'), imageOf('fresh')];
const docker = imageOf('docker', { type: dockerManifest });

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

  test('is not got where few pulls are left and a HEAD says too little, as long as it may be served', async () => {
    await using on = await pulled();
    on.state.isSparing = true;
    on.state.head = () => ({ contentType: ociManifest });
    on.records.nowMs += 59_999;
    expect(await on.get('v1')).toMatchObject({ outcome: 'stale', digest: old.digest });
    expect(on.asked).toEqual(['GET v1', 'HEAD v1']);
    on.records.nowMs += 1;
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidated' });
    expect(on.asked.slice(2)).toEqual(['HEAD v1', 'GET v1']);
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
    // Asked for again: what was asked before has ended.
    await expect
      .poll(async () => {
        await on.get('v1');
        return on.asked.length;
      })
      .toBeGreaterThan(1);
    expect([new Set(on.asked), on.tagged('v1')?.digest]).toEqual([new Set(['HEAD v1']), old.digest]);
  });

  test('is confirmed with every other one, and what it has moved to is not asked for by digest where it is here', async () => {
    await using on = await scriptedManifests({ times });
    on.serve({ v1: old, v2: old });
    await Promise.all([on.get('v1'), on.get('v2')]);
    const elsewhere = { ...on.repository, key: 'docker.io/library/other' };
    on.serve({ v1: fresh, v2: docker });
    for (const { digest } of [fresh, docker]) {
      await on.manifests.byDigest(elsewhere, digest, { signal: new AbortController().signal });
    }
    on.records.nowMs += 10_000;
    on.asked.length = 0;
    await Promise.all([on.get('v1'), on.get('v2')]);
    await expect.poll(() => [on.tagged('v1')?.digest, on.tagged('v2')?.digest]).toEqual([fresh.digest, docker.digest]);
    expect(on.asked.toSorted()).toEqual(['HEAD v1', 'HEAD v2']);
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
    const reasons: unknown[] = [];
    on.state.head = async (_reference, _accept, signal) => {
      begun.resolve();
      await once(signal, 'abort');
      reasons.push(signal.reason);
      throw down;
    };
    expect(await on.get('v1')).toMatchObject({ outcome: 'revalidating' });
    await begun.promise;
    await on.manifests[Symbol.asyncDispose]();
    expect(reasons).toMatchObject([{ reason: 'shutting-down' }]);
    expect(on.reported).toEqual([]);
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

  test('is not taken for another one that is asked for at the same time', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: old, v2: fresh });
    await Promise.all([on.get('v1'), on.get('v2')]);
    for (const { digest } of [old, fresh]) await on.store.remove(digest);
    const { get } = on.state;
    on.state.get = (reference, ...more) => {
      if (reference.startsWith('sha256:')) throw absent;
      return get(reference, ...more);
    };
    const both = await Promise.all([on.get('v1'), on.get('v2')]);
    expect(both.map(({ digest }) => digest)).toEqual([old.digest, fresh.digest]);
  });

  test('has the error of its name where it was not found, and else its own', async () => {
    for (const [error, again, expected] of [
      [absent, denied, denied],
      [denied, down, denied],
    ] as const) {
      await using on = await movedWith(error);
      const { get } = on.state;
      on.state.get = (reference, ...more) => {
        if (reference === 'v1') throw again;
        return get(reference, ...more);
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
