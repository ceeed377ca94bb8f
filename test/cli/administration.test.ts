import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { blobFile, filesIn, settled } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import type { AddedImage } from '../support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

/** A mirror with a folder in which commands find it, whether it runs or not. */
async function place(config: object = {}) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const upstream = owned.use(await startRegistry());
  const cacheDir = join(folder.path, 'data');
  const upstreams = { 'docker.io': { urls: [upstream.origin] }, 'ghcr.io': { urls: [upstream.origin] } };
  await writeFile(
    join(folder.path, 'millpond.yaml'),
    JSON.stringify({ upstreams, cache: { dir: cacheDir }, ...config }),
  );
  const rest = owned.move();
  return {
    upstream,
    cacheDir,
    run: (...args: readonly string[]) => runCommand(args, folder.path),
    serve: (options: { offline?: boolean } = {}) =>
      startTestSite({ upstreams, cacheDir, config: { offline: options.offline ?? false } }),
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

async function pull(site: TestSite, name: string, image: AddedImage, reference?: string): Promise<void> {
  const base = `/v2/${name}`;
  expect((await site.get(`${base}/manifests/${reference ?? image.digest}`)).status).toBe(200);
  for (const { digest } of [image.config, ...image.layers]) {
    expect((await site.get(`${base}/blobs/${digest}`)).sha256).toBe(digest);
  }
}

/** Two images that share a base, one of them signed in both ways, and a third elsewhere. */
async function fill(site: TestSite, upstream: ScriptedRegistry) {
  const base = upstream.addBlob({ size: 200_000, seed: 'base' });
  const config = (seed: string) => ({ size: 1_000, seed: `config ${seed}` });
  const one = upstream.addImage('library/app', 'v1', {
    layers: [base, { size: 50_000, seed: 'one' }],
    config: config('one'),
  });
  const two = upstream.addImage('library/app', 'v2', {
    layers: [base, { size: 70_000, seed: 'two' }],
    config: config('two'),
  });
  const elsewhere = upstream.addImage('org/tool', 'latest', {
    layers: [{ size: 10_000, seed: 'tool' }],
    config: config('tool'),
  });
  const cosignTag = `sha256-${one.digest.slice(7)}.sig`;
  const cosign = upstream.addImage('library/app', cosignTag, { layers: [{ size: 300, seed: 'cosign' }] });
  const sbom = upstream.addImage('library/app', undefined, {
    layers: [{ size: 400, seed: 'sbom' }],
    subject: one,
    artifactType: 'application/spdx+json',
  });
  await pull(site, 'app', one, 'v1');
  await pull(site, 'app', two, 'v2');
  await pull(site, 'app', cosign, cosignTag);
  await pull(site, 'app', sbom);
  await pull(site, 'ghcr.io/org/tool', elsewhere, 'latest');
  await settled(site);
  return { one, two, cosign, sbom, base };
}

const lines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('ls', () => {
  test('shows the tree of what is stored, beside a mirror and alone, within 80 columns', async () => {
    await using here = await place();
    await using site = await here.serve();
    const { one, two, cosign, sbom } = await fill(site, here.upstream);
    const beside = await here.run('ls');
    expect(beside).toMatchObject({ code: 0, stderr: '' });
    const attached = [cosign, sbom].map(({ digest }) => `${digest.slice(0, 19)}…`).toSorted();
    const shown = beside.stdout.replaceAll(/\d+ s\b/g, 'n s').replaceAll(/ +n s/g, ' n s');
    const type = (digest: string) =>
      digest.startsWith(sbom.digest.slice(0, 19)) ? 'application/spdx+json' : cosign.config.mediaType;
    expect(shown).toBe(
      [
        'IMAGE                     SIZE  SHARED    USED CHECKED  SOURCE    STATE',
        'docker.io',
        '  library/app',
        '    v1                  248KiB  195KiB n s n s  upstream  whole',
        ...attached.map((digest) => `      + ${digest} ${type(digest)}`),
        '    v2                  265KiB  195KiB n s n s  upstream  whole',
        'ghcr.io',
        '  org/tool',
        '    latest               11KiB      0B n s n s  upstream  whole',
        '3 images in 2 repositories; the cache has 16 blobs, 329KiB',
        '',
      ].join('\n'),
    );
    expect(beside.stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    await site.stop();
    const alone = await here.run('ls', '--digests', 'app');
    expect(alone.code).toBe(0);
    expect(alone.stdout).toContain(`      ${one.digest}\n`);
    expect(alone.stdout).toContain(`      ${two.digest}\n`);
    expect(alone.stdout).not.toContain('org/tool');
  });

  test('finds what its filters say, sorts, and tells the rest in JSON', async () => {
    await using here = await place();
    await using site = await here.serve();
    const { one, two } = await fill(site, here.upstream);
    const loose = here.upstream.addImage('library/app', undefined, { layers: [], config: 'loose' });
    await site.get(`/v2/app/manifests/${loose.digest}`);
    here.upstream.addImage('library/app', 'v3', { layers: [{ size: 9_000, seed: 'three' }] });
    await site.head('/v2/app/manifests/v3');
    await here.run('pin', 'app:v1');
    const names = async (...args: readonly string[]) => {
      const { stdout, stderr } = await here.run('ls', '--json', ...args);
      expect(stderr).toBe('');
      return lines(stdout).flatMap(({ kind, name }) => (kind === 'image' ? [String(name)] : []));
    };
    const all = ['v1', 'v2', 'v3'].map((tag) => `docker.io/library/app:${tag}`);
    const untagged = `docker.io/library/app@${loose.digest}`;
    const tool = 'ghcr.io/org/tool:latest';
    expect(await names()).toEqual([...all, untagged, tool]);
    expect(await names('app')).toEqual([...all, untagged]);
    expect(await names('index.docker.io/app:v2')).toEqual([all[1]]);
    expect(await names('app:v*')).toEqual(all);
    expect(await names('app:>=2')).toEqual(all.slice(1));
    expect(await names('app@*')).toEqual([untagged]);
    expect(await names(`app@${two.digest}`)).toEqual([]);
    expect(await names('*/**:latest')).toEqual([tool]);
    expect(await names('ghcr.io/org/*')).toEqual([tool]);
    expect(await names('--upstream', 'ghcr.io')).toEqual([tool]);
    expect(await names('--pinned')).toEqual([all[0]]);
    expect(await names('--incomplete')).toEqual([all[2], untagged]);
    expect(await names('--unused-for', '1d')).toEqual([]);
    expect(await names('--larger-than', '260KB')).toEqual([all[1]]);
    expect(await names('--sort', 'size', '--limit', '2')).toEqual([all[1], all[0]]);
    expect(await names('--sort', 'size', '--reverse', '--limit', '1')).toEqual([all[2]]);
    expect(await names('--limit', '1')).toEqual([all[0]]);
    const [first, total] = lines((await here.run('ls', '--json', '--limit', '1')).stdout);
    expect(first).toEqual({
      kind: 'image',
      name: all[0],
      upstream: 'docker.io',
      repository: 'library/app',
      tag: 'v1',
      digest: one.digest,
      mediaType: one.mediaType,
      state: 'whole',
      storedBytes: expect.any(Number),
      sharedBytes: 200_000,
      storedAt: expect.stringMatching(/^20.*Z$/),
      usedAt: expect.stringMatching(/^20.*Z$/),
      checkedAt: expect.stringMatching(/^20.*Z$/),
      source: 'upstream',
      pinned: 'name',
      platforms: null,
      variants: [],
      attachments: [expect.objectContaining({ stored: true }), expect.objectContaining({ stored: true })],
    });
    expect(total).toMatchObject({ kind: 'total', images: 5, listed: 1, repositories: 2 });
  });

  test.each([
    [['ls', '--sort', 'age'], 2, /^millpond: --sort age: accepted: name, size, used, checked /],
    [['ls', '--limit', '0'], 2, /^millpond: --limit 0: /],
    [['ls', '--unused-for', 'long'], 2, /^millpond: --unused-for long: accepted: a duration /],
    [['ls', 'evil.example/app'], 1, /^millpond: "evil\.example" is not a configured upstream /],
    [
      ['ls', '--upstream', 'typo'],
      1,
      /^millpond: "typo" is not a configured upstream, and nothing from it is stored\n$/,
    ],
    [['rm', 'ghcr.io/org/*'], 2, /^millpond: "ghcr\.io\/org\/\*" does not say which tags: /],
    [['rm', 'app:v1.*.*', 'Upper'], 2, /^millpond: "Upper" is not a repository name \(see /],
    [['ls', 'app@sha256:12'], 2, /^millpond: "sha256:12" is not a sha256 or sha512 digest /],
    [['pin', '*/app:v 1'], 2, /^millpond: "v 1" in "\*\/app:v 1" is not a tag, pattern or version range /],
    [['verify', 'a//b'], 2, /^millpond: "a\/\/b" is not a repository name /],
    [['explain', 'Upper'], 2, /^millpond: Upper is not the name of an image: "Upper" is not a repository name /],
    [['rm'], 2, /^millpond: missing required argument 'image' /],
  ] as const)('%j is refused in one line', async (args, code, stderr) => {
    await using here = await place();
    await using _ = await here.serve();
    const ended = await here.run(...args);
    expect(ended).toMatchObject({ code, stdout: '' });
    expect(ended.stderr).toMatch(stderr);
    expect(ended.stderr.trim().split('\n')).toHaveLength(1);
  });

  test('says so where nothing is as wanted, and shows the flags that matter to it', async () => {
    await using here = await place();
    await using _ = await here.serve();
    const none = { code: 0, stdout: expect.stringMatching(/^0 images /), stderr: 'millpond: nothing matches\n' };
    expect(await here.run('ls', 'nosuch:tag')).toEqual(none);
    expect(await here.run('ls', '--pinned')).toEqual(none);
    expect(await here.run('ls', '--listen', '127.0.0.1:1')).toEqual({ ...none, stderr: '' });
    const help = async (command: string) => (await here.run(command, '--help')).stdout;
    expect(await help('ls')).not.toMatch(/--redis|--listen|--log-level/);
    expect(await help('serve')).toMatch(/--listen[^]*--redis[^]*--log-level/);
  });

  test('alone after the catalog was lost waits until it is rebuilt', async () => {
    await using here = await place();
    {
      await using site = await here.serve();
      await fill(site, here.upstream);
      await site.stop();
    }
    // Times are those of the files then.
    const listed = async () =>
      lines((await here.run('ls', '--json')).stdout).map(
        ({ source: _source, storedAt: _storedAt, usedAt: _usedAt, ...rest }) => rest,
      );
    const lose = async () => {
      for (const end of ['', '-wal', '-shm']) await rm(join(here.cacheDir, `catalog.sqlite${end}`), { force: true });
    };
    const before = await listed();
    expect(before.length).toBeGreaterThan(3);
    await lose();
    // It only looks, and rebuilds nothing.
    expect(await here.run('explain', 'app:v1')).toMatchObject({
      code: 0,
      stderr: 'millpond: the catalog was lost: not all that is stored is known until it has been rebuilt\n',
    });
    expect(await listed()).toEqual(before);
    expect((await here.run('explain', 'app:v1')).stderr).toBe('');
    await lose();
    const removed = await here.run('rm', 'app:v1');
    expect(removed).toMatchObject({ code: 0, stdout: expect.stringContaining('removed docker.io/library/app:v1') });
    expect(removed.stderr).toBe('millpond: the catalog was lost and is being rebuilt from the disk first\n');
    expect((await here.run('ls')).stderr).toBe('');
  });

  test('beside a mirror says what is wrong with the catalog', async () => {
    await using here = await place();
    await using site = await here.serve();
    await fill(site, here.upstream);
    expect((await here.run('ls')).stderr).toBe('');
    for (const end of ['', '-wal']) await rm(join(here.cacheDir, `catalog.sqlite${end}`));
    await expect.poll(() => site.logLines.map((line) => line['msg'])).toContain('catalog rebuilt');
    // For a minute.
    expect((await here.run('ls')).stderr).toBe('millpond: the catalog cannot be read or written\n');
  });

  test('where there is no cache makes none', async () => {
    await using here = await place();
    for (const command of [['ls'], ['rm', 'app'], ['unpin', 'app']]) {
      expect(await here.run(...command)).toEqual({
        code: 1,
        stdout: '',
        stderr: `millpond: there is no cache in ${here.cacheDir}\n`,
      });
    }
  });
});

describe.each(['beside a mirror', 'alone'])('rm %s', (where) => {
  test('removes an image with its signatures, says what came free, and the next pull fetches it anew', async () => {
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

  test('of a digest refuses what a tag or an index still needs, and takes what nobody does', async () => {
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

test('ls tells of every pin: by the digest of an image with a tag, of a part of one, of what is not here yet', async () => {
  await using here = await place();
  await using site = await here.serve();
  const { two, cosign } = await fill(site, here.upstream);
  const absent = `sha256:${'0'.repeat(64)}`;
  const pinned = [`app@${two.digest}`, `app@${cosign.digest}`, 'app:v3', `ghcr.io/org/tool@${absent}`];
  expect((await here.run('pin', ...pinned)).code).toBe(0);
  const all = lines((await here.run('ls', '--json')).stdout);
  expect(all.map(({ kind, tag, pinned: by }) => [kind, tag, by])).toEqual([
    ['image', 'v1', null],
    ['image', 'v2', 'name'],
    ['image', 'latest', null],
    ['total', undefined, undefined],
  ]);
  const listed = lines((await here.run('ls', '--json', '--pinned')).stdout);
  const pin = { kind: 'pin', upstream: 'docker.io', repository: 'library/app', pinnedAt: expect.any(String) };
  const name = 'docker.io/library/app';
  expect(listed).toEqual([
    expect.objectContaining({ kind: 'image', name: `${name}:v2`, pinned: 'name' }),
    { ...pin, name: `${name}@${cosign.digest}`, tag: null, digest: cosign.digest, stored: true },
    { ...pin, name: `${name}:v3`, tag: 'v3', digest: null, stored: false },
    expect.objectContaining({
      kind: 'pin',
      upstream: 'ghcr.io',
      repository: 'org/tool',
      digest: absent,
      stored: false,
    }),
    expect.objectContaining({ kind: 'total', images: 1 }),
  ]);
  const shown = (await here.run('ls', '--pinned', 'app')).stdout;
  const part = `${name}@${cosign.digest} pinned, and a part of what is here\n`;
  expect(shown).toContain(`${part}${name}:v3 pinned, not here yet\n`);
  expect(shown).not.toContain(absent);
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
        const metrics = String((await site.get('/metrics')).body);
        expect(/^millpond_cache_pinned_bytes (.*)$/m.exec(metrics)?.[1]).toBe(String(pinnedBytes));
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
