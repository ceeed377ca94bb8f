import { describe, expect, test } from 'vitest';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import type { ListingsOptions } from '../../src/mirror/asked-lists.ts';
import { Listings } from '../../src/mirror/listings.ts';
import { RegistryError } from '../../src/oci/error.ts';
import type { ListingAnswer } from '../../src/oci/listing.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { type RememberedList, RememberedLists } from '../../src/store/catalog/remembered-lists.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { app, digest, Records } from '../store/records.ts';

const { signal } = new AbortController();
const down = new RegistryError('unreachable', 'it is down');
const absent = new RegistryError('not-found', 'no such image');
const image = digest('image');
const fallbackTag = image.replace(':', '-');

const described = (name: string, artifactType?: string) => ({
  mediaType: ociManifest,
  digest: digest(name),
  size: 7,
  ...(artifactType && { artifactType }),
});

const indexOf = (...manifests: unknown[]): Buffer =>
  Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests }));

const listing = (bytes: Buffer, more: Partial<ListingAnswer> = {}): ListingAnswer => ({
  bytes,
  contentType: ociIndex,
  nextQuery: undefined,
  filtersApplied: undefined,
  ...more,
});

const tagsIn = ({ bytes }: { bytes: Buffer }): unknown => (JSON.parse(bytes.toString()) as { tags: unknown }).tags;
const namesIn = ({ bytes }: { bytes: Buffer }): string[] =>
  (JSON.parse(bytes.toString()) as { manifests: { digest: string }[] }).manifests.map((one) => one.digest);

const tagPage = (tags: readonly string[], nextQuery?: string): ListingAnswer =>
  listing(Buffer.from(JSON.stringify({ name: 'library/app', tags })), { contentType: 'application/json', nextQuery });

/** Listings over an upstream, a fallback tag and other replicas that the test writes. */
async function listings({ offline = false, tagTtlMs = 60_000, staleIfErrorMs = 3_600_000 } = {}) {
  const records = await Records.open();
  const asked: string[] = [];
  const state = {
    referrers: (): ListingAnswer | undefined => listing(indexOf()),
    tags: (_query: string): ListingAnswer => tagPage(['1', '2']),
    fallback: (): { bytes: Buffer; digest?: string; contentType?: string } => {
      throw absent;
    },
    elsewhere: undefined as RememberedList | undefined,
    isAbsence: true,
  };
  const upstream = {
    name: 'docker.io',
    answerMs: 60_000,
    freshness: { tagTtlMs, staleIfErrorMs },
    client: {
      listReferrers: async (_name: string, _digest: string, query: string) => {
        asked.push(`referrers?${query}`);
        return await Promise.resolve(state.referrers());
      },
      listTags: async (_name: string, query: string) => {
        asked.push(`tags?${query}`);
        return await Promise.resolve(state.tags(query));
      },
    },
  };
  const repository: Repository = repositoryOf(upstream as unknown as Upstream, 'library/app');
  const questions = {
    list: async (_: Repository, name: string) => {
      asked.push(`replicas: ${name.slice(repository.key.length + 1)}`);
      return await Promise.resolve(state.elsewhere);
    },
  };
  const manifests = {
    byTag: async (_: Repository, tag: string) => {
      asked.push(`tag ${tag}`);
      return await Promise.resolve({
        digest: digest('fallback'),
        contentType: ociIndex,
        outcome: 'miss',
        ...state.fallback(),
      });
    },
    isAbsence: async (_: Repository, __: string, { error }: { error: unknown }) =>
      await Promise.resolve(state.isAbsence && error === absent),
  };
  const now = (): number => records.nowMs;
  const lists = new RememberedLists({ notes: records.catalog.notes, now });
  const options = { catalog: records.catalog, manifests, lists, questions, offline, now };
  const all = { ...options, coordinator: new SoloCoordinator() } as unknown as ListingsOptions;
  const subject = new Listings(all);
  return {
    records,
    asked,
    state,
    repository,
    tags: async (query = '') => await subject.tags(repository, query, { signal }),
    referrers: async (query = '') => await subject.referrers(repository, image, { query, signal }),
    [Symbol.dispose]: () => records[Symbol.dispose](),
  };
}

