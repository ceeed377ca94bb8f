import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isExtensionName, parseExtensionPath } from '../../src/oci/extension-path.ts';
import { pushImage, send } from '../hosted/support.ts';
import { json } from '../support/client.ts';
import { fuzz, textOf } from '../support/fuzz.ts';
import { localImage } from '../support/images.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

interface Discovery {
  readonly extensions: readonly { name: string; url: string; description: string; endpoints: string[] }[];
}

let upstream: ScriptedRegistry;
let site: TestSite;
beforeAll(async () => {
  upstream = await startRegistry();
  site = await startTestSite({
    upstreams: { 'docker.io': upstream },
    config: { hosted: { repositories: ['local/**'] } },
  });
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

describe('discovery of extensions', () => {
  test.each([
    ['the registry', '/v2', ''],
    ['a repository of the default upstream', '/v2/library/app', ''],
    ['a repository by its path prefix', '/v2/docker.io/library/app', ''],
    ['a repository by ns', '/v2/library/app', '?ns=docker.io'],
    ['a hosted repository', '/v2/local/app', ''],
  ])('lists those of %s, and each endpoint is there', async (_, base, query) => {
    const reply = await site.get(`${base}/_oci/ext/discover${query}`);
    expect(reply).toMatchObject({ status: 200, complete: true });
    expect(reply.headers['content-type']).toBe('application/json');
    const { extensions } = json<Discovery>(reply);
    expect(extensions.map(({ name }) => name)).toContain('_oci');
    for (const { name, url, description, endpoints } of extensions) {
      expect(name).toMatch(/^_[a-z]+$/);
      expect(url).not.toBe('');
      expect(description).not.toBe('');
      expect(endpoints.length).toBeGreaterThan(0);
      for (const endpoint of endpoints) {
        expect(endpoint.startsWith(`${base}/${name}/`)).toBe(true);
        const other = await site.get(`${endpoint}${query}`, { method: 'PROPFIND' });
        expect(other.status, endpoint).toBe(405);
        if (endpoint.includes('<') || other.headers.allow?.includes('GET') !== true) continue;
        expect((await site.get(`${endpoint}${query}`)).status, endpoint).toBe(200);
      }
    }
  });

  test('lists what is for hosted repositories alone with them alone', async () => {
    const endpointsOf = async (base: string) => {
      const { extensions } = json<Discovery>(await site.get(`${base}/_oci/ext/discover`));
      return extensions.flatMap(({ endpoints }) => endpoints);
    };
    expect(await endpointsOf('/v2/local/app')).toContain('/v2/local/app/_millpond/manifests/tags');
    expect(await endpointsOf('/v2/library/app')).not.toContain('/v2/library/app/_millpond/manifests/tags');
  });

  test('of the registry leads to the document of the extension', async () => {
    const { extensions } = json<Discovery>(await site.get('/v2/_oci/ext/discover'));
    const own = extensions.find(({ name }) => name === '_millpond');
    const document = await site.get(own!.url);
    expect(document.headers['content-type']).toBe('text/markdown; charset=utf-8');
    expect(document.body.toString()).toContain('# `_millpond`');
  });

  test('of a repository of an unknown registry is NAME_UNKNOWN', async () => {
    const reply = await site.get('/v2/library/app/_oci/ext/discover?ns=evil.example');
    expect(reply.status).toBe(404);
    expect(json(reply)).toMatchObject({ errors: [{ code: 'NAME_UNKNOWN' }] });
  });
});

describe('an extension that is not there', () => {
  test.each([
    ['/v2/_unknown/ext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/library/app/_unknown/ext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/local/app/_unknown/ext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/_zot/ext/search', 'EXTENSION_UNKNOWN'],
    ['/v2/_millpond/unknown', 'EXTENSION_UNKNOWN'],
    ['/v2/_millpond', 'EXTENSION_UNKNOWN'],
    ['/v2/_millpond/', 'EXTENSION_UNKNOWN'],
    ['/v2/_/ext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/__oci/ext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/_OCI/ext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/_oci%2fext/discover', 'EXTENSION_UNKNOWN'],
    ['/v2/_oci/ext', 'UNSUPPORTED'],
    ['/v2/_oci/ext/discover/', 'UNSUPPORTED'],
    ['/v2/_oci/ext/other', 'UNSUPPORTED'],
    ['/v2/library/app/_oci/tag-history/latest', 'UNSUPPORTED'],
    ['/v2/_oci/../ext/discover', 'UNSUPPORTED'],
  ])('%s is 404 %s', async (path, code) => {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const { status, body } = await send(site, [method, path]).catch(() => ({ status: 0, body: Buffer.from('{}') }));
      // A client of our own normalises "..".
      if (path.includes('..')) continue;
      expect(status, method).toBe(404);
      expect(JSON.parse(body.toString()), method).toMatchObject({ errors: [{ code }] });
    }
  });

  test('leaves tags and repositories whose names only look like it alone', async () => {
    const image = localImage({ label: 'underscore' });
    expect((await pushImage(site, 'local/app', image, '_tag')).status).toBe(201);
    expect((await site.get('/v2/local/app/manifests/_tag')).sha256).toBe(image.digest);
    upstream.addImage('library/app', '_tag');
    expect((await site.get('/v2/library/app/manifests/_tag')).status).toBe(200);
    expect((await send(site, ['POST', '/v2/_local/app/blobs/uploads/'])).status).toBe(404);
  });
});

describe('the path of an extension', () => {
  const part = textOf('_', 'oci', 'ext', '.', '-', '__', '%2f', 'A', '\u0000', '..', '~');
  const path = fc.array(part, { maxLength: 6 }).map((parts) => `/v2/${parts.join('/')}`);

  test('has names by the grammar, or none; no part before the extension begins with an underscore', async () => {
    await fuzz([path], (text) => {
      const found = parseExtensionPath(text);
      if (found === undefined) return;
      const { name, extension, component } = found;
      expect(name ?? '').not.toMatch(/(?:^|\/)_/);
      if (extension !== undefined) expect(extension).toMatch(/^_[a-z0-9]+(?:[._-][a-z0-9]+)*$/);
      if (component !== undefined) expect(isExtensionName(component)).toBe(true);
      const levels = name === undefined ? '/v2/_' : `/v2/${name}/_`;
      expect(text.startsWith(levels)).toBe(true);
    });
  });

  test('that a client makes up is answered with 4xx or discovery, and never asked of an upstream', async () => {
    const before = upstream.requests.length;
    await fuzz([path], async (text) => {
      const target = encodeURI(text);
      if (parseExtensionPath(target) === undefined) return;
      const { status } = await send(site, ['GET', target]);
      expect([200, 400, 404]).toContain(status);
    });
    expect(upstream.requests.length).toBe(before);
  });

  test.each([
    ['a', true],
    ['a.b-c_d', true],
    ['', false],
    ['-a', false],
    ['a-', false],
    ['a--b', false],
    ['A', false],
    ['a'.repeat(128), true],
    ['a'.repeat(129), false],
  ])('has the name %s: %s', (name, isName) => {
    expect(isExtensionName(name)).toBe(isName);
  });
});
