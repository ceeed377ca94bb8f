import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { pushImage } from '../hosted/support.ts';
import { settled } from '../mirror/support.ts';
import { json, type Reply } from '../support/client.ts';
import { localImage } from '../support/images.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { describeWith, toolPath } from '../support/tools.ts';

const hosted = { repositories: ['local/**', 'registry.ours/**'] };

function start(upstream: ScriptedRegistry, names = ['docker.io', 'quay.io']): Promise<TestSite> {
  return startTestSite({
    upstreams: Object.fromEntries(names.map((name) => [name, upstream])),
    config: { hosted },
  });
}

const namesOf = (reply: Reply): string[] => json<{ repositories: string[] }>(reply).repositories;
const nextOf = ({ headers }: Reply): string | undefined => /^<([^>]+)>; rel="next"$/.exec(String(headers.link))?.[1];

async function allPages(site: TestSite, first: string): Promise<string[][]> {
  const pages: string[][] = [];
  for (let next: string | undefined = first; next !== undefined; ) {
    const reply = await site.get(next);
    expect(reply.status).toBe(200);
    pages.push(namesOf(reply));
    next = nextOf(reply);
  }
  return pages;
}

describe('GET /v2/_catalog', () => {
  test('lists what can be pulled from here, in byte order, by the path that pulls it', async () => {
    await using upstream = await startRegistry();
    await using site = await start(upstream);
    for (const name of ['library/app', 'a-b', 'a/b', 'a', 'asked']) upstream.addImage(name, '1');
    for (const path of ['library/app', 'quay.io/a/b', 'quay.io/a', 'quay.io/a-b']) {
      await site.get(`/v2/${path}/manifests/1`);
    }
    // Nothing of these is here: one was only asked about, one does not exist.
    await site.head('/v2/quay.io/asked/manifests/1');
    await site.get('/v2/quay.io/none/manifests/1');
    for (const name of ['local/x/y', 'local/x', 'local/x-y', 'local/x.y', 'local/x0', 'registry.ours/app'])
      await pushImage(site, name, localImage({ label: name }), '1');
    await settled(site);
    const listed = [
      'docker.io/library/app',
      'local/x',
      'local/x-y',
      'local/x.y',
      'local/x/y',
      'local/x0',
      'quay.io/a',
      'quay.io/a-b',
      'quay.io/a/b',
      'registry.ours/app',
    ];
    const reply = await site.get('/v2/_catalog');
    expect(reply).toMatchObject({ status: 200, complete: true });
    expect(reply.headers).toMatchObject({ 'content-type': 'application/json' });
    expect(namesOf(reply)).toEqual(listed);
    expect(reply.headers.link).toBeUndefined();
    expect((await site.head('/v2/_catalog')).headers['content-length']).toBe(reply.headers['content-length']);
    for (const name of listed) expect((await site.get(`/v2/${name}/manifests/1`)).status, name).toBe(200);
    for (const n of [1, 2, 3, 7]) {
      const pages = await allPages(site, `/v2/_catalog?n=${n}`);
      expect(pages.flat()).toEqual(listed);
      for (const page of pages.slice(0, -1)) expect(page).toHaveLength(n);
    }
    expect(namesOf(await site.get('/v2/_catalog?last=local/x.y&n=2'))).toEqual(['local/x/y', 'local/x0']);
    expect(namesOf(await site.get('/v2/_catalog?last=local/nothing'))).toEqual(listed.slice(1));
    const none = await site.get('/v2/_catalog?n=0');
    expect(namesOf(none)).toEqual([]);
    expect(none.headers.link).toBeUndefined();
  });

  test('lists one registry alone, by its own names, where ns or Host names it', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream, 'quay.io': { urls: [upstream.origin], hosts: ['quay.mirror.example'] } },
      config: { hosted },
    });
    for (const name of ['library/app', 'org/app', 'org/tool']) upstream.addImage(name, '1');
    for (const path of ['library/app', 'quay.io/org/app', 'quay.io/org/tool'])
      await site.get(`/v2/${path}/manifests/1`);
    await pushImage(site, 'registry.ours/app', localImage({ label: 'ours' }), '1');
    const first = await site.get('/v2/_catalog?ns=quay.io&n=1');
    expect(namesOf(first)).toEqual(['org/app']);
    expect(first.headers['oci-namespace']).toBe('quay.io');
    expect(nextOf(first)).toBe('/v2/_catalog?ns=quay.io&n=1&last=org%2Fapp');
    expect((await allPages(site, '/v2/_catalog?ns=quay.io&n=1')).flat()).toEqual(['org/app', 'org/tool']);
    expect(namesOf(await site.get('/v2/_catalog', { headers: { host: 'quay.mirror.example' } }))).toEqual([
      'org/app',
      'org/tool',
    ]);
    expect(namesOf(await site.get('/v2/_catalog?ns=docker.io'))).toEqual(['library/app']);
    expect(namesOf(await site.get('/v2/_catalog?ns=registry.ours'))).toEqual(['app']);
    const unknown = await site.get('/v2/_catalog?ns=evil.example');
    expect(unknown.status).toBe(404);
    expect(json(unknown)).toMatchObject({ errors: [{ code: 'NAME_UNKNOWN' }] });
  });

  test('lists nothing that may not be pulled any more', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    for (const name of ['library/app', 'library/other']) upstream.addImage(name, '1');
    {
      await using site = await startTestSite({
        upstreams: { 'docker.io': upstream, 'quay.io': upstream },
        cacheDir: folder.path,
      });
      for (const name of ['library/app', 'library/other', 'quay.io/library/app'])
        await site.get(`/v2/${name}/manifests/1`);
      expect(namesOf(await site.get('/v2/_catalog'))).toHaveLength(3);
    }
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], repositories: { deny: ['library/other'] } } },
      cacheDir: folder.path,
    });
    expect(namesOf(await site.get('/v2/_catalog'))).toEqual(['docker.io/library/app']);
  });

  test('lists what is there throughout once, whatever comes and goes between the pages', async () => {
    await using upstream = await startRegistry();
    await using site = await start(upstream);
    const stays = Array.from({ length: 12 }, (_, at) => `local/stays-${String.fromCodePoint(97 + at)}`);
    for (const name of stays) await pushImage(site, name, localImage({ label: name }), '1');
    const found: string[] = [];
    let next: string | undefined = '/v2/_catalog?n=3';
    for (let page = 0; next !== undefined; page += 1) {
      const reply = await site.get(next);
      found.push(...namesOf(reply));
      next = nextOf(reply);
      // One comes before the page, one behind all of them; the last one on the page goes.
      await pushImage(site, `local/stays-a-${page}`, localImage({ label: `before ${page}` }), '1');
      if (page < 3) await pushImage(site, `local/z${page}`, localImage({ label: `behind ${page}` }), '1');
      const last = found.at(-1)!;
      if (!stays.includes(last)) continue;
      const gone = await site.get(`/v2/${last}/manifests/1`, { method: 'DELETE' });
      expect(gone.status).toBe(202);
    }
    expect(new Set(found).size).toBe(found.length);
    expect(found.filter((name) => stays.includes(name))).toEqual(stays);
  });
});

describeWith(['oras'], 'oras', () => {
  test('lists the repositories of a mirror, page by page', async () => {
    await using upstream = await startRegistry();
    await using site = await start(upstream);
    const names = Array.from({ length: 5 }, (_, at) => `local/repository-${at}`);
    for (const name of names) await pushImage(site, name, localImage({ label: name }), '1');
    const { stdout } = await promisify(execFile)(toolPath('oras'), [
      'repo',
      'ls',
      '--plain-http',
      site.origin.slice(7),
    ]);
    expect(stdout.trim().split('\n')).toEqual(names);
  });
});