describe('referrers', () => {
  test('are those that the upstream lists, chosen here where it does not choose', async () => {
    using on = await listings();
    on.state.referrers = () => listing(indexOf(described('a', 'sbom'), described('b', 'signature')));
    const all = await on.referrers();
    expect([namesIn(all), all.outcome, all.filtersApplied, all.stale]).toEqual([
      [digest('a'), digest('b')],
      'bypass',
      undefined,
      undefined,
    ]);
    const some = await on.referrers('artifactType=sbom');
    expect([namesIn(some), some.outcome, some.filtersApplied]).toEqual([[digest('a')], 'bypass', 'artifactType']);
    expect(on.asked).toEqual(['referrers?', 'referrers?artifactType=sbom']);
    // One that chooses itself, or gives a page of several, is taken at its word.
    on.state.referrers = () => listing(indexOf(described('b', 'signature')), { filtersApplied: 'artifactType' });
    expect(namesIn(await on.referrers('artifactType=sbom'))).toEqual([digest('b')]);
    on.state.referrers = () => listing(indexOf(described('b', 'signature')), { nextQuery: 'n=1&last=b' });
    expect(await on.referrers('artifactType=sbom')).toMatchObject({ nextQuery: 'n=1&last=b' });
  });

  test('are those under the fallback tag where the upstream lists none, or has no such list', async () => {
    using on = await listings();
    on.state.fallback = () => ({ bytes: indexOf(described('a', 'sbom'), described('b')) });
    const pages = [
      () => listing(indexOf()),
      () => undefined,
      () => listing(Buffer.from('<html>')),
      (): never => {
        throw absent;
      },
    ];
    for (const page of pages) {
      on.asked.length = 0;
      on.state.referrers = page;
      const found = await on.referrers();
      expect([namesIn(found), found.outcome, found.contentType]).toEqual([
        [digest('a'), digest('b')],
        'miss',
        ociIndex,
      ]);
      expect(on.asked).toEqual(['referrers?', `tag ${fallbackTag}`]);
      const some = await on.referrers('artifactType=sbom');
      expect([namesIn(some), some.filtersApplied]).toEqual([[digest('a')], 'artifactType']);
    }
  });

  test('are none, by the upstream or here, where there is no such tag either', async () => {
    using on = await listings();
    on.state.referrers = () => listing(Buffer.from('{"schemaVersion":2,"manifests":[],"annotations":{"own":"words"}}'));
    const own = await on.referrers();
    expect([own.bytes.toString(), own.outcome]).toEqual([
      '{"schemaVersion":2,"manifests":[],"annotations":{"own":"words"}}',
      'bypass',
    ]);
    on.state.referrers = () => undefined;
    const none = await on.referrers();
    expect(JSON.parse(none.bytes.toString())).toEqual({ schemaVersion: 2, mediaType: ociIndex, manifests: [] });
    expect([none.contentType, none.outcome]).toEqual([ociIndex, 'bypass']);
    // Neither an image nor the subject itself is a list.
    on.state.fallback = () => ({ bytes: indexOf(described('a')), digest: image });
    expect(namesIn(await on.referrers())).toEqual([]);
    on.state.fallback = () => ({ bytes: indexOf(described('a')), contentType: ociManifest });
    expect(namesIn(await on.referrers())).toEqual([]);
    on.state.fallback = () => ({ bytes: indexOf(described('a')), contentType: `${ociIndex}; charset=utf-8` });
    expect(namesIn(await on.referrers())).toEqual([digest('a')]);
  });

  test('on a later page, or on one that has another, are not looked for under the tag', async () => {
    using on = await listings();
    on.state.referrers = () => listing(indexOf());
    for (const [query, isLooked] of [
      ['', true],
      ['n=5', true],
      ['artifactType=x&n=5', true],
      ['last=b', false],
      ['n=5&page=2', false],
    ] as const) {
      on.asked.length = 0;
      await on.referrers(query);
      expect([query, on.asked.length]).toEqual([query, isLooked ? 2 : 1]);
    }
    on.state.referrers = () => listing(indexOf(), { nextQuery: 'last=a' });
    on.asked.length = 0;
    await on.referrers();
    expect(on.asked).toEqual(['referrers?']);
  });

  test('that may not be had are no empty list', async () => {
    using on = await listings();
    const denied = new RegistryError('denied', 'not for you');
    on.state.referrers = () => {
      throw denied;
    };
    await expect(on.referrers()).rejects.toBe(denied);
    on.state.referrers = () => undefined;
    on.state.fallback = () => {
      throw denied;
    };
    await expect(on.referrers()).rejects.toBe(denied);
    on.state.isAbsence = false;
    on.state.fallback = () => {
      throw absent;
    };
    await expect(on.referrers()).rejects.toBe(absent);
  });

  test('are the last ones where the upstream cannot answer, chosen from all where only those are known', async () => {
    using on = await listings();
    on.state.referrers = () => listing(indexOf(described('a', 'sbom'), described('b')));
    await on.referrers();
    on.records.nowMs += 90_500;
    on.state.referrers = () => {
      throw down;
    };
    const last = await on.referrers();
    expect([namesIn(last), last.outcome, last.stale]).toEqual([
      [digest('a'), digest('b')],
      'stale',
      { ageSeconds: 90, warning: 'served from the cache, docker.io could not confirm it: it is down' },
    ]);
    const some = await on.referrers('artifactType=sbom');
    expect([namesIn(some), some.outcome, some.stale?.ageSeconds]).toEqual([[digest('a')], 'stale', 90]);
    expect(on.asked.slice(-2)).toEqual([
      'referrers?artifactType=sbom',
      `replicas: referrers ${image} artifactType=sbom`,
    ]);
    // What was served past its time is not remembered as something new.
    on.records.nowMs += 3_600_000;
    await expect(on.referrers()).rejects.toBe(down);
  });

  test('are those that manifests here name, where the upstream was never asked, and never an empty list', async () => {
    using on = await listings();
    on.state.referrers = () => {
      throw down;
    };
    await expect(on.referrers()).rejects.toBe(down);
    on.records.manifest('signature', { subject: image });
    const stored = await on.referrers();
    expect([namesIn(stored), stored.outcome, stored.stale]).toEqual([
      [digest('signature')],
      'stale',
      {
        ageSeconds: 0,
        warning:
          'only what is stored here is listed; served from the cache, docker.io could not confirm it: it is down',
      },
    ]);
    await expect(on.referrers('artifactType=none')).rejects.toBe(down);
  });

  test('are those that are stored, by subject or under the fallback tag, where this mirror is offline', async () => {
    using on = await listings({ offline: true });
    expect(namesIn(await on.referrers())).toEqual([]);
    on.records.manifest('signature', { subject: image });
    on.records.manifest('tagged', {});
    on.records.manifest('foreign', { repository: 'quay.io/app' });
    on.state.fallback = () => ({
      bytes: indexOf(described('tagged', 'sbom'), described('foreign'), described('gone'), described('signature')),
    });
    const found = await on.referrers();
    expect([namesIn(found).toSorted(), found.outcome, found.stale]).toEqual([
      [digest('tagged'), digest('signature')].toSorted(),
      'hit',
      undefined,
    ]);
    expect(namesIn(await on.referrers('artifactType=sbom'))).toEqual([digest('tagged')]);
    expect(on.asked.filter((what) => what.startsWith('referrers'))).toEqual([]);
  });

  test('are remembered from other replicas, as long as a tag would be', async () => {
    using on = await listings({ tagTtlMs: 1000, staleIfErrorMs: 9000 });
    on.state.referrers = () => {
      throw down;
    };
    const answer = listing(indexOf(described('a')));
    on.state.elsewhere = { answer, ageMs: 10_000, access: undefined };
    const found = await on.referrers();
    expect([namesIn(found), found.stale?.ageSeconds]).toEqual([[digest('a')], 10]);
    on.state.elsewhere = { answer, ageMs: 10_001, access: undefined };
    await expect(on.referrers()).rejects.toBe(down);
  });
});

