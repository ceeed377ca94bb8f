import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { blobFile } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import { localImage } from '../support/images.ts';
import { layoutOf, named, writeTar } from '../support/layouts.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryFolder } from '../support/site.ts';
import { launcher, run, runUnread } from './spawn.ts';

const name = 'docker.io/library/nginx:1.27';
const image = localImage({ label: 'nginx' });

/** A folder with a configuration, an archive of one image, and commands that run in it. */
async function place(origin = 'http://127.0.0.1:1') {
  const folder = await temporaryFolder();
  await writeFile(
    join(folder.path, 'millpond.yaml'),
    JSON.stringify({ upstreams: { 'docker.io': { urls: [origin] } } }),
  );
  const archive = await writeTar(
    join(folder.path, 'in.tar'),
    layoutOf([{ manifest: image, annotations: named(name) }]),
  );
  return {
    ...folder,
    archive,
    run: (...args: readonly string[]) => runCommand(args, folder.path),
    runUnread: (...args: readonly string[]) => runUnread(launcher, args, { cwd: folder.path }),
    /** With standard output on a disk that is full. */
    runFull: (...args: readonly string[]) =>
      run('sh', ['-c', 'exec "$0" "$@" > /dev/full', launcher, ...args], { cwd: folder.path }),
  };
}

describe('a command whose output is not read', () => {
  test('goes on to its end', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('library/nginx', '1.28', { layers: [{ size: 100_000 }] });
    await using here = await place(upstream.origin);
    const done = { code: 0, stderr: '' };
    expect(await here.runUnread('import', here.archive)).toEqual(done);
    expect(await here.runUnread('fetch', 'nginx:1.28', '--json')).toEqual(done);
    expect(await here.runUnread('export', 'nginx:1.27', 'nginx:1.28', '--output', 'out.tar')).toEqual(done);
    const written = (await readdir(here.path)).filter((file) => file.startsWith('out.tar'));
    expect(written.toSorted()).toEqual(['out.tar', 'out.tar.sha256']);
    expect(await here.runUnread('rm', 'nginx:1.27', 'nginx:1.28')).toEqual(done);
    expect((await here.run('ls')).stdout).toMatch(/^0 images/);
  });

  test('fails with what it was asked for', async () => {
    await using here = await place();
    await here.run('import', here.archive);
    const file = join(here.path, 'data', blobFile(image.blobs[0]!.digest));
    const bytes = await readFile(file);
    bytes[0]! ^= 1;
    await writeFile(file, bytes);
    const ended = await here.runUnread('verify');
    expect(ended).toEqual({ code: 1, stderr: expect.stringMatching(/^millpond: .*\n$/) });
  });
});

describe('a command whose output cannot be written', () => {
  test('does its work, and fails in one line', async () => {
    await using here = await place();
    const failed = { code: 1, stdout: '', stderr: 'millpond: standard output cannot be written: ENOSPC\n' };
    expect(await here.runFull('import', here.archive)).toEqual(failed);
    expect((await here.run('ls', '--json')).stdout).toContain(name);
    expect(await here.runFull('ls')).toEqual(failed);
    expect(await here.runFull('export', '--output', '-', 'nginx:1.27')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^(?!.*\n +at )(?!.*ENOSPC.*ENOSPC).*ENOSPC\n$/s),
    });
  });
});
