import { describe, expect, test } from 'vitest';
import { json, type Reply } from '../support/client.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

const path = '/v2/library/app/tags/list';
const tagsOf = (reply: Reply): string[] => json<{ tags: string[] }>(reply).tags;
const nextOf = ({ headers }: Reply): string | undefined => /^<([^>]+)>; rel="next"$/.exec(String(headers.link))?.[1];
/** As Go sorts them: upper case before lower, digits before both. */
const tags = ['1.10', '1.9', 'A', 'Z', '_x', 'a', 'a-b', 'a.b', 'b', 'z'];

function addTags(upstream: ScriptedRegistry): void {
  for (const tag of tags.toReversed()) upstream.addImage('library/app', tag);
}

/** An answer to each request of the list, whatever it asks. */
function answerAll(
  upstream: ScriptedRegistry,
  listed: readonly string[],
  headers: Readonly<Record<string, string>> = {},
) {
  const body = JSON.stringify({ name: 'library/app', tags: listed });
  upstream.fault(/tags\/list/, {
    kind: 'status',
    status: 200,
    headers: { 'Content-Type': 'application/json', ...headers },
    body,
  });
}

async function allPages(site: TestSite, n: number): Promise<string[][]> {
  const pages: string[][] = [];
  for (let next: string | undefined = `${path}?n=${n}`; next !== undefined; ) {
    const reply = await site.get(next);
    expect(reply.status).toBe(200);
    pages.push(tagsOf(reply));
    next = nextOf(reply);
  }
  return pages;
}

describe.each([
  { shape: 'relative links', start: async () => await startRegistry({ tagPageSize: 3, linkStyle: 'relative' }) },
  { shape: 'absolute links', start: async () => await startRegistry({ tagPageSize: 3, linkStyle: 'absolute' }) },
  { shape: 'opaque tokens', start: async () => await startRegistry({ tagPageSize: 3, linkStyle: 'opaque' }) },
  {
    shape: 'one page, whatever n says, in an order of its own',
    async start() {
      const upstream = await startRegistry();
      answerAll(upstream, [...tags.slice(5), ...tags.slice(0, 5)].toReversed());
      return upstream;
    },
  },
  {
    shape: 'a refusal of any n that is larger than its pages',
    async start() {
      const upstream = await startRegistry({ tagPageSize: 3 });
      upstream.fault((request) => Number(request.query.get('n')) > 3, { kind: 'status', status: 400 });
      return upstream;
    },
  },
])('a registry with $shape', ({ start }) => {
  test('has its tags listed whole, in byte order, and in pages of any size', async () => {
    await using upstream = await start();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    addTags(upstream);
    const whole = await site.get(path);
    expect(tagsOf(whole)).toEqual(tags);
    expect(whole.headers.link).toBeUndefined();
    for (const n of [1, 3, 4, 10, 100]) {
      const pages = await allPages(site, n);
      expect(pages.flat()).toEqual(tags);
      expect(pages.slice(0, -1).every((page) => page.length === n)).toBe(true);
    }
    expect(tagsOf(await site.get(`${path}?last=Z&n=2`))).toEqual(['_x', 'a']);
    // A tag that is not in the list any more has a place in its order all the same.
    expect(tagsOf(await site.get(`${path}?last=a-c&n=2`))).toEqual(['a.b', 'b']);
    expect(tagsOf(await site.get(`${path}?n=0`))).toEqual([]);
  });
});

test('the pages of one list are cut from one reading of it', async () => {
  await using upstream = await startRegistry({ tagPageSize: 600 });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  addTags(upstream);
  await allPages(site, 1);
  expect(upstream.requestsFor(/tags\/list/)).toHaveLength(1);
});

test('a registry that leads in a circle is asked for each page once', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  answerAll(upstream, tags, { Link: `<${path}?last=z>; rel="next"` });
  expect(tagsOf(await site.get(path))).toEqual(tags);
  expect(upstream.requestsFor(/tags\/list/).length).toBeLessThanOrEqual(4);
});

test('a list that is too long to be sorted passes page by page, with the tokens of its registry', async () => {
  await using upstream = await startRegistry({ tagPageSize: 1_000, linkStyle: 'opaque' });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '0');
  const long = Array.from({ length: 12_000 }, (_, at) => `${String(at).padStart(6, '0')}-${'x'.repeat(100)}`);
  for (const tag of long) upstream.tag('library/app', tag, image.digest);
  const found: string[] = [];
  for (let next: string | undefined = path, pages = 0; next !== undefined && pages < 20; pages += 1) {
    const reply = await site.get(next);
    found.push(...tagsOf(reply));
    next = nextOf(reply);
  }
  expect(found).toEqual(['0', ...long]);
});

test('tags that were confirmed here a moment ago are listed beside those that the registry lists', async () => {
  await using upstream = await startRegistry();
  const clock = { nowMs: Date.now() };
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, now: () => clock.nowMs });
  for (const tag of ['a', 'hidden', 'z']) {
    upstream.addImage('library/app', tag, { layers: [tag] });
    await site.get(`/v2/library/app/manifests/${tag}`);
  }
  answerAll(upstream, ['z', 'b', 'a']);
  expect(tagsOf(await site.get(path))).toEqual(['a', 'b', 'hidden', 'z']);
  clock.nowMs += 3_600_000;
  expect(tagsOf(await site.get(path))).toEqual(['a', 'b', 'z']);
});

test('a list that changes between its pages has what is there throughout, once', async () => {
  await using upstream = await startRegistry({ tagPageSize: 2 });
  const clock = { nowMs: Date.now() };
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, now: () => clock.nowMs });
  addTags(upstream);
  const found: string[] = [];
  for (let next: string | undefined = `${path}?n=2`, page = 0; next !== undefined; page += 1) {
    const reply = await site.get(next);
    found.push(...tagsOf(reply));
    next = nextOf(reply);
    upstream.addImage('library/app', `0-before-${page}`, { layers: [`${page}`] });
    upstream.addImage('library/app', `a-behind-${page}`, { layers: [`behind ${page}`] });
    clock.nowMs += 120_000;
  }
  expect(new Set(found).size).toBe(found.length);
  expect(found.filter((tag) => tags.includes(tag))).toEqual(tags);
});
