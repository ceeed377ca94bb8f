import { describe, expect, test } from 'vitest';
import { LentTags } from '../../src/mirror/lent-tags.ts';
import { resolvedBy, TagInquiry, type TagInquiryOptions } from '../../src/mirror/tag-inquiry.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';

const signal = new AbortController().signal;
const [first, second] = ['1', '2'].map((text) => digestOf(Buffer.from(text))) as [
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
];
const type = 'application/vnd.oci.image.manifest.v1+json';
const times = { tagTtlMs: 10_000, staleIfErrorMs: 60_000, negativeTtlMs: 0 };
const nowMs = 1_000_000;

function site({
  head = {},
  isSparing = false,
  rateLimit = undefined as object | undefined,
  isAlone = true,
  here = [] as string[],
} = {}) {
  const asked: string[] = [];
  const upstream = {
    name: 'docker.io',
    isSparing,
    rateLimit,
    freshness: times,
    client: {
      headManifest: () => {
        asked.push('HEAD');
        return Promise.resolve({ digest: first, contentType: type, size: 20, ...head });
      },
      getManifest: () => {
        asked.push('GET');
        return Promise.resolve({
          bytes: Buffer.from('{}'),
          contentType: type,
          digest: second,
          age: { seconds: 3, isStale: false },
        });
      },
    },
  } as unknown as Upstream;
  const repository = repositoryOf(upstream, 'library/app');
  const kept = {
    get: (digest: string) => Promise.resolve(here.includes(digest) ? {} : undefined),
    keep: (_: unknown, answer: { digest: string }) =>
      Promise.resolve({ manifest: { digest: answer.digest, contentType: 'kept', size: 2 }, isKept: true }),
  } as unknown as TagInquiryOptions['kept'];
  const completeness = { isWhole: () => Promise.resolve(true) };
  const inquiry = new TagInquiry({ kept, completeness, now: () => nowMs, coordinator: { isAlone } });
  const ask = (more: object = {}) =>
    inquiry.ask(repository, { tag: 'v1', accept: [type], staleDigest: undefined, mayGet: false, signal, ...more });
  return { repository, inquiry, asked, ask };
}

const byGet = {
  record: { digest: second, contentType: 'kept', size: 2, checkedAtMs: nowMs - 3_000 },
  age: { seconds: 3, isStale: false },
};

describe('a tag', () => {
  test('is what a HEAD says, with the age that a mirror tells', async () => {
    const { ask, asked } = site();
    expect(await ask()).toEqual({
      record: { digest: first, contentType: type, size: 20, checkedAtMs: nowMs },
      age: undefined,
    });
    const aged = site({ head: { age: { seconds: 5, isStale: false } } });
    expect((await aged.ask()).record.checkedAtMs).toBe(nowMs - 5_000);
    expect(asked).toEqual(['HEAD']);
  });

  test.each([
    [{ digest: undefined }],
    [{ size: undefined }],
    [{ size: 19 }],
    [{ contentType: 'application/json' }],
    [{ contentType: '' }],
  ])('is asked for by GET where a HEAD says %j', async (head) => {
    const { ask, asked } = site({ head });
    expect(await ask()).toEqual(byGet);
    expect(asked).toEqual(['HEAD', 'GET']);
  });

  test('of which a HEAD gave the manifest is that', async () => {
    const answer = { bytes: Buffer.from('{}'), contentType: type, digest: first };
    const { ask, asked } = site({ head: { answer } });
    expect(await ask()).toMatchObject({ record: { digest: first, size: 2, checkedAtMs: nowMs } });
    expect(asked).toEqual(['HEAD']);
  });

  test('of which nothing is known is got at once, unless pulls are counted or replicas share', async () => {
    for (const [options, expected] of [
      [{}, ['GET']],
      [{ rateLimit: {} }, ['HEAD']],
      [{ isAlone: false }, ['HEAD']],
    ] as const) {
      const { ask, asked } = site(options);
      await ask({ mayGet: true });
      expect(asked).toEqual(expected);
    }
  });

  test('is not got where pulls are few and what it was is here', async () => {
    const options = { head: { digest: undefined }, isSparing: true, here: [first] };
    await expect(site(options).ask({ staleDigest: first })).rejects.toMatchObject({
      reason: 'pull-spared',
      message: 'few pulls are left at docker.io, and they are kept for what is not here',
    });
    expect(await site({ ...options, here: [] }).ask({ staleDigest: first })).toEqual(byGet);
    expect(await site(options).ask()).toEqual(byGet);
    expect(await site({ ...options, isSparing: false }).ask({ staleDigest: first })).toEqual(byGet);
  });

  test('that has moved is spared only where what it was is here and what it is is not', async () => {
    const previous = { digest: first, contentType: type, size: 1, checkedAtMs: 0 };
    const spare = async (options: object, digest = second) => {
      const { inquiry, repository } = site({ isSparing: true, here: [first], ...options });
      await inquiry.spare(repository, previous, digest);
    };
    await expect(spare({})).rejects.toMatchObject({ reason: 'pull-spared' });
    await spare({}, first);
    await spare({ isSparing: false });
    await spare({ here: [] });
    await spare({ here: [first, second] });
  });
});

