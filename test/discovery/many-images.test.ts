import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pushImage, send } from '../hosted/support.ts';
import { localImage } from '../support/images.ts';
import { makeSearchCache, type SearchCache, searchUpstream } from '../support/search-cache.ts';
import { allPages, measure, searchQueries } from '../support/search-load.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

const images = 700;

interface Page {
  readonly results: readonly { repository: string; tag: string }[];
  readonly next?: string;
  readonly complete: boolean;
}

// bench/search.ts does the same with a hundred thousand.
describe('a cache with many images', () => {
  let cache: SearchCache;
  let site: TestSite;
  const owned = new AsyncDisposableStack();
  beforeAll(async () => {
    const folder = owned.use(await temporaryFolder());
    const cacheDir = join(folder.path, 'cache');
    cache = await makeSearchCache(cacheDir, images);
    site = owned.use(
      await startTestSite({
        upstreams: { [searchUpstream]: { origin: 'http://127.0.0.1:1' } },
        config: { offline: true, hosted: { repositories: ['local/**'] } },
        cacheDir,
        keepsLog: false,
      }),
    );
  });
  afterAll(() => owned.disposeAsync());

  test.each(['name', '-name', 'version', '-cached', 'size'])(
    'has each of them on one page of a search sorted by %s',
    async (sort) => {
      const found: string[] = [];
      for (let next: string | undefined = `sort=${sort}&n=97`; next !== undefined; ) {
        const reply = await site.get(`/v2/_millpond/search?${next}`);
        const page = JSON.parse(reply.body.toString()) as Page;
        if (!page.complete) {
          // The index is still being built: from the beginning again.
          found.length = 0;
          next = `sort=${sort}&n=97`;
          continue;
        }
        found.push(...page.results.map(({ repository, tag }) => `${repository}:${tag}`));
        next = page.next === undefined ? undefined : `sort=${sort}&n=97&next=${page.next}`;
      }
      expect(found).toHaveLength(images);
      expect(new Set(found).size).toBe(images);
    },
  );

  test('answers searches of every kind beside pulls', async () => {
    const [searched, pulled] = await Promise.all([
      measure(site.origin, {
        pathOf: (index) => `/v2/_millpond/search?${searchQueries(index)}`,
        connections: 2,
        seconds: 0.5,
      }),
      measure(site.origin, { pathOf: (index) => cache.paths[index % 50]!, connections: 2, seconds: 0.5 }),
    ]);
    expect(searched.requests).toBeGreaterThan(0);
    expect(pulled.requests).toBeGreaterThan(0);
  });

  test('has its catalog and tags complete in pages while both change', async () => {
    const image = localImage({ label: 'a change' });
    const names = await allPages(site.origin, '/v2/_catalog?n=2', {
      member: 'repositories',
      async between(page) {
        await pushImage(site, `local/change-${page}`, image, '1');
        if (page > 0) await send(site, ['DELETE', `/v2/local/change-${page - 1}/manifests/1`]);
        if (page > 20) throw new Error('the catalog does not end');
      },
    }).catch((error: Error) => [error.message]);
    const expected = cache.repositories.map((name) => `${searchUpstream}/${name}`);
    expect(names.filter((name) => expected.includes(name))).toEqual(
      expected.toSorted((one, other) => (one < other ? -1 : 1)),
    );
    expect(new Set(names).size).toBe(names.length);
    const tags = await allPages(site.origin, `/v2/${cache.repositories[0]}/tags/list?n=7`, {
      member: 'tags',
      between: () => Promise.resolve(),
    });
    expect(tags).toHaveLength(100);
    expect(new Set(tags).size).toBe(100);
  });
});
