import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import type { ListingAnswer } from '../../src/oci/listing.ts';
import { findRepository, namedRepository, repositoryOf } from '../../src/upstream/repository.ts';
import { UpstreamTable } from '../../src/upstream/table.ts';
import { mergedTags, WholeTags } from '../../src/upstream/whole-tags.ts';
import { upstreamAt } from './support.ts';

function tableOf(...names: readonly string[]): UpstreamTable & Disposable {
  const upstreams = names.map((name) =>
    upstreamAt('http://127.0.0.1:1', { name, repositories: { deny: ['secret/*'] } }),
  );
  const table = new UpstreamTable(upstreams, { defaultName: names[0]! });
  const dispose = (): void => upstreams.forEach((upstream) => upstream[Symbol.dispose]());
  return Object.assign(table, { [Symbol.dispose]: dispose });
}

describe('a repository', () => {
  test('is found by its key where its upstream is configured under that very name', () => {
    using table = tableOf('docker.io', 'quay.io');
    expect(findRepository(table, 'quay.io/team/app')).toEqual(repositoryOf(table.find('quay.io')!, 'team/app'));
    expect(findRepository(table, 'docker.io/library/app')?.key).toBe('docker.io/library/app');
    for (const key of ['ghcr.io/a', 'QUAY.io/a', 'quay.io', 'quay.io/', 'quay.io/A', 'quay.io/secret/a', '/a']) {
      expect(findRepository(table, key)).toBeUndefined();
    }
  });

  test('is found by its name as people write it', () => {
    using table = tableOf('docker.io', 'quay.io');
    const named = (registry: string | undefined, repository: string) =>
      namedRepository(table, { registry, repository, tag: undefined, digest: undefined }).key;
    expect(named(undefined, 'alpine')).toBe('docker.io/library/alpine');
    expect(named('quay.io', 'team/app')).toBe('quay.io/team/app');
    expect(() => named('ghcr.io', 'a')).toThrow('not a configured upstream');
    expect(() => named('quay.io', 'secret/a')).toThrow('does not allow');
  });
});

