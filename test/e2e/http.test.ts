import { afterAll, beforeAll, expect, test } from 'vitest';
import { get, head } from '../support/client.ts';
import { showOutputOnFailure } from '../support/processes.ts';
import { describeWith } from '../support/tools.ts';
import { repository, type Site, startSite, tag } from './site.ts';

describeWith(['docker-registry'], 'a plain HTTP client', () => {
  let site: Site;
  beforeAll(async () => {
    site = await startSite();
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
  });
  showOutputOnFailure(() => [site]);

  const ways: readonly {
    way: string;
    to: 'docker.io' | 'quay.io';
    query?: string;
    prefix?: string;
    headers?: Record<string, string>;
  }[] = [
    { way: 'ns', to: 'docker.io', query: '?ns=docker.io' },
    { way: 'ns', to: 'quay.io', query: '?ns=quay.io' },
    { way: 'ns by an alias', to: 'docker.io', query: '?ns=registry-1.docker.io' },
    { way: 'oci-ref-name', to: 'docker.io', query: `?oci-ref-name=docker.io/${repository}` },
    { way: 'oci-ref-name', to: 'quay.io', query: `?oci-ref-name=quay.io/${repository}` },
    { way: 'OCI-REF-NAME', to: 'docker.io', headers: { 'OCI-REF-NAME': `docker.io/${repository}` } },
    { way: 'OCI-REF-NAME of the host alone', to: 'quay.io', headers: { 'OCI-REF-NAME': 'quay.io' } },
    { way: 'Host', to: 'docker.io', headers: { Host: 'docker.mirror.test' } },
    { way: 'Host', to: 'quay.io', headers: { Host: 'quay.mirror.test' } },
    { way: 'path prefix', to: 'docker.io', prefix: 'docker.io/' },
    { way: 'path prefix', to: 'quay.io', prefix: 'quay.io/' },
    { way: 'ns with the same path prefix', to: 'quay.io', prefix: 'quay.io/', query: '?ns=quay.io' },
    { way: 'default', to: 'docker.io' },
  ];

  test.each(ways)('gets the image of $to by $way', async ({ to, query = '', prefix = '', headers = {} }) => {
    const { image, registry } = to === 'docker.io' ? site.docker : site.quay;
    const base = `${site.front.origin}/v2/${prefix}${repository}`;
    const accept = { accept: image.mediaType };
    const upstream = await get(`${registry.origin}/v2/${repository}/manifests/${tag}`, { headers: accept });
    const manifest = await get(`${base}/manifests/${tag}${query}`, { headers: { ...headers, ...accept } });
    expect(manifest).toMatchObject({ status: 200, sha256: upstream.sha256 });
    expect(manifest.headers['content-type']).toBe(upstream.headers['content-type']);
    expect(manifest.headers['docker-content-digest']).toBe(image.digest);
    for (const blob of image.blobs) {
      const known = await head(`${base}/blobs/${blob.digest}${query}`, { headers });
      expect(known).toMatchObject({ status: 200, headers: { 'content-length': String(blob.size) } });
      expect(await get(`${base}/blobs/${blob.digest}${query}`, { headers })).toMatchObject({
        status: 200,
        complete: true,
        sha256: blob.digest,
      });
    }
  });

  test('is not given the other registry\u2019s blobs under the same repository name', async () => {
    const [, layer] = site.quay.image.blobs;
    const reply = await get(`${site.front.origin}/v2/${repository}/blobs/${layer?.digest}?ns=docker.io`);
    expect(reply.status).toBe(404);
  });

  test('after the first pull the upstreams are asked for no content again', async () => {
    for (const { name, image, proxy } of site.upstreams) {
      const references = [
        `manifests/${tag}`,
        `manifests/${image.digest}`,
        ...image.blobs.map((blob) => `blobs/${blob.digest}`),
      ];
      const pull = async (): Promise<void> => {
        for (const reference of references) {
          const url = `${site.front.origin}/v2/${repository}/${reference}?ns=${name}`;
          expect((await get(url)).status).toBe(200);
        }
      };
      await pull();
      expect(proxy.contentRequests().length).toBeGreaterThan(0);
      proxy.requests.length = 0;
      await pull();
      expect(proxy.contentRequests()).toEqual([]);
    }
  });
});
