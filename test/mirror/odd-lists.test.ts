import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { json } from '../support/client.ts';
import { startTestSite } from '../support/site.ts';

/** A registry with one page of tags for each query; `last` of any other query is unknown to it. */
async function startLists(answer: (page: string, response: ServerResponse, origin: string) => unknown) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', origin);
    if (pathname === '/v2/') return response.end('{}');
    asked.push(request.url ?? '');
    return answer(searchParams.get('page') ?? '1', response, origin);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const tags = (...names: string[]) => JSON.stringify({ name: 'library/app', tags: names });
const path = '/v2/library/app/tags/list';

test.each<[string, string, readonly string[]]>([
  ['a name in capitals', JSON.stringify({ Name: 'library/app', Tags: ['a', 'b'] }), ['a', 'b']],
  ['null', '{"name":"library/app","tags":null}', []],
  ['null in capitals', '{"name":"library/app","TAGS":null}', []],
  ['no tags', '{"name":"library/app"}', []],
  ['no name', '{"tags":["b","a"]}', ['a', 'b']],
  ['a name that is null', '{"name":null,"tags":["a"]}', ['a']],
  ['another name', '{"name":"other","tags":["a"]}', ['a']],
  ['a byte order mark', `\uFEFF${tags('a')}`, ['a']],
  ['lines around it', `\r\n${tags('a')}\r\n`, ['a']],
  ['the same tag twice', tags('b', 'a', 'b'), ['a', 'b']],
  ['what other registries add', '{"child":[],"manifest":{},"name":"a","tags":["a"],"errors":null}', ['a']],
])('a list with %s is read', async (_, body, expected) => {
  await using upstream = await startLists((__, response) => response.end(body));
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const reply = await site.get(path);
  expect([reply.status, json(reply)]).toEqual([200, { name: 'library/app', tags: expected }]);
});

test.each<[string, (origin: string) => string | string[]]>([
  ['relative', () => '</v2/library/app/tags/list?page=2>; rel="next"'],
  ['a query alone', () => '<?page=2>; rel="next"'],
  ['relative to the list', () => '<list?page=2>; rel="next"'],
  ['absolute', (origin) => `<${origin}/v2/library/app/tags/list?page=2>; rel="next"`],
  ['absolute to another host', () => '<https://registry.internal/v2/library/app/tags/list?page=2>; rel="next"'],
  ['by http behind a proxy', () => '<http://registry.example/v2/library/app/tags/list?page=2>; rel="next"'],
  ['of a path of its own', () => '</api/docker/hub/v2/library/app/tags/list?page=2>; rel="next"'],
  ['without rel', () => '</v2/library/app/tags/list?page=2>'],
  ['without rel, and with a title', () => '</v2/library/app/tags/list?page=2>; title="more"'],
  ['with rel in no quotation marks', () => '</v2/library/app/tags/list?page=2>;rel=next'],
  ['with rel in capitals', () => '</v2/library/app/tags/list?page=2>; REL="NEXT"'],
  ['with several relations', () => '</v2/library/app/tags/list?page=2>; rel="last next"'],
  [
    'after that of the first page',
    () => '</v2/library/app/tags/list?page=1>; rel="first", </v2/library/app/tags/list?page=2>; rel="next"',
  ],
  [
    'in a header of its own',
    () => ['</v2/library/app/tags/list?page=1>; rel="first"', '</v2/library/app/tags/list?page=2>; rel="next"'],
  ],
])('the next page is found where its link is %s', async (_, link) => {
  await using upstream = await startLists((page, response, origin) => {
    if (page === '2') return response.end(tags('c'));
    return response.writeHead(200, { link: link(origin) }).end(tags('b', 'a'));
  });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  expect(json(await site.get(path))).toMatchObject({ tags: ['a', 'b', 'c'] });
});

test.each<[string, (page: string) => { readonly link?: string; readonly body: string }, readonly string[]]>([
  ['leads back to itself', () => ({ link: '</v2/library/app/tags/list?page=1>; rel="next"', body: tags('a') }), ['a']],
  [
    'leads back to an earlier page',
    (page) => ({ link: `<?page=${page === '2' ? '1' : '2'}>; rel="next"`, body: tags(`on-${page}`) }),
    ['on-1', 'on-2'],
  ],
  [
    'gives the same tags on each page',
    (page) => ({ ...(page === '1' && { link: '<?page=2>; rel="next"' }), body: tags('a', 'b') }),
    ['a', 'b'],
  ],
  [
    'gives an empty page in the middle',
    (page) => ({
      ...(page !== '3' && { link: `<?page=${Number(page) + 1}>; rel="next"` }),
      body: page === '2' ? '{"name":"a","tags":null}' : tags(`on-${page}`),
    }),
    ['on-1', 'on-3'],
  ],
  ['has a link that leads nowhere', () => ({ link: '<>; rel="next"', body: tags('a') }), ['a']],
  ['has a link to what is before', () => ({ link: '<?page=2>; rel="prev"', body: tags('a') }), ['a']],
])('a registry that %s gives all that it has, once', async (_, answer, expected) => {
  await using upstream = await startLists((page, response) => {
    const { link, body } = answer(page);
    return response.writeHead(200, link === undefined ? {} : { link }).end(body);
  });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const reply = await site.get(path);
  expect(json(reply)).toMatchObject({ tags: expected });
  expect(reply.headers.link).toBeUndefined();
  expect(upstream.asked.length).toBeLessThanOrEqual(5);
});
