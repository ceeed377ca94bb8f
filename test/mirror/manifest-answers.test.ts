import { describe, expect, test } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { blobFact, nothingRemoved, rightFact, tagFact, upstreamFact } from '../../src/oci/facts.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { absent, denied, down, imageOf, type ManifestsScript, scriptedManifests } from './scripted-manifests.ts';

const image = imageOf('image');
const { digest } = image;
const { signal } = new AbortController();
const byTag = { kind: 'tag', tag: 'v1' } as const;
const byDigest = { kind: 'digest', digest } as const;

/** With an image that has been pulled by its tag. */
async function pulled(script: ManifestsScript = {}) {
  const on = await scriptedManifests(script);
  on.serve({ v1: image });
  await on.get('v1');
  on.asked.length = 0;
  return on;
}

describe('a manifest at hand', () => {
  test('is given with its age by tag, and without by digest', async () => {
    await using on = await pulled();
    const { bytes, size } = image;
    const found = { digest, size, contentType: ociManifest, bytes, outcome: 'hit' };
    on.records.nowMs += 3_500;
    expect(on.manifests.atHand(on.repository, byDigest, '')).toEqual(found);
    expect(on.manifests.atHand(on.repository, byTag, '')).toEqual({ ...found, ageSeconds: 3 });
    on.records.nowMs += 6_499;
    expect(on.manifests.atHand(on.repository, byTag, '')).toBeDefined();
    on.records.nowMs += 1;
    expect(on.manifests.atHand(on.repository, byTag, '')).toBeUndefined();
    expect(on.manifests.atHand(on.repository, byDigest, '')).toBeDefined();
    expect(on.manifests.atHand(on.repository, { kind: 'tag', tag: 'v2' }, '')).toBeUndefined();
    expect([on.manifests.isManifest(digest), on.manifests.isManifest(image.layer.digest)]).toEqual([true, false]);
    expect(on.asked).toEqual([]);
  });

  test('stands for a whole image while no upstream can be asked', async () => {
    await using on = await pulled();
    on.state.isAvailable = false;
    expect(on.manifests.atHand(on.repository, byDigest, '')).toBeUndefined();
    expect(await on.manifests.isWhole(on.repository.key, digest)).toBe(false);
    await on.keepLayer(image);
    expect(await on.manifests.isWhole(on.repository.key, digest)).toBe(true);
  });

  test('is given by its digest with what the client accepts beyond our types', async () => {
    await using on = await scriptedManifests();
    const own = 'application/vnd.example.thing+json';
    const thing = imageOf('thing', { type: own });
    on.state.get = (_, accept) => {
      if (accept.includes(own)) return thing;
      throw absent;
    };
    const ask = async (accept?: string) =>
      await on.manifests.byDigest(on.repository, thing.digest, { signal, ...(accept && { accept }) });
    await expect(ask()).rejects.toBe(absent);
    expect(await ask(`${own}, ${ociManifest}`)).toMatchObject({ outcome: 'miss', contentType: own });
    expect(await ask()).toMatchObject({ outcome: 'hit' });
  });
});

describe('an answer stands', () => {
  const standing = (on: Awaited<ReturnType<typeof pulled>>, reference: typeof byTag | typeof byDigest) =>
    on.manifests.standing(on.repository, reference, { ...image, outcome: 'hit' });
  const facts = [blobFact(digest), rightFact('docker.io/library/app', digest), upstreamFact('docker.io')];
  const tagged = tagFact('docker.io/library/app', 'v1');

  test('for ever by digest, and by tag for the time of the tag', async () => {
    await using on = await pulled();
    expect(standing(on, byDigest)).toEqual({ digest, facts, untilMs: Number.POSITIVE_INFINITY });
    const { nowMs } = on.records;
    on.records.nowMs += 5_000;
    const times = { sinceMs: nowMs, untilMs: nowMs + 10_000, confirmedAtMs: nowMs };
    expect(standing(on, byTag)).toEqual({ digest, facts: [...facts, tagged], ...times });
  });

  test('no longer than what the upstream has said of its pulls', async () => {
    await using on = await pulled();
    const { nowMs } = on.records;
    on.state.rateLimit = { windowSeconds: 4, seenAtMs: nowMs };
    expect(standing(on, byDigest).untilMs).toBe(nowMs + 4_000);
    expect(standing(on, byTag).untilMs).toBe(nowMs + 4_000);
    on.state.rateLimit = { windowSeconds: 60, seenAtMs: nowMs };
    expect(standing(on, byTag).untilMs).toBe(nowMs + 10_000);
  });

  test('only as long as nothing is removed, while no upstream can be asked', async () => {
    await using on = await pulled();
    on.state.isAvailable = false;
    expect(standing(on, byDigest).facts).toEqual([...facts, nothingRemoved]);
    await using offline = await scriptedManifests({ offline: true });
    const { contentType, size } = image;
    const key = { repository: offline.repository.key, tag: 'v1', variant: '' };
    offline.catalog.tags.record(key, { digest, contentType, size, checkedAtMs: 0 });
    const untilMs = Number.POSITIVE_INFINITY;
    expect(standing(offline, byTag)).toEqual({ digest, facts: [...facts, nothingRemoved, tagged], untilMs });
  });
});

