import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstat, mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { filesIn } from '../mirror/support.ts';
import { runBinaryCommand } from '../support/commands.ts';
import { localArtifact, localBlob, localImage } from '../support/images.ts';
import { layoutOf, named, writeTar } from '../support/layouts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { alpine, expectServed, images, place, served } from './archive-place.ts';
import { launcher, run } from './spawn.ts';

describe('an exported archive', () => {
  test('says which signature it leaves out because not all of it is here', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('org/app', '1');
    const signed = upstream.addReferrer('org/app', image, { artifactType: 'application/x-sig', layers: ['signed'] });
    const upstreams = { 'quay.io': { urls: [upstream.origin] } };
    await using here = await place({ upstreams });
    expect(await here.run('fetch', '--no-referrers', 'quay.io/org/app:1')).toMatchObject({ code: 0 });
    {
      await using site = await startTestSite({ upstreams, cacheDir: here.cacheDir });
      await site.get(`/v2/quay.io/org/app/manifests/${signed.digest}`);
    }
    const name = `quay.io/org/app@${signed.digest}`;
    const exported = await here.run('export', '--output', 'out.tar', 'quay.io/org/app:1');
    expect(exported).toMatchObject({ code: 0, stderr: '' });
    expect(exported.stdout).toContain(`left out ${name}: ${name} is not whole in the cache, it lacks sha256:`);
    const told = await here.run('export', '--output', 'out.tar', 'quay.io/org/app:1', '--json');
    const events = told.stdout.trim().split('\n');
    expect(events.map((line) => JSON.parse(line))).toContainEqual({
      kind: 'left-out',
      name,
      reason: expect.stringContaining('fetch it first') as string,
    });
  });

  test('of a list of images, as fetch takes it: tags by pattern among those that are here', async () => {
    await using here = await place();
    const tags = ['1.2.0', '1.10.0', '2.0.0'];
    const released = tags.map((version) => ({
      manifest: localImage({ label: version }),
      annotations: named(`quay.io/org/app:${version}`),
    }));
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf([...released, images[0]!])));
    const list = [
      { name: 'quay.io/org/app', tags: ['^1'], limit: 1 },
      { name: 'nginx:1.27', platforms: ['linux/arm64'] },
    ];
    await writeFile(here.path('images.yaml'), JSON.stringify(list));
    expect(await here.run('export', '--output', 'out.tar', '--file', 'images.yaml')).toMatchObject({
      code: 0,
      stderr: '',
    });
    await using other = await place();
    const { stdout } = await other.run('import', here.path('out.tar'));
    expect(stdout).toContain('quay.io/org/app:1.10.0');
    expect(stdout).toContain('without linux/amd64');
    expect(stdout).toContain('2 images:');
    await writeFile(here.path('images.yaml'), JSON.stringify([{ name: 'quay.io/org/app', tags: ['^7'] }]));
    expect(await here.run('export', '--output', 'out.tar', '--file', 'images.yaml')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('with a tag that is ^7 is not in the cache'),
    });
    expect(await here.run('export', '--output', 'out.tar')).toMatchObject({ code: 2 });
  });

  test('since an earlier archive, or its list, has only what is new, and is refused where that is missing', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await here.run('export', '--output', 'base.tar', 'nginx:1.27', 'quay.io/org/alpine:3');
    const newer = localImage({ label: 'newer' });
    await here.run(
      'import',
      await writeTar(here.path('new.tar'), layoutOf([{ manifest: newer, annotations: named('quay.io/org/alpine:4') }])),
    );
    const names = ['nginx:1.27', 'quay.io/org/alpine:3', 'quay.io/org/alpine:4'];
    expect(await here.run('export', '--output', 'a.tar', '--since', here.path('base.tar'), ...names)).toMatchObject({
      code: 0,
    });
    await here.run('export', '--output', 'b.tar', '--since', here.path('base.tar.sha256'), ...names);
    const delta = await readFile(here.path('a.tar'));
    expect(delta.equals(await readFile(here.path('b.tar')))).toBe(true);
    expect(delta.includes(newer.blobs[1]!.bytes)).toBe(true);
    expect(delta.includes(alpine.blobs[1]!.bytes)).toBe(false);

    await using other = await place();
    const [, id] = /^# archive (\S+)/.exec(await readFile(here.path('base.tar.sha256'), 'utf8')) ?? [];
    expect(await other.run('import', here.path('a.tar'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`a.tar: it has only what is new since archive ${id}: import that one first`),
    });
    expect((await filesIn(other.cacheDir)).length).toBe(0);
    expect(await other.run('import', here.path('base.tar'))).toMatchObject({ code: 0 });
    expect(await other.run('import', here.path('a.tar'))).toMatchObject({ code: 0, stderr: '' });
    await using site = await served(other.cacheDir);
    await expectServed(site, 'quay.io/org/alpine', newer, '4');

    await writeFile(here.path('cut.tar'), delta.subarray(0, 100));
    expect(await here.run('export', '--output', 'c.tar', '--since', here.path('cut.tar'), ...names)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^millpond: cut\.tar: it is cut short /),
    });

    // A third one builds upon both.
    await here.run('export', '--output', 'third.tar', '--since', here.path('a.tar'), ...names);
    expect((await readFile(here.path('third.tar'))).includes(alpine.blobs[1]!.bytes)).toBe(false);
    expect(await other.run('import', here.path('third.tar'))).toMatchObject({ code: 0, stderr: '' });
  });

  test('cut short between two files, or without one of them, is no archive any more', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await here.run('export', '--output', 'out.tar', 'nginx:1.27');
    const whole = await readFile(here.path('out.tar'));
    const last = whole.lastIndexOf('blobs/sha256/');
    for (const end of [last, whole.length - 1024]) {
      await writeFile(here.path('cut.tar'), whole.subarray(0, end));
      await using other = await place();
      expect(await other.run('import', here.path('cut.tar'))).toMatchObject({
        code: 1,
        stderr: 'millpond: cut.tar: it is cut short: its end is missing\n',
      });
    }
    await writeFile(here.path('less.tar'), Buffer.concat([whole.subarray(0, last), Buffer.alloc(1024)]));
    await using other = await place();
    expect(await other.run('import', here.path('less.tar'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/less\.tar: it is not whole: it lacks 1 of its 7 blobs, such as sha256:/),
    });
  });

  test('in parts, which are imported in any order, and none of which may be missing', async () => {
    await using here = await place();
    const big = localArtifact({ layers: [localBlob(Buffer.alloc(40_000, 'layer'))] });
    await here.run(
      'import',
      await writeTar(here.path('in.tar'), layoutOf([{ manifest: big, annotations: named('quay.io/org/big:1') }])),
    );
    await here.run('export', '--output', 'whole.tar', 'quay.io/org/big:1');
    expect(await here.run('export', '--output', 'f.tar', '--split', '16KiB', 'quay.io/org/big:1')).toMatchObject({
      code: 0,
    });
    const parts = ['f.tar.001', 'f.tar.002', 'f.tar.003'].map(here.path);
    const joined = Buffer.concat(
      await Promise.all([...parts, here.path('f.tar.004')].map((part) => readFile(part).catch(() => Buffer.alloc(0)))),
    );
    expect(joined.equals(await readFile(here.path('whole.tar')))).toBe(true);
    for (const given of [parts.toReversed(), [parts[1]!], [here.path('f.tar')]]) {
      await using other = await place();
      expect(await other.run('import', ...given.filter(Boolean))).toMatchObject({ code: 0, stderr: '' });
    }
    await using other = await place();
    expect(await other.run('import', parts[2]!, parts[0]!)).toMatchObject({
      code: 1,
      stderr: 'millpond: f.tar.003: part 002 is missing\n',
    });
    expect((await other.run('import', parts[0]!, parts[1]!)).stderr).toContain('cut short');
  });

  test('goes to standard output, with all that is said on standard error', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const names = ['nginx:1.27', 'quay.io/org/alpine:3'];
    await here.run('export', '--output', 'file.tar', ...names);
    const file = await readFile(here.path('file.tar'));
    const before = (await readdir(here.path('.'))).toSorted();
    const streamed = await runBinaryCommand(['export', '--output', '-', ...names, '--json'], here.path('.'));
    expect(streamed.code).toBe(0);
    expect(streamed.stdout.equals(file)).toBe(true);
    const sha256 = createHash('sha256').update(file).digest('hex');
    expect(JSON.parse(streamed.stderr.trim().split('\n').at(-1)!)).toMatchObject({
      kind: 'end',
      files: [{ name: '-', sha256, size: file.length }],
      list: null,
    });
    expect((await readdir(here.path('.'))).toSorted()).toEqual(before);
    const piped = `'${launcher}' export --output - ${names.join(' ')} | cat > piped.tar`;
    const { code, stderr } = await run('sh', ['-c', piped], { cwd: here.path('.') });
    expect([code, stderr.includes('archive sha256:')]).toEqual([0, true]);
    expect((await readFile(here.path('piped.tar'))).equals(file)).toBe(true);
    expect(await here.run('export', '--output', '-', '--split', '4KiB', ...names)).toMatchObject({ code: 2 });
  });

  test('fails where the program that it is sent to does not read all of it', async () => {
    await using here = await place();
    const big = localArtifact({ layers: [localBlob(Buffer.alloc(2_000_000, 'layer'))] });
    const files = layoutOf([{ manifest: big, annotations: named('quay.io/org/big:1') }]);
    await here.run('import', await writeTar(here.path('in.tar'), files));
    const piped = `{ '${launcher}' export --output - quay.io/org/big:1; echo $? > code; } | head -c 1 > first`;
    const { stderr } = await run('sh', ['-c', piped], { cwd: here.path('.') });
    expect(stderr).toContain('millpond: standard output cannot be written: EPIPE\n');
    expect(await readFile(here.path('code'), 'utf8')).toBe('1\n');
  });

  test('takes the place of a file, and of nothing else', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await writeFile(here.path('target.tar'), 'of somebody else');
    await symlink('target.tar', here.path('link.tar'));
    await promisify(execFile)('mkfifo', [here.path('pipe.tar')]);
    await mkdir(here.path('folder.tar.002'));
    await mkdir(here.path('listed.tar.sha256'));
    const refused = async (output: string, ...more: string[]) =>
      expect(await here.run('export', '--output', output, 'nginx:1.27', ...more)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/ is not a file \((a link|a folder|a device, pipe or socket)\)/),
      });
    const before = (await readdir(here.path('.'))).toSorted();
    await refused('link.tar');
    await refused('pipe.tar');
    await refused('listed.tar');
    await refused('folder.tar', '--split', '4KiB');
    expect((await readdir(here.path('.'))).toSorted()).toEqual(before);
    expect((await lstat(here.path('pipe.tar'))).isFIFO()).toBe(true);
    expect(await readFile(here.path('link.tar'), 'utf8')).toBe('of somebody else');
    expect(await here.run('export', '--output', 'target.tar', 'nginx:1.27')).toMatchObject({ code: 0, stderr: '' });
  });

  test('removes what killed exports of the same name have left, and nothing else', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    const killed = execFile('true');
    await once(killed, 'exit');
    const left = ['', '.003', '.1234', '.sha256'].map((part) => `out.tar${part}.${killed.pid}.partial`);
    const others = [`out.tar.${process.ppid}.partial`, `other.tar.${killed.pid}.partial`, 'out.tar.2025'];
    for (const name of [...left, ...others]) await writeFile(here.path(name), 'begun');
    expect(await here.run('export', '--output', 'out.tar', 'nginx:1.27')).toMatchObject({ code: 0, stderr: '' });
    const names = await readdir(here.path('.'));
    expect(names.filter((name) => left.includes(name))).toEqual([]);
    for (const name of others) expect(await readFile(here.path(name), 'utf8')).toBe('begun');
    expect(names.filter((name) => name.endsWith('.partial'))).toHaveLength(2);
  });

  test('in other parts than before, or in none, leaves nothing of the archive that had the name', async () => {
    await using here = await place();
    const [older, newer] = ['older', 'newer'].map((label) =>
      localArtifact({ layers: [localBlob(Buffer.alloc(40_000, label))] }),
    );
    const versions = layoutOf([
      { manifest: older!, annotations: named('quay.io/org/big:1') },
      { manifest: newer!, annotations: named('quay.io/org/big:2') },
    ]);
    await here.run('import', await writeTar(here.path('in.tar'), versions));
    await writeFile(here.path('f.tar.old'), 'of somebody else');
    const files = async () => (await readdir(here.path('.'))).filter((name) => name.startsWith('f.tar')).toSorted();
    const split = (size: string) => ['--split', size];
    for (const [image, how, written] of [
      ['big:1', [], ['f.tar']],
      ['big:2', split('16KiB'), ['f.tar.001', 'f.tar.002', 'f.tar.003']],
      ['big:1', split('40KiB'), ['f.tar.001', 'f.tar.002']],
      ['big:2', [], ['f.tar']],
    ] as const) {
      const exported = await here.run('export', '--output', 'f.tar', ...how, `quay.io/org/${image}`);
      expect(exported).toMatchObject({ code: 0, stderr: '' });
      expect(await files()).toEqual([...written, 'f.tar.old', 'f.tar.sha256'].toSorted());
    }
  });

  test('is not imported where it is another archive than the list beside it says', async () => {
    await using here = await place();
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(images)));
    await here.run('export', '--output', 'f.tar', 'nginx:1.27');
    await here.run('export', '--output', 'g.tar', '--split', '4KiB', 'quay.io/org/alpine:3');
    await rename(here.path('g.tar.sha256'), here.path('f.tar.sha256'));
    await using other = await place();
    expect(await other.run('import', here.path('f.tar'))).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^millpond: f\.tar: it is archive sha256:\w+, and the list beside it is of archive sha256:\w+\n$/,
      ),
    });
    expect(await filesIn(other.cacheDir)).toEqual([]);
    // Parts that have been joined are the archive of their list.
    const parts = (await readdir(here.path('.'))).filter((name) => /^g\.tar\.\d+$/.test(name)).toSorted();
    const joined = await Promise.all(parts.map((name) => readFile(here.path(name))));
    await writeFile(here.path('f.tar'), Buffer.concat(joined));
    expect(await other.run('import', here.path('f.tar'))).toMatchObject({ code: 0, stderr: '' });
    await rename(here.path('f.tar.sha256'), here.path('g.tar.sha256'));
    await rename(here.path('f.tar'), here.path('g.tar'));
    expect(await other.run('import', here.path('g.tar.002'))).toMatchObject({ code: 0, stderr: '' });
  });

  test('in more than 999 parts, whose order by name is that of their numbers, and in no more than 9999', async () => {
    await using here = await place();
    const big = localArtifact({ layers: [localBlob(Buffer.alloc(4_200_000, 'layer'))] });
    const sparse = localArtifact({ layers: [localBlob(Buffer.alloc(42_000_000))] });
    const both = { big, sparse };
    const entries = Object.entries(both).map(([name, manifest]) => ({
      manifest,
      annotations: named(`quay.io/org/${name}:1`),
    }));
    await here.run('import', await writeTar(here.path('in.tar'), layoutOf(entries)));
    await here.run('export', '--output', 'whole.tar', 'quay.io/org/big:1');
    const split = await here.run('export', '--output', 'f.tar', '--split', '4KiB', 'quay.io/org/big:1');
    expect(split).toMatchObject({ code: 0, stderr: '' });
    const parts = (await readdir(here.path('.'))).filter((name) => /^f\.tar\.\d+$/.test(name)).toSorted();
    expect([parts.length > 999, parts[0], parts[1]]).toEqual([true, 'f.tar.0001', 'f.tar.0002']);
    const joined = Buffer.concat(await Promise.all(parts.map((name) => readFile(here.path(name)))));
    expect(joined.equals(await readFile(here.path('whole.tar')))).toBe(true);
    await using other = await place();
    expect(await other.run('import', here.path('f.tar.0007'))).toMatchObject({ code: 0, stderr: '' });
    const refused = await here.run('export', '--output', 'g.tar', '--split', '4KiB', 'quay.io/org/sparse:1');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('and 9999 are the most') });
  });
});
