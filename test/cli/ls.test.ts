import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fill, lines, place } from './mirror-place.ts';

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
