import { describe, expect, test } from 'vitest';
import type { GetOptions } from '../support/client.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

interface House extends AsyncDisposable {
  readonly hub: ScriptedRegistry;
  readonly quay: ScriptedRegistry;
  readonly site: TestSite;
}

/** Two upstreams that hold different images under the same name. */
async function startHouse(): Promise<House> {
  await using owned = new AsyncDisposableStack();
  const hub = owned.use(await startRegistry({ tagPageSize: 2 }));
  const quay = owned.use(await startRegistry({ tagPageSize: 2, linkStyle: 'absolute' }));
  const site = owned.use(
    await startTestSite({
      upstreams: {
        'docker.io': { urls: [hub.origin], aliases: ['index.docker.io', 'registry-1.docker.io'] },
        'quay.io': { urls: [quay.origin], hosts: ['quay.mirror.example'] },
      },
    }),
  );
  for (const [registry, name] of [
    [hub, 'hub'],
    [quay, 'quay'],
  ] as const) {
    for (const tag of ['1', '2', '3', '4', '5']) {
      registry.addImage('library/app', tag, { layers: [`${name} ${tag}`] });
      registry.addImage('a/b/c/d/e', tag, { layers: [`deep ${name} ${tag}`] });
    }
  }
  const held = owned.move();
  return { hub, quay, site, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** Ways to ask for `library/app` of quay.io: the path before and after the resource, and headers. */
const ways: { way: string; prefix: string; query: string; options: GetOptions }[] = [
  { way: 'ns', prefix: 'library/app', query: 'ns=quay.io', options: {} },
  { way: 'oci-ref-name', prefix: 'library/app', query: 'oci-ref-name=quay.io%2Flibrary%2Fapp', options: {} },
  { way: 'OCI-REF-NAME', prefix: 'library/app', query: '', options: { headers: { 'OCI-REF-NAME': 'quay.io' } } },
  { way: 'Host', prefix: 'library/app', query: '', options: { headers: { host: 'quay.mirror.example:5000' } } },
  { way: 'path', prefix: 'quay.io/library/app', query: '', options: {} },
  { way: 'path and ns', prefix: 'quay.io/library/app', query: 'ns=quay.io', options: {} },
];

describe.each(ways)('an upstream chosen by $way', ({ prefix, query, options }) => {
  const ask = query === '' ? '' : `?${query}`;

  test('gives its own image, digest and layers', async () => {
    await using house = await startHouse();
    const { site, quay, hub } = house;
    const manifest = await site.get(`/v2/${prefix}/manifests/1${ask}`, options);
    expect(manifest.sha256).toBe(quay.manifest('library/app', '1')?.digest);
    const { layers } = JSON.parse(manifest.body.toString()) as { layers: { digest: string }[] };
    const layer = await site.get(`/v2/${prefix}/blobs/${layers[0]?.digest}${ask}`, options);
    expect(layer.body.toString()).toBe('quay 1');
    expect(layer.headers['oci-namespace']).toBe(query.startsWith('ns') ? 'quay.io' : undefined);
    expect(hub.requests).toEqual([]);
    for (const request of quay.requests) {
      expect(request.query.size).toBe(0);
      expect(request.headers['oci-ref-name']).toBeUndefined();
    }
  });

  test('pages its tags so that the same way leads to the end', async () => {
    await using house = await startHouse();
    const found: string[] = [];
    let next: string | undefined = `/v2/${prefix}/tags/list?n=2${query === '' ? '' : `&${query}`}`;
    for (let page = 0; next !== undefined && page < 9; page += 1) {
      const reply = await house.site.get(next, options);
      expect(reply.status).toBe(200);
      found.push(...(JSON.parse(reply.body.toString()) as { tags: string[] }).tags);
      const link: string | undefined = /^<([^>]+)>; rel="next"$/.exec(String(reply.headers.link))?.[1];
      if (link !== undefined) expect(link).toMatch(new RegExp(`^/v2/${prefix}/tags/list\\?`));
      next = link;
    }
    expect(found).toEqual(['1', '2', '3', '4', '5']);
    expect(house.quay.requests.some((request) => request.query.has('ns') || request.query.has('oci-ref-name'))).toBe(
      false,
    );
    expect(house.hub.requests).toEqual([]);
  });
});

test('all spellings of docker.io are one upstream and one cache entry', async () => {
  await using house = await startHouse();
  const { site, hub } = house;
  const digest = hub.manifest('library/app', '1')?.digest;
  for (const path of [
    '/v2/app/manifests/1',
    '/v2/library/app/manifests/1',
    '/v2/library/app/manifests/1?ns=docker.io',
    '/v2/app/manifests/1?ns=registry-1.docker.io',
    '/v2/docker.io/app/manifests/1?ns=index.docker.io',
    '/v2/index.docker.io/library/app/manifests/1',
    '/v2/app/manifests/1?oci-ref-name=docker.io/app',
  ]) {
    expect(await site.get(path)).toMatchObject({ status: 200, sha256: digest });
  }
  expect(hub.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(['GET /v2/library/app/manifests/1']);
});

test('a repository of five parts is no more than a repository', async () => {
  await using house = await startHouse();
  const reply = await house.site.get('/v2/a/b/c/d/e/manifests/1?ns=quay.io');
  expect(reply.sha256).toBe(house.quay.manifest('a/b/c/d/e', '1')?.digest);
});

test.each([
  ['ns=docker.io&ns=quay.io', {}],
  ['ns=docker.io&oci-ref-name=quay.io/library/app', {}],
  ['oci-ref-name=docker.io/library/app&oci-ref-name=quay.io/library/app', {}],
  ['oci-ref-name=quay.io/library/other', {}],
  ['ns=docker.io', { 'OCI-REF-NAME': 'quay.io' }],
  ['ns=', {}],
])('%s is a contradiction: 400 that names both, and no upstream is asked', async (query, headers) => {
  await using house = await startHouse();
  const reply = await house.site.get(`/v2/library/app/manifests/1?${query}`, { headers });
  expect(reply.status).toBe(400);
  expect(JSON.parse(reply.body.toString())).toMatchObject({ errors: [{ code: 'NAME_INVALID' }] });
  expect([...house.hub.requests, ...house.quay.requests]).toEqual([]);
});

test.each([
  ['/v2/library/app/manifests/1?ns=evil.example', {}],
  ['/v2/library/app/manifests/1?ns=127.0.0.1:80', {}],
  ['/v2/library/app/manifests/1', { 'OCI-REF-NAME': 'evil.example/library/app:1' }],
  ['/v2/evil.example/library/app/manifests/1', {}],
  ['/v2/localhost:5000/app/manifests/1', {}],
])('%s names no upstream in the table: 404 that says so, and none is asked', async (path, headers) => {
  await using house = await startHouse();
  const reply = await house.site.get(path, { headers });
  expect(reply.status).toBe(404);
  expect(JSON.parse(reply.body.toString())).toMatchObject({ errors: [{ code: 'NAME_UNKNOWN' }] });
  expect(reply.headers['oci-namespace']).toBeUndefined();
  expect([...house.hub.requests, ...house.quay.requests]).toEqual([]);
});