describe('tags', () => {
  test('are those of the upstream with those that were confirmed here just now, in pages', async () => {
    using on = await listings();
    const { records } = on;
    on.state.tags = () => tagPage(['b', 'a', 'd']);
    records.manifest('image', {});
    records.tag('c', image);
    records.nowMs -= 60_001;
    records.tag('old', image);
    records.nowMs += 60_001;
    const all = await on.tags();
    expect([tagsIn(all), all.outcome, all.nextQuery]).toEqual([['a', 'b', 'c', 'd'], 'bypass', undefined]);
    const first = await on.tags('n=2');
    expect([tagsIn(first), first.outcome, first.nextQuery]).toEqual([['a', 'b'], 'bypass', 'n=2&last=b']);
    on.asked.length = 0;
    // The next page is of the same list.
    const second = await on.tags('n=2&last=b');
    expect([tagsIn(second), second.outcome, second.nextQuery]).toEqual([['c', 'd'], 'hit', undefined]);
    expect(on.asked).toEqual([]);
    records.nowMs += 60_000;
    await on.tags('n=2&last=b');
    expect(on.asked).toEqual([]);
    records.nowMs += 1;
    expect((await on.tags('n=2&last=b')).outcome).toBe('bypass');
    expect(on.asked).toEqual(['tags?']);
  });

  test('are passed on page by page where they are too many, or the page is known by a token', async () => {
    using on = await listings();
    on.state.tags = (query) => tagPage([`after ${query}`], 'token=next');
    expect(await on.tags('token=one')).toMatchObject({ outcome: 'bypass', nextQuery: 'token=next' });
    expect(on.asked).toEqual(['tags?token=one']);
    const long = Array.from({ length: 600 }, (_, index) => `${index}-${'x'.repeat(2000)}`);
    on.state.tags = (query) => tagPage(query === '' ? long : ['1', '2', '3'], 'last=z');
    on.asked.length = 0;
    expect(tagsIn(await on.tags())).toEqual(long);
    expect(on.asked).toEqual(['tags?']);
    const page = await on.tags('n=2');
    expect([tagsIn(page), page.outcome, page.nextQuery]).toEqual([['1', '2', '3'], 'bypass', 'last=z']);
    on.state.tags = () => tagPage(['1', '2', '3']);
    expect(tagsIn(await on.tags('n=2'))).toEqual(['1', '2']);
  });

  test('are the last ones where the upstream cannot answer, page by page', async () => {
    using on = await listings();
    on.state.tags = () => tagPage(['a', 'b', 'c']);
    await on.tags();
    on.records.nowMs += 61_000;
    on.state.tags = () => {
      throw down;
    };
    const last = await on.tags();
    expect([tagsIn(last), last.outcome, last.stale?.ageSeconds]).toEqual([['a', 'b', 'c'], 'stale', 61]);
    const page = await on.tags('n=1&last=a');
    expect([tagsIn(page), page.outcome, page.nextQuery]).toEqual([['b'], 'stale', 'n=1&last=b']);
    on.records.nowMs += 3_600_000;
    await expect(on.tags()).rejects.toBe(down);
  });

  test('that a page was passed on for are that page again', async () => {
    using on = await listings();
    on.state.tags = () => tagPage(['x', 'y']);
    await on.tags('token=one&n=2');
    on.state.tags = () => {
      throw down;
    };
    expect(await on.tags('n=2&token=one')).toMatchObject({ outcome: 'stale', stale: { ageSeconds: 0 } });
    await expect(on.tags('token=two')).rejects.toBe(down);
  });

  test('are not those of the first page alone where the others were too many to read', async () => {
    using on = await listings();
    let pages = 0;
    on.state.tags = () => tagPage([`tag-${pages}`], `token=${(pages += 1)}`);
    await on.tags();
    on.state.tags = () => {
      throw down;
    };
    expect(await on.tags()).toMatchObject({ outcome: 'stale', nextQuery: 'token=1' });
    await expect(on.tags('n=5')).rejects.toBe(down);
  });

  test('are those that are stored where the upstream was never asked, or this mirror is offline', async () => {
    for (const offline of [false, true]) {
      using on = await listings({ offline });
      on.state.tags = () => {
        throw down;
      };
      const error = offline
        ? {
            reason: 'offline',
            message: expect.stringContaining('has stored no tag of docker.io/library/app') as string,
          }
        : { reason: 'unreachable' };
      await expect(on.tags()).rejects.toMatchObject(error);
      on.records.manifest('image', {});
      on.records.tag('2', image);
      on.records.tag('1', image);
      on.records.tag('absent', digest('not here'), { repository: app });
      const stored = await on.tags('n=1');
      expect([tagsIn(stored), stored.nextQuery, stored.outcome]).toEqual([
        ['1'],
        'n=1&last=1',
        offline ? 'hit' : 'stale',
      ]);
      expect(stored.stale?.warning.startsWith('only what is stored here is listed; ')).toBe(offline ? undefined : true);
      expect(on.asked.some((what) => what.startsWith('tags'))).toBe(!offline);
    }
  });

  test('are refused where the upstream refuses them', async () => {
    using on = await listings();
    const denied = new RegistryError('denied', 'not for you');
    on.state.tags = () => {
      throw denied;
    };
    on.records.manifest('image', {});
    on.records.tag('1', image);
    await expect(on.tags()).rejects.toBe(denied);
  });
});