describe('the answer of an upstream', () => {
  const { repository } = site();
  const key = { repository: repository.key, tag: 'v1', variant: '' };
  const record = (digest: typeof first) => ({ digest, contentType: type, size: 1, checkedAtMs: 0 });
  const answer = (more: object) =>
    resolvedBy({ repository, key, record: record(first), checked: record(first), age: undefined, ...more });

  test('confirms what a tag was, or is news', () => {
    expect(answer({})).toEqual({ key, record: record(first), outcome: 'revalidated' });
    expect(answer({ checked: record(second), age: { seconds: 1, isStale: false } }).outcome).toBe('miss');
    expect(answer({ record: undefined }).outcome).toBe('miss');
  });

  test('that a mirror could not confirm is stale, and none once its time is over', () => {
    expect(answer({ age: { seconds: 69, isStale: true } })).toMatchObject({
      outcome: 'stale',
      stale: {
        ageSeconds: 69,
        warning: expect.stringContaining(
          'docker.io could not confirm it: the mirror that it is asked through',
        ) as string,
      },
    });
    expect(() => answer({ age: { seconds: 70, isStale: true } })).toThrow(
      expect.objectContaining({ reason: 'unconfirmed' }) as Error,
    );
  });
});

describe('a tag by the word of another replica', () => {
  const error = new RegistryError('unreachable', 'down');
  function lentWith(lent: object | undefined, failure?: Error) {
    const { repository } = site();
    const noted: unknown[] = [];
    const key = { repository: repository.key, tag: 'v1', variant: 'x' };
    const options = {
      catalog: { tags: { record: (...given: unknown[]) => noted.push(['recorded', ...given]) } },
      questions: {
        tag: (_: unknown, { tag, variant }: { tag: string; variant: string }) => {
          noted.push(['asked', tag, variant]);
          return Promise.resolve(lent && { digest: first, contentType: type, size: 1, ...lent });
        },
      },
      manifests: {
        get: (_: unknown, digest: string, { isConfirmed }: { isConfirmed: boolean }) => {
          noted.push(['got', digest, isConfirmed]);
          return failure ? Promise.reject(failure) : Promise.resolve({});
        },
      },
      now: () => nowMs,
      report: (event: unknown) => noted.push(event),
    };
    const tags = new LentTags(options as unknown as ConstructorParameters<typeof LentTags>[0]);
    return { noted, key, resolve: () => tags.resolve(repository, key, { waiting: { signal }, error }) };
  }

  test('is what it was confirmed as a moment ago', async () => {
    const { resolve, noted, key } = lentWith({ ageMs: 5_000 });
    const record = { digest: first, contentType: type, size: 1, checkedAtMs: nowMs - 5_000 };
    expect(await resolve()).toEqual({ key, record, outcome: 'peer' });
    expect(noted).toEqual([
      ['asked', 'v1', 'x'],
      ['got', first, true],
      ['recorded', key, record],
    ]);
  });

  test('is stale past its time, and said to be', async () => {
    const { resolve, noted } = lentWith({ ageMs: 20_000 });
    expect(await resolve()).toMatchObject({
      outcome: 'stale',
      stale: { ageSeconds: 20, warning: expect.stringContaining('down') as string },
    });
    expect(noted.at(-1)).toEqual({ kind: 'stale-served', upstream: 'docker.io' });
  });

  test('is none where there is no such word, or it is too old, or the manifest cannot be had', async () => {
    for (const [lent, failure] of [
      [undefined, undefined],
      [{ ageMs: 70_000 }, undefined],
      [{ ageMs: 1 }, error],
    ] as const) {
      const { resolve, noted } = lentWith(lent, failure);
      expect(await resolve()).toBeUndefined();
      expect(noted.filter((one) => Array.isArray(one) && one[0] === 'recorded')).toEqual([]);
    }
    await expect(lentWith({ ageMs: 1 }, new TypeError('bug')).resolve()).rejects.toThrow('bug');
  });
});