describe('a whole list of tags', () => {
  const answer = (tags: readonly string[], nextQuery?: string): ListingAnswer => ({
    bytes: Buffer.from(JSON.stringify({ name: 'a', tags })),
    contentType: 'application/json',
    nextQuery,
    filtersApplied: undefined,
  });
  const limited = new RegistryError('limited', 'later');

  /** Reads a list whose pages are there by their query. */
  async function read(
    pages: Readonly<Record<string, ListingAnswer | Error>>,
    { whole = new WholeTags(), answerMs = 60_000 } = {},
  ) {
    using upstream = upstreamAt('http://127.0.0.1:1', { answerMs });
    const asked: string[] = [];
    const found = await whole.read(repositoryOf(upstream, 'a'), async (query, signal) => {
      asked.push(query);
      signal.throwIfAborted();
      const page = pages[query];
      if (page === undefined)
        return await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
      if (page instanceof Error) throw page;
      return page;
    });
    return { ...found, asked };
  }

  test('of one page is sorted by bytes', async () => {
    const only = answer(['b', 'a', 'B', 'b']);
    expect(await read({ '': only })).toEqual({ first: only, tags: ['B', 'a', 'b'], asked: [''] });
  });

  test('of small pages is read from larger ones, where its registry gives them', async () => {
    const pages = { '': answer(['a'], 'last=a'), 'n=1000': answer(['a', 'b', 'c'], 'last=c'), 'last=c': answer(['d']) };
    expect(await read(pages)).toMatchObject({ tags: ['a', 'b', 'c', 'd'], asked: ['', 'n=1000', 'last=c'] });
  });

  test.each<[string, ListingAnswer | Error]>([
    ['the same', answer(['a'], 'last=a')],
    ['something else', { ...answer([]), bytes: Buffer.from('text') }],
    ['an error', new RegistryError('bad-status', 'no')],
  ])(
    'of a registry whose larger page is %s is read as it is, and it is not asked for larger ones again',
    async (_, page) => {
      const whole = new WholeTags();
      const pages = { '': answer(['a'], 'last=a'), 'n=1000': page, 'last=a': answer(['b']) };
      expect(await read(pages, { whole })).toMatchObject({ tags: ['a', 'b'], asked: ['', 'n=1000', 'last=a'] });
      expect((await read(pages, { whole })).asked).toEqual(['', 'last=a']);
    },
  );

  test('of 500 tags a page is read as it is', async () => {
    const many = Array.from({ length: 500 }, (_, index) => `t${index}`);
    expect((await read({ '': answer(many, 'x'), x: answer([]) })).asked).toEqual(['', 'x']);
    expect((await read({ '': answer(many.slice(1), 'x'), 'n=1000': answer([]), x: answer([]) })).asked).toHaveLength(3);
  });

  test('that leads back to a page ends there', async () => {
    const pages = { '': answer(['a'], 'x'), 'n=1000': limitedOnce(), x: answer(['b'], 'y'), y: answer(['c'], 'x') };
    expect((await read(pages)).tags).toEqual(['a', 'b', 'c']);
  });

  function limitedOnce(): Error {
    return new RegistryError('bad-status', 'no');
  }

  test.each<[string, Readonly<Record<string, ListingAnswer | Error>>]>([
    ['a limit', { '': answer(['a'], 'x'), 'n=1000': limited }],
    ['a failure', { '': answer(['a'], 'x'), 'n=1000': answer(['a', 'b'], 'y'), y: limited }],
  ])('that ends in %s is not read whole, and read again the next time', async (_, pages) => {
    const whole = new WholeTags();
    expect(await read(pages, { whole })).toMatchObject({ first: pages[''], tags: undefined });
    expect(await read({ '': answer(['z']) }, { whole })).toMatchObject({ tags: ['z'] });
  });

  const long = answer(['x'.repeat(1024 * 1024)]);
  const endless: Record<string, ListingAnswer> = { '': answer(['a'], 'p0'), 'n=1000': answer([]) };
  for (let page = 0; page < 200; page += 1) endless[`p${page}`] = answer([], `p${page + 1}`);

  test.each<[string, Readonly<Record<string, ListingAnswer | Error>>]>([
    ['its first page is', { '': { ...long, nextQuery: 'x' } }],
    ['its pages together are', { '': answer(['a'], 'x'), 'n=1000': answer(['a', 'b'], 'x'), x: long }],
    ['it has more than a hundred pages', endless],
    ['a page is none', { '': answer(['a'], 'x'), 'n=1000': answer([]), x: { ...answer([]), bytes: Buffer.from('x') } }],
  ])('is too long where %s, which is remembered', async (_, pages) => {
    const whole = new WholeTags();
    expect(await read(pages, { whole })).toMatchObject({ first: pages[''], tags: undefined });
    expect(await read(pages, { whole })).toEqual({ first: undefined, tags: undefined, asked: [] });
  });

  test('of a hundred pages is read', async () => {
    const pages: Record<string, ListingAnswer> = { '': answer(['a'], 'p0'), 'n=1000': answer([]) };
    for (let page = 0; page < 99; page += 1) pages[`p${page}`] = answer([`t${page}`], `p${page + 1}`);
    pages['p99'] = answer(['last']);
    expect((await read(pages)).tags).toHaveLength(101);
  });

  test('of a registry that is too slow is not read whole, which is remembered', async () => {
    const whole = new WholeTags();
    const pages = { '': answer(['a'], 'x'), 'n=1000': answer([]) };
    expect(await read(pages, { whole, answerMs: 100 })).toMatchObject({ first: pages[''], tags: undefined });
    expect((await read(pages, { whole })).asked).toEqual([]);
  });

  test('whose first page cannot be had is an error', async () => {
    await expect(read({ '': limited })).rejects.toThrow('later');
    await expect(read({ '': answer(['a'], 'x'), 'n=1000': new TypeError('bug') })).rejects.toThrow('bug');
  });

  test('is merged with tags that are known otherwise', () => {
    const one = ['a', 'c'];
    expect(mergedTags(one, ['c', 'a'])).toBe(one);
    expect(mergedTags(one, ['b', 'c', 'A'])).toEqual(['A', 'a', 'b', 'c']);
  });
});
