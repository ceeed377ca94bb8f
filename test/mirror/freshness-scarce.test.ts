import { describe, expect, test } from 'vitest';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { clock, settled } from './support.ts';

const tagPath = '/v2/library/app/manifests/v1';
const second = 1000;

function asked({ requests }: ScriptedRegistry): string[] {
  return requests.map(({ method, path }) => `${method} ${path.replace('/v2/library/app/', '')}`);
}

describe('an upstream that has few pulls left for us', () => {
  const config = { cache: { tagTtl: '60s', staleIfError: '1h' } };
  const start = async (remaining: number) => {
    const upstream = await startRegistry({ headers: { 'ratelimit-remaining': `${remaining};w=21600` } });
    const time = clock();
    const site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], rateLimitFloor: 10 } },
      config,
      now: time.now,
    });
    return { upstream, site, ...time };
  };

  test('is asked by HEAD what a tag is, but a newer manifest is not fetched while an older one is here', async () => {
    const { upstream, site, advance } = await start(10);
    await using _upstream = upstream;
    await using _site = site;
    const old = upstream.addImage('library/app', 'v1', { layers: ['old'] });
    await site.get(tagPath);
    upstream.addImage('library/app', 'v1', { layers: ['new'] });
    advance(61 * second);
    upstream.forgetRequests();
    for (const answer of [await site.get(tagPath), await site.head(tagPath)]) {
      expect(answer.status).toBe(200);
      expect(answer.headers['docker-content-digest']).toBe(old.digest);
      expect(answer.headers['cache-status']).toBe('millpond; hit; detail=stale');
      expect(answer.headers['age']).toBe('61');
      expect(answer.headers['warning']).toContain('few pulls are left at docker.io');
    }
    expect(asked(upstream)).toEqual(['HEAD manifests/v1', 'HEAD manifests/v1']);
  });

  test('is not spared a pull where a HEAD says nothing and nothing older is here', async () => {
    const { upstream, site } = await start(10);
    await using _upstream = upstream;
    await using _site = site;
    const first = upstream.addImage('library/app', 'v1');
    expect(await site.get(tagPath)).toMatchObject({ status: 200, sha256: first.digest });
    const other = upstream.addImage('library/app', 'v2', { layers: ['other'] });
    expect(await site.get('/v2/library/app/manifests/v2')).toMatchObject({ status: 200, sha256: other.digest });
  });

  test('is asked for the newer manifest again when it has pulls enough', async () => {
    const { upstream, site, advance } = await start(11);
    await using _upstream = upstream;
    await using _site = site;
    upstream.addImage('library/app', 'v1', { layers: ['old'] });
    await site.get(tagPath);
    const image = upstream.addImage('library/app', 'v1', { layers: ['new'] });
    advance(61 * second);
    expect(await site.get(tagPath)).toMatchObject({ status: 200, sha256: image.digest });
  });
});

describe('an upstream that is known not to answer', () => {
  const config = { cache: { tagTtl: '1h', staleIfError: '1d' } };
  const paused = { kind: 'status', status: 429, headers: { 'Retry-After': '60' } } as const;

  test('is not begun with what it would have to end: fresh tags and digests are refused at once, if not whole', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    const image = upstream.addImage('library/app', 'v1', { layers: ['a', 'b'] });
    const whole = upstream.addImage('library/app', 'v2', { layers: ['c'] });
    await site.get(tagPath);
    await site.get('/v2/library/app/manifests/v2');
    for (const { digest } of [...whole.layers, whole.config]) await site.get(`/v2/library/app/blobs/${digest}`);
    await settled(site);
    const fault = upstream.fault(undefined, paused);
    await site.get('/v2/library/app/manifests/v3');
    // A limit on manifests says nothing about blobs.
    expect((await site.get(tagPath)).status).toBe(200);
    await site.get(`/v2/library/app/blobs/${image.layers[0]?.digest}`);
    upstream.forgetRequests();
    for (const path of [tagPath, `/v2/library/app/manifests/${image.digest}`]) {
      for (const answer of [await site.get(path), await site.head(path)]) {
        expect(answer.status).toBe(429);
        expect(answer.headers['retry-after']).toBe('60');
      }
    }
    expect((await site.get('/v2/library/app/manifests/v2')).headers['cache-status']).toBe('millpond; hit');
    expect((await site.get(`/v2/library/app/manifests/${whole.digest}`)).status).toBe(200);
    expect(upstream.requests).toEqual([]);
    // When the pause is over, the next client has what it could have had before.
    fault.release();
    advance(61 * second);
    expect((await site.get(tagPath)).status).toBe(200);
  });

  test('is found to be back by the very request that would need it', async () => {
    await using upstream = await startRegistry();
    const { now, advance } = clock();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config, now });
    const image = upstream.addImage('library/app', 'v1');
    await site.get(tagPath);
    await upstream.suspend();
    for (const tag of ['x1', 'x2', 'x3', 'x4']) await site.get(`/v2/library/app/manifests/${tag}`);
    expect((await site.get(tagPath)).status).toBe(502);
    await upstream.resume();
    advance(10 * second);
    upstream.forgetRequests();
    expect((await site.get(tagPath)).headers['cache-status']).toBe('millpond; hit');
    expect(asked(upstream)).toEqual([`HEAD manifests/${image.digest}`]);
    expect((await site.get(tagPath)).status).toBe(200);
    expect(upstream.requests).toHaveLength(1);
  });
});
