import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { blobFile, settled } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

/** A cache with one image of four layers and one that lacks its layer, and what damages it. */
async function place() {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const upstream = owned.use(await startRegistry());
  const cacheDir = join(folder.path, 'data');
  const upstreams = { 'docker.io': { urls: [upstream.origin] } };
  await writeFile(join(folder.path, 'millpond.yaml'), JSON.stringify({ upstreams, cache: { dir: cacheDir } }));
  const site = owned.use(await startTestSite({ upstreams, cacheDir }));
  const layers = ['a', 'b', 'c', 'd'].map((seed) => ({ size: 100_000, seed }));
  const image = upstream.addImage('library/app', 'v1', { layers, config: 'config' });
  const partial = upstream.addImage('library/app', 'v2', { layers: ['never pulled'] });
  await site.get('/v2/app/manifests/v1');
  for (const { digest } of [image.config, ...image.layers]) await site.get(`/v2/app/blobs/${digest}`);
  await site.get('/v2/app/manifests/v2');
  await settled(site);
  const rest = owned.move();
  return {
    image,
    partial,
    upstream,
    site,
    file: (digest: string) => join(cacheDir, blobFile(digest)),
    run: (...args: readonly string[]) => runCommand(args, folder.path),
    path: folder.path,
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[bytes.length >> 1]! ^= 1;
  await writeFile(path, bytes);
}

const shown = (digest: string) => `${digest.slice(0, 19)}…`;

describe.each(['beside a mirror', 'alone'])('verify %s', (where) => {
  test('says that everything is right, and which image is incomplete', async () => {
    await using here = await place();
    if (where === 'alone') await here.site.stop();
    expect(await here.run('verify')).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        /^incomplete {2}docker\.io\/library\/app:v2\n7 blobs, 39\dKiB read: 0 wrong; 1 image incomplete\n$/,
      ),
      stderr: '',
    });
  });

  test('finds what is altered, cut short, gone and unknown, and with --repair fetches it again', async () => {
    await using here = await place();
    const { image, file } = here;
    if (where === 'alone') await here.site.stop();
    const [altered, short, gone, right] = image.layers;
    await flip(file(altered!.digest));
    await truncate(file(short!.digest), 50_000);
    await rm(file(gone!.digest));
    const unknown = digestOf(Buffer.from('unknown'));
    await writeFile(file(unknown), 'unknown');
    const found = await here.run('verify');
    expect(found).toMatchObject({
      code: 1,
      stderr: 'millpond: 4 of 8 blobs are wrong: "millpond verify --repair" fetches it again\n',
    });
    const of = 'of docker.io/library/app';
    const expected = [
      `altered     ${shown(altered!.digest)} ${of}`,
      `truncated   ${shown(short!.digest)} ${of}: 49KiB of 98KiB`,
      `missing     ${shown(gone!.digest)} ${of}`,
      `unrecorded  ${shown(unknown)}`,
    ];
    expect(found.stdout.split('\n').filter((line) => /^(?:altered|truncated|missing|unrecorded) /.test(line))).toEqual(
      expect.arrayContaining(expected),
    );
    expect(found.stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    // One image, and only what it consists of.
    expect(await here.run('verify', 'app:v1', '--json')).toMatchObject({ code: 1 });
    here.upstream.forgetRequests();
    const repaired = await here.run('verify', '--repair');
    expect(repaired).toMatchObject({ code: 0, stderr: '' });
    for (const line of expected.slice(0, 3)) {
      expect(repaired.stdout).toContain(`${line} – fetched again\n`);
    }
    expect(repaired.stdout).toContain(`${expected[3]} – recorded\n`);
    expect(repaired.stdout).toMatch(/: 4 wrong, 4 put right; 1 image incomplete\n$/);
    for (const { digest } of image.layers) expect(digestOf(await readFile(file(digest)))).toBe(digest);
    expect(here.upstream.bytesSent(right!.digest)).toBe(0);
    expect(await here.run('verify')).toMatchObject({ code: 0, stderr: '' });
  });

  test('of what cannot be fetched now sets it aside, says so and fails', async () => {
    await using here = await place();
    if (where === 'alone') await here.site.stop();
    const [layer] = here.image.layers;
    await flip(here.file(layer!.digest));
    await rm(here.file(here.image.digest));
    here.upstream.fault(undefined, { kind: 'status', status: 404 });
    const { code, stdout, stderr } = await here.run('verify', '--repair', '--json');
    expect(code).toBe(1);
    expect(stderr).toBe('millpond: 2 of 7 blobs are wrong and not put right\n');
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(events.filter(({ kind }) => kind === 'finding')).toEqual(
      expect.arrayContaining([
        {
          kind: 'finding',
          finding: expect.objectContaining({ kind: 'altered', digest: layer!.digest, size: 100_000 }),
          repositories: ['docker.io/library/app'],
          mending: 'lost',
        },
      ]),
    );
    expect(events.at(-1)).toMatchObject({ kind: 'end', findings: 2, mended: 0 });
    await expect(readFile(here.file(layer!.digest))).rejects.toThrow('ENOENT');
  });
});

describe('verify', () => {
  test('of what is not here is a failure of one line', async () => {
    await using here = await place();
    expect(await here.run('verify', 'app:v9')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'millpond: nothing of app:v9 is here\n',
    });
  });

  test('draws a bar on a terminal and leaves only lines', async () => {
    await using here = await place();
    let stdout = '';
    const code = await runProgram(['verify', 'app:v1'], {
      stdout: { write: (text) => void (stdout += text), isTTY: true, columns: 80, rows: 24 },
      stderr: { write: () => undefined },
      stdin: Readable.from([]),
      environment: {},
      workingDirectory: here.path,
    });
    expect(code).toBe(0);
    expect(stdout).toMatch(/6 blobs, \d+KiB read: 0 wrong\n/);
  });
});
