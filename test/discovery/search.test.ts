import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { pushImage, send } from '../hosted/support.ts';
import { json } from '../support/client.ts';
import { localArtifact, localChart, localImage } from '../support/images.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

interface Result {
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: string;
  readonly type: string;
  readonly size: number;
  readonly platforms: readonly string[];
  readonly pulls: number;
  readonly pulled: string | null;
}

interface Page {
  readonly results: readonly Result[];
  readonly next?: string;
  readonly complete: boolean;
}

const hosted = { repositories: ['local/**', 'charts/**'] };

async function search(site: TestSite, query: string, base = '/v2'): Promise<Page> {
  const reply = await site.get(`${base}/_millpond/search?${query}`);
  expect(reply.status, reply.body.toString()).toBe(200);
  expect(reply.headers['content-type']).toBe('application/vnd.millpond.search.v1+json');
  return json<Page>(reply);
}

const nameOf = ({ repository, tag, digest }: Result): string =>
  `${repository}${tag === null ? `@${digest}` : `:${tag}`}`;
const namesOf = async (site: TestSite, query: string, base?: string): Promise<string[]> =>
  (await search(site, query, base)).results.map(nameOf);
/** The index is a moment behind. */
const expectNames = (site: TestSite, query: string, base?: string) => expect.poll(() => namesOf(site, query, base));

describe('a search', () => {
  let upstream: ScriptedRegistry;
  let site: TestSite;
  beforeAll(async () => {
    upstream = await startRegistry();
    site = await startTestSite({ upstreams: { 'docker.io': upstream, 'quay.io': upstream }, config: { hosted } });
    for (const tag of ['1.9.0', '1.10.0', '1.10.0-rc.1', 'latest']) {
      upstream.addImage('library/nginx', tag, { layers: [tag] });
      await site.get(`/v2/library/nginx/manifests/${tag}`);
    }
    const child = upstream.addImage('org/tool', undefined, { layers: ['arm'] });
    const index = upstream.addIndex('org/tool', '2', [
      { manifest: child, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
    ]);
    const signature = upstream.addReferrer('org/tool', index, {
      artifactType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    });
    for (const reference of ['2', child.digest, signature.digest]) {
      await site.get(`/v2/quay.io/org/tool/manifests/${reference}`);
    }
    await pushImage(site, 'charts/app', localChart('app'), '0.1.0');
    await pushImage(site, 'charts/app', localImage({ label: 'an image beside it' }), '0.0.9');
    await pushImage(
      site,
      'local/notes',
      localArtifact({
        artifactType: 'application/vnd.example.notes',
        annotations: { 'org.opencontainers.image.title': 'Meeting in Zürich' },
      }),
      'monday',
    );
    await vi.waitFor(
      async () => {
        const { results } = await search(site, '');
        expect(results).toHaveLength(9);
        expect(results.reduce((sum, { pulls }) => sum + pulls, 0)).toBe(6);
      },
      { timeout: 180_000 },
    );
  });
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
  });

  test.each([
    [
      'q=nginx&sort=version',
      [
        'docker.io/library/nginx:latest',
        'docker.io/library/nginx:1.9.0',
        'docker.io/library/nginx:1.10.0-rc.1',
        'docker.io/library/nginx:1.10.0',
      ],
    ],
    ['q=ngi&sort=-version&n=1', ['docker.io/library/nginx:1.10.0']],
    ['q=nginx+1.10&sort=name', ['docker.io/library/nginx:1.10.0', 'docker.io/library/nginx:1.10.0-rc.1']],
    ['q=zürich', ['local/notes:monday']],
    ['q=ZÜR meeting', ['local/notes:monday']],
    ['q=nothing+like+this', []],
    ['q=%22+AND+nginx*', []],
    ['type=helm', ['charts/app:0.1.0']],
    ['type=index', ['quay.io/org/tool:2']],
    ['type=image&q=quay', ['quay.io/org/tool:2']],
    ['type=helm,index&sort=-name', ['quay.io/org/tool:2', 'charts/app:0.1.0']],
    ['artifactType=application/vnd.example.notes', ['local/notes:monday']],
    ['type=application/vnd.example.notes', ['local/notes:monday']],
    ['platform=linux/arm64', ['quay.io/org/tool:2']],
    ['platform=linux/arm64/v8', ['quay.io/org/tool:2']],
    ['platform=linux/arm64/v9', []],
    ['repository=charts/app&sort=-version', ['charts/app:0.1.0', 'charts/app:0.0.9']],
    ['repository=library/nginx&latest=1', ['docker.io/library/nginx:1.10.0']],
    ['repository=nginx&latest=1', ['docker.io/library/nginx:1.10.0']],
    ['repository=ginx', []],
    ['maxSize=1B', []],
    ['since=2001-01-01&until=2001-02-01', []],
    ['since=1h&type=helm&time=cached', ['charts/app:0.1.0']],
    ['since=1h&type=helm&time=created', []],
  ])('for %s', async (query, names) => {
    expect(await namesOf(site, query)).toEqual(names);
  });

  test('finds a signature by its short name, and everything by a digest or how one begins', async () => {
    const { results } = await search(site, 'type=signature');
    expect(results).toEqual([
      expect.objectContaining({ repository: 'quay.io/org/tool', tag: null, type: 'signature' }),
    ]);
    const [nginx] = (await search(site, 'q=nginx&sort=-version')).results;
    for (const digest of [nginx!.digest, nginx!.digest.slice(7, 19), nginx!.digest.slice(0, 15)]) {
      expect(await namesOf(site, `digest=${digest}`)).toEqual(['docker.io/library/nginx:1.10.0']);
    }
    const pulls = async (): Promise<number> => (await search(site, 'repository=org/tool&type=index')).results[0]!.pulls;
    const before = await pulls();
    const index = await site.get('/v2/quay.io/org/tool/manifests/2');
    // Pages that are sorted by pulls stay as they are only while none is counted.
    await expect.poll(pulls).toBe(before + 1);
    const [child] = json<{ manifests: { digest: string }[] }>(index).manifests;
    expect(await namesOf(site, `digest=${child!.digest}`)).toEqual(['quay.io/org/tool:2']);
  });

  test.each(['name', 'version', 'date', 'size', 'pulls', 'created', 'changed', 'cached', 'pulled'])(
    'sorted by %s, in pages of any size and both ways, has everything once',
    async (sort) => {
      const all = await namesOf(site, `sort=${sort}`);
      expect(new Set(all).size).toBe(9);
      for (const [order, expected] of [
        [sort, all],
        [`-${sort}`, all.toReversed()],
      ] as const) {
        const found: string[] = [];
        let next: string | undefined = `/v2/_millpond/search?sort=${order}&n=2`;
        while (next !== undefined) {
          const reply = await site.get(next);
          found.push(...json<Page>(reply).results.map(nameOf));
          next = /^<([^>]+)>; rel="next"$/.exec(String(reply.headers.link))?.[1];
        }
        expect(found).toEqual(expected);
      }
    },
  );

  test('of a repository has what is in it alone', async () => {
    expect(await namesOf(site, 'type=image,index', '/v2/org/tool')).toEqual([]);
    expect(await namesOf(site, 'type=image', '/v2/charts/app')).toEqual(['charts/app:0.0.9']);
    expect(await namesOf(site, 'q=1.9', '/v2/library/nginx')).toEqual(['docker.io/library/nginx:1.9.0']);
    expect((await site.get('/v2/nginx/_millpond/search?ns=docker.io&n=1')).status).toBe(200);
  });

  test('counts pulls by tag and by digest', async () => {
    for (let time = 0; time < 3; time += 1) await site.get('/v2/local/notes/manifests/monday');
    await expect.poll(async () => (await search(site, 'q=monday')).results.map(({ pulls }) => pulls)).toEqual([3]);
    const [notes] = (await search(site, 'q=monday')).results;
    expect(Date.parse(notes!.pulled!)).toBeGreaterThan(0);
    await site.get(`/v2/local/notes/manifests/${notes!.digest}`);
    await expect
      .poll(async () => (await search(site, 'sort=-pulls&n=1')).results)
      .toEqual([expect.objectContaining({ repository: 'local/notes', pulls: 4 })]);
  });

  test.each([
    'sort=nothing',
    'time=eaten',
    'since=yesterday',
    'minSize=large',
    'digest=xyz',
    'n=many',
    'next=abc',
    'type=nonsense',
    'latest=maybe',
    `q=${'x '.repeat(300)}`,
    // A large cache would look for each of them in every entry.
    `mediaType=${Array.from({ length: 51 }, (_, at) => `a/${at}`).join(',')}`,
    `artifactType=a/${'x'.repeat(300)}`,
    `platform=${'x'.repeat(301)}`,
    `repository=${'x'.repeat(301)}`,
  ])('that cannot be read is UNSUPPORTED, naming the parameter: %s', async (query) => {
    const reply = await site.get(`/v2/_millpond/search?${query}`);
    expect(reply.status).toBe(400);
    const [name] = query.split('=', 1);
    expect(json(reply)).toMatchObject({ errors: [{ code: 'UNSUPPORTED', detail: { parameter: name } }] });
  });

  test('knows the short names that it serves', async () => {
    const reply = await site.get('/v2/_millpond/types');
    const { types } = json<{ types: { name: string; displayName: string; tool: string }[] }>(reply);
    for (const name of [
      'image',
      'index',
      'helm',
      'cnab',
      'wasm',
      'sbom',
      'signature',
      'attestation',
      'singularity',
      'opa',
    ]) {
      expect(types.find((type) => type.name === name)).toMatchObject({
        displayName: expect.any(String) as string,
        tool: expect.any(String) as string,
      });
      expect((await site.get(`/v2/_millpond/search?type=${name}`)).status).toBe(200);
    }
  });
});