describe('a HEAD by tag', () => {
  test('gives the right to what is not here, and to what the upstream has shown', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: image });
    const { size } = image;
    expect(await on.head('v1')).toEqual({
      digest,
      size,
      contentType: ociManifest,
      outcome: 'miss',
      ageSeconds: 0,
      stale: undefined,
    });
    expect(on.asked).toEqual(['HEAD v1']);
    expect(on.catalog.grants.mayRead(on.repository.key, digest)).toBe(true);
    await using shown = await scriptedManifests();
    shown.serve({ v1: image });
    const other = { ...shown.repository, key: 'docker.io/library/other' };
    await shown.manifests.byDigest(other, digest, { signal });
    await shown.head('v1');
    for (const part of [digest, image.layer.digest]) {
      expect(shown.catalog.grants.mayRead(shown.repository.key, part)).toBe(true);
    }
  });

  test('gives the right to what a tag has moved to, as far as it is the bytes of the same upstream', async () => {
    await using on = await pulled();
    const moved = imageOf('moved');
    on.serve({ v1: moved });
    on.records.nowMs += 10_000;
    const { key } = on.repository;
    await on.head('v1');
    expect([on.tagged('v1')?.digest, on.catalog.grants.mayRead(key, moved.digest)]).toEqual([digest, true]);
    // A blob of another upstream, which is no manifest that is stored here.
    const foreign = imageOf('foreign');
    on.serve({ v1: foreign });
    on.catalog.blobs.record(foreign.digest, { size: foreign.size, contentType: ociManifest, shownBy: 'quay.io' });
    await on.head('v1');
    expect(on.catalog.grants.mayRead(key, foreign.digest)).toBe(false);
  });

  test('is refused where a pull could not complete', async () => {
    await using on = await pulled();
    on.state.isAvailable = false;
    on.state.head = () => {
      throw down;
    };
    await expect(on.head('v1')).rejects.toBe(down);
    expect(on.asked).toEqual([`HEAD ${digest}`]);
    expect(await on.head('v1', { canFallBack: true })).toMatchObject({ outcome: 'hit' });
    await on.keepLayer(image);
    expect(await on.head('v1')).toMatchObject({ outcome: 'hit' });
  });
});

describe('a stored manifest of another repository', () => {
  test('is confirmed by digest, unless a tag stands for it', async () => {
    await using on = await scriptedManifests();
    on.serve({ v1: image });
    const elsewhere = { ...on.repository, key: 'docker.io/library/other' };
    await on.manifests.byDigest(elsewhere, digest, { signal });
    on.asked.length = 0;
    const { head } = on.state;
    on.state.head = (reference, ...more) => {
      if (reference === digest) throw denied;
      return head(reference, ...more);
    };
    await expect(on.manifests.byDigest(on.repository, digest, { signal })).rejects.toBe(denied);
    // Where pulls are counted, a HEAD is sent first.
    on.state.rateLimit = { windowSeconds: 60, seenAtMs: on.records.nowMs };
    expect(await on.get('v1')).toMatchObject({ outcome: 'miss', digest });
    expect(on.asked).toEqual([`HEAD ${digest}`, 'HEAD v1']);
  });
});

describe('what only other replicas have', () => {
  test('makes an image whole, but not offline', async () => {
    for (const offline of [false, true]) {
      await using on = await scriptedManifests({ isWithOthers: true, offline });
      const key = { repository: on.repository.key, tag: 'v1', variant: '' };
      const { bytes, contentType, size } = image;
      await on.store.put(digest, bytes);
      const links = readManifest(bytes, contentType);
      on.catalog.manifests.record(digest, { repository: key.repository, source: 'upstream', size, contentType, links });
      on.catalog.tags.record(key, { digest, contentType, size, checkedAtMs: on.records.nowMs });
      expect(await on.manifests.isWhole(key.repository, digest)).toBe(!offline);
    }
  });
});

describe('offline', () => {
  test('nothing is asked, and no other replica counts', async () => {
    await using on = await scriptedManifests({ offline: true });
    on.serve({ v1: image });
    await expect(on.get('v1')).rejects.toMatchObject({ reason: 'offline' });
    await expect(on.manifests.byDigest(on.repository, digest, { signal })).rejects.toMatchObject({ reason: 'offline' });
    expect(on.asked).toEqual([]);
  });
});

describe('that nothing is attached to a manifest', () => {
  test('is said by "not found", and by a refusal of an upstream that gives the manifest itself', async () => {
    await using on = await pulled();
    const isAbsence = async (error: unknown) => await on.manifests.isAbsence(on.repository, digest, { error, signal });
    expect(await isAbsence(absent)).toBe(true);
    expect([await isAbsence(down), await isAbsence(new Error('denied'))]).toEqual([false, false]);
    expect(on.asked).toEqual([]);
    expect(await isAbsence(denied)).toBe(true);
    expect(on.asked).toEqual([`HEAD ${digest}`]);
  });

  test('is not said by one that refuses the manifest, or cannot answer', async () => {
    await using on = await pulled();
    let answer: Error = denied;
    on.state.head = () => {
      throw answer;
    };
    const isAbsence = async () => await on.manifests.isAbsence(on.repository, digest, { error: denied, signal });
    expect(await isAbsence()).toBe(false);
    answer = new RegistryError('offline', 'not now');
    expect(await isAbsence()).toBe(false);
    for (answer of [down, new TypeError('bug')]) await expect(isAbsence()).rejects.toBe(answer);
  });
});
