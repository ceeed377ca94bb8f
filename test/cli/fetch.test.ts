import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { FetchEvent } from '../../src/operations/protocol/fetch.ts';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startProcess } from '../support/processes.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { temporaryFolder } from '../support/site.ts';
import { type Ended, launcher, run } from './spawn.ts';

/** A folder with a configuration whose `docker.io` and `ghcr.io` are one scripted registry. */
async function folderFor(upstream: ScriptedRegistry) {
  const folder = await temporaryFolder();
  const upstreams = { 'docker.io': { urls: [upstream.origin] }, 'ghcr.io': { urls: [upstream.origin] } };
  await writeFile(join(folder.path, 'millpond.yaml'), JSON.stringify({ upstreams, listen: '127.0.0.1:0' }));
  const fetch = (args: readonly string[], input?: string): Promise<Ended> =>
    run(launcher, ['fetch', ...args], { cwd: folder.path, ...(input !== undefined && { input }) });
  return { ...folder, upstreams, fetch };
}

describe('millpond fetch', () => {
  test('fetches what names, a list and manifests name, alone on the directory, and says what it did', async () => {
    await using upstream = await startRegistry();
    for (const tag of ['1.0.0', '1.1.0', '2.0.0']) upstream.addImage('org/app', tag, { layers: [`app ${tag}`] });
    upstream.addImage('library/nginx', 'latest', { layers: [{ size: 3_000_000 }] });
    upstream.addImage('library/busybox', '1.37');
    await using folder = await folderFor(upstream);
    await writeFile(join(folder.path, 'images.yaml'), '- name: ghcr.io/org/app\n  tags: ["^1"]\n');
    const pod = 'kind: Pod\nspec:\n  containers:\n    - image: busybox:1.37\n';
    const args = ['nginx', '--file', 'images.yaml', '--from-manifests', '-', '--concurrency', '2'];
    const first = await folder.fetch(args, pod);
    expect({ ...first, stdout: '' }).toEqual({ code: 0, stdout: '', stderr: '' });
    // How far it was when depends on speed.
    const lines = first.stdout
      .trim()
      .split('\n')
      .filter((line) => !/^\d+ %, /.test(line));
    expect(lines.pop()).toBe('4 of 4 images here, 2.9MiB fetched');
    expect(lines.toSorted()).toEqual([
      expect.stringMatching(/^docker\.io\/library\/busybox:1\.37 sha256:[0-9a-f]{12}… \d+B, \d+B fetched$/),
      expect.stringMatching(/^docker\.io\/library\/nginx:latest sha256:[0-9a-f]{12}… 2\.9MiB, 2\.9MiB fetched$/),
      expect.stringMatching(/^ghcr\.io\/org\/app:1\.0\.0 sha256:/),
      expect.stringMatching(/^ghcr\.io\/org\/app:1\.1\.0 sha256:/),
    ]);
    const second = await folder.fetch(['nginx']);
    expect(second.stdout).toMatch(
      /^docker\.io\/library\/nginx:latest sha256:.*, all here\n1 of 1 image here, 0B fetched\n$/,
    );
  });

  test('has the running mirror do it', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('library/nginx', 'latest');
    await using mirror = await startMillpond({ upstreams: { 'docker.io': { urls: [upstream.origin] } } });
    const ended = await run(launcher, ['fetch', 'nginx', '--json'], { cwd: mirror.directory });
    expect([ended.code, ended.stderr]).toEqual([0, '']);
    const events = ended.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as FetchEvent);
    expect(events.find(({ kind }) => kind === 'resolved')).toMatchObject({ digest: image.digest, blobs: 2 });
    expect(events.at(-1)).toMatchObject({ kind: 'end', fetched: 1, failed: 0, failures: [] });
    await upstream.close();
    const blob = await get(`${mirror.origin}/v2/library/nginx/blobs/${image.layers[0]!.digest}`);
    expect([blob.status, blob.headers['cache-status']]).toEqual([200, 'millpond; hit']);
  });

  test('ends with 1 where an image could not be had, and says which and why', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('library/nginx', 'latest');
    await using folder = await folderFor(upstream);
    const ended = await folder.fetch(['nginx', 'nginx:none', 'quay.io/x/y']);
    expect(ended.code).toBe(1);
    expect(ended.stdout).toContain(
      'docker.io/library/nginx:none failed: upstream docker.io has no such manifest in library/nginx\n',
    );
    expect(ended.stdout).toMatch(/\n1 of 3 images here, \d+B fetched\n$/);
    expect(ended.stderr).toBe('millpond: 2 of 3 images could not be fetched\n');
    // A single failure is the error, and is reported nowhere else.
    const one = await folder.fetch(['nginx', 'nginx:none']);
    expect(one.stdout).not.toContain('nginx:none');
    expect(one.stderr).toBe(
      'millpond: docker.io/library/nginx:none could not be fetched: upstream docker.io has no such manifest in library/nginx\n',
    );
  });

  test.each([
    [[], 2, 'no image is named'],
    [['NGINX'], 2, 'NGINX is not the name of an image'],
    [['x', '--platform', 'amd64'], 2, '--platform: "amd64" is not a platform'],
    [['x', '--platform', ''], 2, '--platform: "" is not a platform'],
    [['x', '--concurrency', '0'], 2, '--concurrency: found "0"'],
    [['x', '--max-wait', '5'], 2, '--max-wait: found "5"'],
    [['--file', 'none.yaml'], 1, 'none.yaml cannot be read: ENOENT'],
    [['--file', 'list.yaml'], 1, 'list.yaml:1: unknown key "tag" in [0]; did you mean "tags"?'],
    [['--from-manifests', '-'], 1, '- names no image'],
  ])('%j is refused with code %i and one line', async (args, code, message) => {
    await using folder = await temporaryFolder();
    await writeFile(join(folder.path, 'list.yaml'), '- { name: a, tag: x }\n');
    const ended = await run(launcher, ['fetch', ...args], { cwd: folder.path });
    expect([ended.code, ended.stdout]).toEqual([code, '']);
    expect(ended.stderr).toContain(message);
    expect(ended.stderr.trim().split('\n')).toHaveLength(1);
  });

  test('ends cleanly at Ctrl-C, and goes on from there the next time', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('library/nginx', 'latest', { layers: [{ size: 4_000_000 }] });
    const { digest } = image.layers[0]!;
    const stall = upstream.fault(digest, { kind: 'stall', afterBytes: 3_000_000 }, { times: 1 });
    await using folder = await folderFor(upstream);
    const { process } = await startProcess(launcher, {
      args: ['fetch', 'nginx', '--json'],
      cwd: folder.path,
      ready: /"kind":"blob"/,
    });
    await using _ = process;
    await stall.reached;
    process.kill('SIGINT');
    expect(await process.exited()).toBe(1);
    expect(process.output).toContain('millpond: interrupted');
    stall.release();
    const next = await folder.fetch(['nginx']);
    expect([next.code, next.stderr]).toEqual([0, '']);
  });
});
