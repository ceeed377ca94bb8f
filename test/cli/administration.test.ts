import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { blobFile, filesIn, settled } from '../mirror/support.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { fill, lines, place, pull } from './mirror-place.ts';

describe.each(['beside a mirror', 'alone'])('rm %s', (where) => {
  test('removes an image with its signatures, says what came free, and the next pull fetches it again', async () => {
    await using here = await place();
    await using site = await here.serve();
    const { one, two, cosign, sbom, base } = await fill(site, here.upstream);
    if (where === 'alone') await site.stop();
    const before = await filesIn(here.cacheDir);
    const own = [one, one.config, one.layers[1]!, cosign, cosign.config, ...cosign.layers, sbom, ...sbom.layers];
    // Two artifacts of the same empty configuration.
    const gone = [...new Set([...own, sbom.config].map(({ digest }) => digest))];
    const foretold = await here.run('rm', '--dry-run', 'app:v1');
    expect(foretold).toMatchObject({ code: 0, stderr: '' });
    expect(await filesIn(here.cacheDir)).toEqual(before);
    const removed = await here.run('rm', 'app:v1');
    expect(removed).toMatchObject({ code: 0, stderr: '' });
    expect(removed.stdout).toMatch(
      /^removed docker\.io\/library\/app:v1: \d+ blobs, \d+KiB, 195KiB shared with others\n$/,
    );
    expect(foretold.stdout).toBe(removed.stdout.replace('removed', 'would remove'));
    const left = await filesIn(here.cacheDir);
    expect(before.filter((file) => !left.includes(file)).toSorted()).toEqual(gone.map(blobFile).toSorted());
    expect(left).toContain(blobFile(base.digest));
    expect((await here.run('ls', 'app')).stdout).not.toContain('v1 ');
    const again = await here.run('rm', 'app:v1');
    expect(again).toEqual({
      code: 1,
      stdout: '',
      stderr: 'millpond: app:v1: nothing of it is here\nmillpond: 1 of what was asked for was not removed\n',
    });
    await using next = where === 'alone' ? await here.serve() : site;
    here.upstream.forgetRequests();
    await pull(next, 'app', two, 'v2');
    expect(here.upstream.requests.map(({ path }) => path)).toEqual([]);
    await pull(next, 'app', one, 'v1');
    expect(here.upstream.bytesSent(base.digest)).toBe(0);
    for (const { digest, size } of [one.config, one.layers[1]!]) expect(here.upstream.bytesSent(digest)).toBe(size);
  });

  test('keeps what is pinned, by name or pattern, unless it is forced; removes by pattern what is not', async () => {
    await using here = await place();
    await using site = await here.serve();
    await fill(site, here.upstream);
    if (where === 'alone') await site.stop();
    expect((await here.run('pin', 'app:v2')).stdout).toBe('pinned docker.io/library/app:v2\n');
    expect(await here.run('rm', 'app:v2')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('millpond: docker.io/library/app:v2: is pinned\n'),
    });
    const byPattern = await here.run('rm', 'app:*');
    expect(byPattern).toMatchObject({ code: 0, stderr: '' });
    expect(byPattern.stdout).toContain('removed docker.io/library/app:v1: ');
    expect(byPattern.stdout).toContain('kept docker.io/library/app:v2: is pinned\n');
    const forced = await here.run('rm', '--force', '--json', 'app:v2', '*/**:*');
    expect(forced.code).toBe(0);
    const events = lines(forced.stdout);
    expect(events.map(({ kind, name }) => [kind, name])).toEqual([
      ['removed', 'docker.io/library/app:v2'],
      ['removed', 'ghcr.io/org/tool:latest'],
      ['total', undefined],
    ]);
    expect(await filesIn(here.cacheDir)).toEqual([]);
    expect((await here.run('ls')).stdout).toBe('0 images in 0 repositories; the cache has 0 blobs, 0B\n');
    expect((await here.run('pin', 'app:v2')).stdout).toBe('docker.io/library/app:v2 is pinned already\n');
  });
});