describe('what is gone', () => {
  test('is found no more at once: deleted, moved, or not allowed any more; also after a restart and without the index', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    upstream.addImage('library/app', '1');
    upstream.addImage('library/other', '1', { layers: ['other'] });
    const options = { upstreams: { 'docker.io': upstream }, config: { hosted }, cacheDir: folder.path };
    const image = localImage({ label: 'one' });
    {
      await using site = await startTestSite(options);
      for (const name of ['app', 'other']) await site.get(`/v2/library/${name}/manifests/1`);
      for (const tag of ['1', '2']) await pushImage(site, 'local/app', image, tag);
      await expectNames(site, '').toEqual([
        'docker.io/library/app:1',
        'docker.io/library/other:1',
        'local/app:1',
        'local/app:2',
      ]);
      await send(site, ['DELETE', '/v2/local/app/manifests/1']);
      expect(await namesOf(site, 'q=local')).toEqual(['local/app:2']);
      await pushImage(site, 'local/app', localImage({ label: 'two' }), '2');
      // What no tag leads to is found by its digest.
      await expectNames(site, 'q=local').toEqual(['local/app:2', `local/app@${image.digest}`]);
      await send(site, ['DELETE', `/v2/local/app/manifests/${image.digest}`]);
      expect(await namesOf(site, 'q=local')).toEqual(['local/app:2']);
    }
    const upstreams = { 'docker.io': { urls: [upstream.origin], repositories: { deny: ['library/other'] } } };
    await using site = await startTestSite({ ...options, upstreams });
    await expectNames(site, '').toEqual(['docker.io/library/app:1', 'local/app:2']);
  });
});
