import { describe, expect, test } from 'vitest';
import { json, type Reply } from '../support/client.ts';
import { startHostileRegistry } from '../support/hostile.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { clock } from './support.ts';

const tagsOf = (reply: Reply): string[] => json<{ tags: string[] }>(reply).tags;
const digestsOf = (reply: Reply): string[] =>
  json<{ manifests: { digest: string }[] }>(reply).manifests.map(({ digest }) => digest);

describe('a list of tags while the upstream is away', () => {
  test('is the last one, marked stale with its age, also after a restart', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    const time = clock();
    const options = { upstreams: { 'docker.io': upstream }, cacheDir: folder.path, now: time.now };
    for (const tag of ['1', '2', '3', '4', '5']) upstream.addImage('library/app', tag);
    {
      await using site = await startTestSite(options);
      await site.get('/v2/library/app/manifests/3');
      expect(tagsOf(await site.get('/v2/library/app/tags/list'))).toEqual(['1', '2', '3', '4', '5']);
    }
    await upstream.suspend();
    time.advance(90_000);
    await using site = await startTestSite(options);
    const stale = await site.get('/v2/library/app/tags/list');
    expect(tagsOf(stale)).toEqual(['1', '2', '3', '4', '5']);
    expect(stale.headers).toMatchObject({ age: '90', 'cache-status': 'millpond; hit; detail=stale' });
    expect(stale.headers['warning']).toMatch(/^299 - "/);
    const page = await site.get('/v2/library/app/tags/list?n=2&last=2');
    expect(tagsOf(page)).toEqual(['3', '4']);
    expect(page.headers.link).toContain('last=4');
    await upstream.resume();
  });

  test('that was never asked for says that it has only what is stored, and no tag that was only asked about', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const tag of ['1', '2', '3']) upstream.addImage('library/app', tag, { layers: [tag] });
    await site.get('/v2/library/app/manifests/2');
    await site.head('/v2/library/app/manifests/3');
    await upstream.suspend();
    const stale = await site.get('/v2/library/app/tags/list');
    expect(tagsOf(stale)).toEqual(['2']);
    expect(stale.headers['warning']).toContain('only what is stored here');
    await upstream.resume();
  });
});

describe('a list of referrers while the upstream is away', () => {
  test('is the last one, marked stale; an empty one too; a type is chosen from it here', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    const signature = upstream.addReferrer('library/app', image, { artifactType: 'application/signature' });
    const sbom = upstream.addReferrer('library/app', image, { artifactType: 'application/sbom' });
    const all = await site.get(`/v2/library/app/referrers/${image.digest}`);
    expect(digestsOf(all)).toEqual([signature.digest, sbom.digest]);
    expect(digestsOf(await site.get(`/v2/library/app/referrers/${sbom.digest}`))).toEqual([]);
    await upstream.suspend();
    const stale = await site.get(`/v2/library/app/referrers/${image.digest}`);
    expect(digestsOf(stale)).toEqual([signature.digest, sbom.digest]);
    expect(stale.headers).toMatchObject({ 'cache-status': 'millpond; hit; detail=stale' });
    expect(stale.headers['warning']).toMatch(/^299 - "/);
    const leaf = await site.get(`/v2/library/app/referrers/${sbom.digest}`);
    expect(leaf.status).toBe(200);
    expect(digestsOf(leaf)).toEqual([]);
    const chosen = await site.get(`/v2/library/app/referrers/${image.digest}?artifactType=application/sbom`);
    expect(digestsOf(chosen)).toEqual([sbom.digest]);
    await upstream.resume();
  });
});

test('n and last are applied here where the upstream ignores them', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const body = JSON.stringify({ name: 'library/app', tags: ['a', 'b', 'c', 'd', 'e'] });
  upstream.fault(/tags\/list/, { kind: 'status', status: 200, headers: { 'Content-Type': 'application/json' }, body });
  const page = await site.get('/v2/library/app/tags/list?n=2&last=b');
  expect(tagsOf(page)).toEqual(['c', 'd']);
  expect(page.headers.link).toMatch(/^<\/v2\/library\/app\/tags\/list\?n=2&last=d>; rel="next"$/);
  const end = await site.get('/v2/library/app/tags/list?n=2&last=d');
  expect(tagsOf(end)).toEqual(['e']);
  expect(end.headers.link).toBeUndefined();
});

test('sixty clients that want one long list at once cost the upstream one request', async () => {
  await using contents = await startRegistry();
  const all = Promise.withResolvers<void>();
  await using upstream = await startHostileRegistry(contents, 'long-list', { until: all.promise });
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const asked = Promise.all(
    Array.from({ length: 60 }, () => site.get('/v2/library/app/tags/list', { keepBody: false })),
  );
  const running = async (): Promise<string> => (await site.get('/metrics')).body.toString();
  await expect.poll(running).toContain('millpond_requests_running 60\n');
  all.resolve();
  const replies = await asked;
  const [first] = replies;
  expect(first!.receivedBytes).toBeGreaterThan(5_000_000);
  for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: first!.sha256 });
  expect(upstream.asked).toBe(1);
});

test('a client that names the registry by ns may have a manifest of which parts are missing, in an outage; others may not', async () => {
  await using upstream = await startRegistry();
  await using folder = await temporaryFolder();
  const time = clock();
  const image = upstream.addImage('library/app', '1', { layers: ['never pulled'] });
  const options = { upstreams: { 'docker.io': upstream }, cacheDir: folder.path, now: time.now };
  await using site = await startTestSite(options);
  for (const path of ['manifests/1', `blobs/${image.config.digest}`]) await site.get(`/v2/library/app/${path}`);
  await upstream.suspend();
  time.advance(120_000);
  const ours = await site.get('/v2/library/app/manifests/1?ns=docker.io');
  expect(ours).toMatchObject({ status: 200, sha256: image.digest });
  expect(ours.headers['warning']).toMatch(/^299 - "/);
  expect((await site.get(`/v2/library/app/manifests/${image.digest}?ns=docker.io`)).status).toBe(200);
  expect((await site.get(`/v2/library/app/blobs/${image.config.digest}?ns=docker.io`)).status).toBe(200);
  expect((await site.get('/v2/library/app/manifests/1')).status).toBe(502);
  await upstream.resume();
});

describe('a signature that was verified through the mirror', () => {
  test.each([
    ['with a subject', { artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json' }],
    ['by tag', undefined],
  ] as const)(
    '%s can be verified again while the upstream is away, though its config was never read',
    async (_, type) => {
      await using upstream = await startRegistry();
      await using folder = await temporaryFolder();
      const image = upstream.addImage('library/app', '1');
      const layers = ['a signature'];
      const layerMediaType = 'application/vnd.dev.cosign.simplesigning.v1+json';
      const tag = `sha256-${image.digest.slice(7)}.sig`;
      const signature = type
        ? upstream.addReferrer('library/app', image, { ...type, layers, layerMediaType })
        : upstream.addImage('library/app', tag, { layers, layerMediaType, config: '{"rootfs":{}}' });
      const paths = [
        `manifests/${type ? signature.digest : tag}`,
        `manifests/${signature.digest}`,
        `blobs/${signature.layers[0]!.digest}`,
      ];
      const options = { upstreams: { 'docker.io': upstream }, cacheDir: folder.path };
      {
        await using site = await startTestSite(options);
        for (const path of paths) expect((await site.get(`/v2/library/app/${path}`)).status).toBe(200);
      }
      await using site = await startTestSite({ ...options, config: { offline: true } });
      for (const path of paths) expect((await site.get(`/v2/library/app/${path}`)).status).toBe(200);
    },
  );
});