describe('rm', () => {
  test.each([['app:*'], ['*/**:*'], ['app:v1', 'app:v2', 'app:*']])(
    'of %s says at a dry run what it then does, and counts nothing twice',
    async (...images) => {
      await using here = await place();
      {
        await using site = await here.serve();
        await fill(site, here.upstream);
      }
      const before = (await filesIn(here.cacheDir)).length;
      const foretold = lines((await here.run('rm', '--dry-run', '--json', ...images)).stdout);
      const removed = lines((await here.run('rm', '--json', ...images)).stdout);
      const total = removed.pop();
      expect(foretold).toEqual([...removed, { ...total, dryRun: true }]);
      expect(total).toMatchObject({ blobs: before - (await filesIn(here.cacheDir)).length });
    },
  );

  test('of a tag leaves an image that is pinned by its digest, with the right to it, to be found by that', async () => {
    await using here = await place();
    let digest: string;
    {
      await using site = await here.serve();
      digest = (await fill(site, here.upstream)).two.digest;
    }
    await using site = await here.serve({ offline: true });
    const name = `docker.io/library/app@${digest}`;
    expect((await here.run('pin', `app@${digest}`)).code).toBe(0);
    const stays = '; the image stays, pinned by its digest\n';
    expect((await here.run('rm', '--dry-run', 'app:v2')).stdout).toContain(stays);
    expect((await here.run('rm', 'app:v2')).stdout).toMatch(
      new RegExp(`^removed docker.io/library/app:v2: 0 blobs, 0B, .* shared with others${stays}$`),
    );
    expect((await site.get(`/v2/library/app/manifests/v2`)).status).toBe(404);
    expect((await site.get(`/v2/library/app/manifests/${digest}`)).status).toBe(200);
    const pinned = lines((await here.run('ls', '--pinned', '--json')).stdout);
    expect(pinned[0]).toMatchObject({ name, pinned: 'name', state: 'whole' });
    expect((await here.run('verify', `app@${digest}`)).code).toBe(0);
    expect((await here.run('rm', '--force', `app@${digest}`)).stdout).toMatch(/^removed .* 3 blobs, /);
    expect((await site.get(`/v2/library/app/manifests/${digest}`)).status).toBe(404);
  });

  test('lets a read that is under way end, and a blob that is being fetched arrive', async () => {
    await using here = await place();
    await using site = await here.serve();
    const { one } = await fill(site, here.upstream);
    const blob = here.upstream.addBlob({ size: 3_000_000, seed: 'slow' });
    const slow = here.upstream.addImage('library/app', 'slow', { layers: [blob] });
    await site.get('/v2/app/manifests/slow');
    const stall = here.upstream.fault(blob.digest, { kind: 'stall', afterBytes: 2_000_000 });
    const pulled = site.get(`/v2/app/blobs/${blob.digest}`);
    await stall.reached;
    expect(await here.run('rm', 'app:slow', 'app:v1')).toMatchObject({ code: 0, stderr: '' });
    stall.release();
    expect((await pulled).sha256).toBe(blob.digest);
    await pull(site, 'app', one, 'v1');
    await pull(site, 'app', slow, 'slow');
  });

  test('of a digest refuses content that a tag or an index still needs, and takes the rest', async () => {
    await using here = await place();
    await using site = await here.serve();
    const { one } = await fill(site, here.upstream);
    const loose = here.upstream.addImage('library/app', undefined, {
      layers: [{ size: 5_000, seed: 'loose' }],
      config: 'loose',
    });
    await pull(site, 'app', loose);
    await settled(site);
    expect(await here.run('rm', `app@${one.digest}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('belongs to docker.io/library/app:v1\n'),
    });
    expect((await here.run('rm', `app@${loose.digest}`)).stdout).toMatch(/^removed .+: 3 blobs, /);
    expect(await filesIn(here.cacheDir)).not.toContain(blobFile(loose.layers[0]!.digest));
  });

  test('of a registry that is configured no more works by its name', async () => {
    await using here = await place();
    {
      await using site = await here.serve();
      await fill(site, here.upstream);
    }
    await using other = await startTestSite({ upstreams: { 'docker.io': here.upstream }, cacheDir: here.cacheDir });
    expect((await here.run('ls', '--upstream', 'ghcr.io')).stdout).toContain('org/tool');
    expect((await here.run('rm', 'ghcr.io/org/tool')).stdout).toContain('removed ghcr.io/org/tool:latest: ');
    expect((await other.get('/v2/app/manifests/v1')).status).toBe(200);
  });
});

describe.each(['beside a mirror', 'alone'])('pin and unpin %s', (where) => {
  test('by name, here or not, and by pattern what is here', async () => {
    await using here = await place();
    await using site = await here.serve();
    await fill(site, here.upstream);
    if (where === 'alone') await site.stop();
    expect((await here.run('pin', 'quay')).stdout).toBe(
      'pinned docker.io/library/quay:latest (nothing of it is here yet)\n',
    );
    expect((await here.run('pin', 'app:v*', '--json')).stdout.trim().split('\n')).toHaveLength(2);
    expect(lines((await here.run('ls', '--json', '--pinned')).stdout).map(({ name }) => name)).toEqual([
      'docker.io/library/app:v1',
      'docker.io/library/app:v2',
      'docker.io/library/quay:latest',
      undefined,
    ]);
    expect(await here.run('pin', 'app:w*')).toEqual({
      code: 1,
      stdout: '',
      stderr:
        'millpond: app:w*: matches nothing here\nmillpond: nothing to pin: to pin future images, put a pattern under cache.pins\n',
    });
    expect((await here.run('unpin', '**:*')).stdout).toBe(
      ['app:v1', 'app:v2', 'quay:latest'].map((name) => `unpinned docker.io/library/${name}\n`).join(''),
    );
    expect(await here.run('unpin', 'app:v1')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'millpond: docker.io/library/app:v1: is not pinned\nmillpond: 1 of what was asked for was not unpinned\n',
    });
  });
});

describe('cache.pins', () => {
  test('keeps what its patterns match, and says so', async () => {
    await using here = await place();
    {
      await using site = await here.serve();
      await fill(site, here.upstream);
    }
    const config = { cache: { pins: ['docker.io/app:v*', '*/**:latest'] } };
    const upstreams = { 'docker.io': here.upstream, 'ghcr.io': here.upstream };
    await using site = await startTestSite({ upstreams, cacheDir: here.cacheDir, config });
    const pinned = async () =>
      lines((await here.run('ls', '--json', '--pinned')).stdout).flatMap(({ kind, ...image }) =>
        kind === 'image' ? [`${image['name'] as string} ${image['pinned'] as string}`] : [],
      );
    const expected = [
      'docker.io/library/app:v1 configuration',
      'docker.io/library/app:v2 configuration',
      'ghcr.io/org/tool:latest configuration',
    ];
    expect(await pinned()).toEqual(expected);
    expect((await here.run('rm', 'app:v1')).stderr).toContain('v1: is pinned by cache.pins in the configuration\n');
    expect(await here.run('unpin', 'app:v1')).toMatchObject({
      stdout: '',
      stderr: expect.stringContaining('app:v1: is pinned by cache.pins in the configuration\n'),
    });
    await site.stop();
    // The configuration that the command finds has none.
    expect(await pinned()).toEqual(expected);
    expect((await here.run('rm', 'app:v1')).stderr).toContain('v1: is pinned by cache.pins in the configuration\n');
  });

  test('holds and frees what is here as soon as it is in force', async () => {
    await using here = await place();
    const upstreams = { 'docker.io': here.upstream, 'ghcr.io': here.upstream };
    await using site = await startTestSite({ upstreams, cacheDir: here.cacheDir });
    await fill(site, here.upstream);
    const pinnedBytes = async () =>
      Number(/^millpond_cache_pinned_bytes (.*)$/m.exec(String((await site.get('/metrics')).body))?.[1]);
    expect(await pinnedBytes()).toBe(0);
    await site.reconfigure({ cache: { pins: ['app:v1'] } });
    await expect.poll(pinnedBytes).toBeGreaterThan(0);
    await site.reconfigure({});
    await expect.poll(pinnedBytes).toBe(0);
  });

  test('keeps what a tag stood for that its upstream has deleted, until it stands for something else', async () => {
    await using here = await place();
    let nowMs = Date.now();
    const options = { upstreams: { 'docker.io': here.upstream }, cacheDir: here.cacheDir, now: () => nowMs };
    const cache = { pins: ['app:*'], tagTtl: '1s', negativeTtl: '1s', staleWhileRevalidate: '1h' };
    const config = { size: 1_000, seed: 'config' };
    {
      await using site = await startTestSite({ ...options, config: { cache } });
      for (const seed of ['first', 'second', 'third']) {
        const image = here.upstream.addImage('library/app', 'v1', { layers: [{ size: 100_000, seed }], config });
        await pull(site, 'app', image, 'v1');
        here.upstream.removeTag('library/app', 'v1');
        for (let time = 0; time < 2; time += 1) {
          nowMs += 2 * 60 * 60_000;
          expect((await site.get('/v2/app/manifests/v1')).status).toBe(404);
        }
        nowMs += 2_000;
        const [listed] = lines((await here.run('ls', '--pinned', '--json')).stdout);
        expect(listed).toMatchObject({ tag: 'v1', digest: image.digest, checkedAt: null, pinned: 'configuration' });
        await settled(site);
        const pinnedBytes = image.bytes.length + image.config.size + 100_000;
        const counted = async () =>
          /^millpond_cache_pinned_bytes (.*)$/m.exec(String((await site.get('/metrics')).body))?.[1];
        await expect.poll(counted).toBe(String(pinnedBytes));
      }
    }
    await using offline = await startTestSite({ ...options, config: { cache, offline: true } });
    expect((await offline.get('/v2/app/manifests/v1')).status).toBe(200);
  });

  test.each([
    ['evil.example/app:*', 'cache.pins: "evil.example" is not a configured upstream'],
    ['docker.io/app', 'found "docker.io/app"; accepted: an image and which tags of it'],
    ['docker.io/app@sha256:abc', 'accepted: an image and which tags of it'],
  ])('%s is refused', async (pin, reason) => {
    await using upstream = await startRegistry();
    const started = startTestSite({ upstreams: { 'docker.io': upstream }, config: { cache: { pins: [pin] } } });
    await expect(started).rejects.toThrow(reason);
  });
});

test('a command alone evicts no more than what it brings needs, whatever size its configuration gives the cache', async () => {
  await using here = await place({ cache: { maxSize: '1MiB', minFree: '900TiB' } });
  {
    await using site = await here.serve();
    for (let index = 0; index < 10; index += 1) {
      const image = here.upstream.addImage('library/app', `v${index}`, {
        layers: [{ size: 1_000_000, seed: `layer ${index}` }],
        config: { size: 1_000, seed: `config ${index}` },
      });
      await pull(site, 'app', image, `v${index}`);
    }
    await settled(site);
  }
  const before = (await filesIn(here.cacheDir)).length;
  for (const command of [['ls'], ['verify'], ['pin', 'app:v3'], ['unpin', 'app:v3']]) {
    expect(await here.run(...command, '--cache-dir', here.cacheDir)).toMatchObject({ code: 0 });
  }
  expect(await filesIn(here.cacheDir)).toHaveLength(before);
  here.upstream.addImage('library/app', 'new', { layers: [{ size: 1_500_000, seed: 'new' }] });
  expect(await here.run('fetch', 'app:new', '--cache-dir', here.cacheDir)).toMatchObject({ code: 0 });
  const total = lines((await here.run('ls', '--json', '--cache-dir', here.cacheDir)).stdout).at(-1);
  // Two are as much as the new one; what is on its way may count twice for a moment.
  expect(Number(total?.['images'])).toBeGreaterThan(6);
});

test('a command beside a mirror that has no control socket is refused in one line', async () => {
  await using here = await place();
  await using _ = await here.serve();
  await rm(join(here.cacheDir, 'control.sock'));
  expect(await here.run('ls')).toEqual({
    code: 1,
    stdout: '',
    stderr: `millpond: another Millpond uses ${here.cacheDir}/catalog.sqlite ("millpond serve", pid ${process.pid}): one cache directory has one owner, and it has no control socket on which it could be asked\n`,
  });
});
