import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { statusText } from '../../src/cli/status.ts';
import type { SiteStatus } from '../../src/site/site-status.ts';
import { get, json } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

async function untilPrefetched(site: TestSite, line: RegExp): Promise<void> {
  await expect.poll(async () => (await site.get('/metrics')).body.toString()).toMatch(line);
}

async function statusOf(cacheDir: string): Promise<SiteStatus> {
  return json<SiteStatus>(await get('http://millpond/status', { unixSocket: join(cacheDir, 'control.sock') }));
}

describe('a scheduled fetch', () => {
  test('brings its images here without anybody asking, and says when and what', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryFolder();
    const image = upstream.addImage('app', 'v1', { layers: ['one'] });
    upstream.addImage('listed', '1.0');
    await writeFile(join(folder.path, 'images.yaml'), '- reg.example/listed:1.0\n');
    await using site = await startTestSite({
      upstreams: { 'reg.example': { urls: [upstream.origin] } },
      config: {
        prefetch: [
          { schedule: '0 0 1 1 *', images: ['reg.example/never'] },
          { every: '6h', images: ['reg.example/app:v1'], file: join(folder.path, 'images.yaml'), referrers: false },
        ],
      },
    });
    await untilPrefetched(site, /^millpond_prefetches_total\{result="complete"\} 1$/m);
    const blob = await site.get(`/v2/app/blobs/${image.layers[0]!.digest}?ns=reg.example`);
    expect([blob.status, blob.headers['cache-status']]).toEqual([200, 'millpond; hit']);
    const status = await statusOf(site.cacheDir);
    expect(status.prefetch).toEqual([
      { schedule: '0 0 1 1 *', isRunning: false, nextAt: expect.stringMatching(/^\d{4}-/), last: null },
      {
        schedule: 'every 6h',
        isRunning: false,
        nextAt: expect.stringMatching(/^\d{4}-/),
        last: expect.objectContaining({ result: 'complete', images: 2, failed: 0 }),
      },
    ]);
    expect(statusText(status)).toMatch(
      /^prefetch +0 0 1 1 \*: next at .*\n +every 6h: next at [^]*: 2 of 2 images here, \d+B fetched$/m,
    );
    expect(site.logLines.map(({ msg }) => msg)).toContain('scheduled fetch finished');
  });

  test('that cannot have an image says which and why, and one whose list is not there fails', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'reg.example': { urls: [upstream.origin] } },
      config: {
        prefetch: [
          { every: '6h', images: ['reg.example/app'] },
          { every: '6h', file: 'none.yaml' },
        ],
      },
    });
    await untilPrefetched(site, /^millpond_prefetches_total\{result="incomplete"\} 1$/m);
    await untilPrefetched(site, /^millpond_prefetches_total\{result="failed"\} 1$/m);
    expect(site.logLines).toContainEqual(
      expect.objectContaining({
        msg: 'image not fetched',
        image: 'reg.example/app:latest',
        error: 'upstream reg.example has no such manifest in app',
      }),
    );
  });

  test('ends with the mirror, whatever it waits for', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('app', 'v1', { layers: [{ size: 1_000_000 }] });
    const stall = upstream.fault(image.layers[0]!.digest, { kind: 'stall', afterBytes: 500_000 });
    await using site = await startTestSite({
      upstreams: { 'reg.example': { urls: [upstream.origin] } },
      config: { prefetch: [{ every: '6h', images: ['reg.example/app:v1'] }] },
    });
    await stall.reached;
    await site.stop();
    expect(site.logLines.filter(({ level }) => Number(level) >= 50)).toEqual([]);
  });

  test('comes with SIGHUP, and not at all offline', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('app', 'v1');
    const config = { upstreams: { 'reg.example': { urls: [upstream.origin] } } };
    const prefetch = [{ every: '6h', images: ['reg.example/app:v1'] }];
    await using mirror = await startMillpond(config);
    const file = join(mirror.directory, 'millpond.yaml');
    const cache = { dir: join(mirror.directory, 'data'), minFree: '1B' };
    await writeFile(file, JSON.stringify({ ...config, cache, listen: '127.0.0.1:0', prefetch }));
    mirror.process.kill('SIGHUP');
    await mirror.process.untilOutput(/"msg":"scheduled fetch finished"/);
    await mirror.process.stop();
    upstream.forgetRequests();
    await using offline = await startMillpond({ ...config, prefetch, offline: true }, { directory: mirror.directory });
    await offline.process.untilOutput(/offline: nothing is fetched on a schedule/);
    expect((await statusOf(cache.dir)).prefetch).toEqual([]);
    expect(upstream.requests).toEqual([]);
  });
});
