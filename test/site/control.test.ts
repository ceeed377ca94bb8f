import { lstat, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Explanation } from '../../src/operations/protocol/explain.ts';
import type { SiteStatus } from '../../src/site/site-status.ts';
import { type Ended, launcher, run } from '../cli/spawn.ts';
import { settled } from '../mirror/support.ts';
import { get, json } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

function ask(site: TestSite, path: string) {
  return get(`http://millpond${path}`, { unixSocket: join(site.cacheDir, 'control.sock') });
}

function millpond(args: readonly string[], cwd: string): Promise<Ended> {
  return run(launcher, args, { cwd });
}

describe('the control socket', () => {
  test('is for its owner alone, and gone when the mirror has stopped', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const path = join(site.cacheDir, 'control.sock');
    const found = await lstat(path);
    expect(found.isSocket()).toBe(true);
    expect(found.mode & 0o777).toBe(0o600);
    await site.stop();
    await expect(lstat(path)).rejects.toThrow('ENOENT');
  });

  test('answers what it does not know with one sentence, and nothing of it is served over TCP', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const unknown = await ask(site, '/secrets');
    expect([unknown.status, json(unknown)]).toEqual([404, { error: 'this mirror does not know that question' }]);
    expect((await ask(site, '/explain')).status).toBe(400);
    expect(json(await ask(site, '/explain?image=evil.example/x'))).toEqual({
      error: expect.stringContaining('"evil.example" is not a configured upstream'),
    });
    for (const path of ['/status', '/explain?image=x']) expect((await site.get(path)).status).toBe(404);
  });

  test('one that a killed mirror left behind is replaced', async () => {
    await using upstream = await startRegistry();
    await using killed = await startMillpond({ upstreams: { 'docker.io': { urls: [upstream.origin] } } });
    killed.process.kill('SIGKILL');
    await killed.process.exited();
    const cacheDir = join(killed.directory, 'data');
    expect((await lstat(join(cacheDir, 'control.sock'))).isSocket()).toBe(true);
    const none = await millpond(['status', '--config', 'millpond.yaml'], killed.directory);
    expect(none).toEqual({ code: 1, stdout: '', stderr: `millpond: no mirror is running on ${cacheDir}\n` });
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, cacheDir });
    expect((await ask(site, '/status')).status).toBe(200);
  });

  test('a path that is too long for a socket costs the socket and one line in the log, nothing more', async () => {
    await using folder = await temporaryFolder();
    await using upstream = await startRegistry();
    const cacheDir = join(folder.path, 'x'.repeat(110));
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, cacheDir });
    expect((await site.get('/v2/')).status).toBe(200);
    expect(site.logLines.filter(({ level }) => Number(level) >= 40)).toMatchObject([
      {
        msg: 'no control socket: status and explain cannot ask this mirror',
        reason: expect.stringContaining('the path of the control socket has more than'),
      },
    ]);
    await writeFile(join(folder.path, 'millpond.yaml'), `cache: { dir: ${cacheDir} }\n`);
    const refused = await millpond(['explain', 'docker.io/library/app'], folder.path);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toBe(
      `millpond: another Millpond uses ${cacheDir}/catalog.sqlite ("millpond serve", pid ${process.pid}): one cache directory has one owner, and it has no control socket on which it could be asked\n`,
    );
  });
});

describe('millpond status', () => {
  test('without a running mirror is a failure of one line', async () => {
    await using folder = await temporaryFolder();
    const ended = await millpond(['status', '--cache-dir', folder.path], folder.path);
    expect(ended).toEqual({ code: 1, stdout: '', stderr: `millpond: no mirror is running on ${folder.path}\n` });
  });

  test('counts what came from disk, and what was fetched', async () => {
    await using upstream = await startRegistry({ headers: { 'ratelimit-remaining': '76;w=21600' } });
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream, 'quay.io': upstream } });
    const blob = upstream.addBlob({ size: 300_000, seed: 1 });
    for (let pull = 0; pull < 4; pull++) {
      await site.get(`/v2/library/app/blobs/${blob.digest}`);
      await settled(site);
    }
    const image = upstream.addImage('library/app', 'v1');
    await site.get('/v2/library/app/manifests/v1');
    const status = json<SiteStatus>(await ask(site, '/status'));
    expect(status).toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
      pid: process.pid,
      address: site.origin.replace('http://', ''),
      offline: false,
      readiness: { status: 'ok', reasons: [] },
      traffic: {
        hits: 3,
        misses: 2,
        hitRatio: 0.6,
        bytesToClients: 1_200_000 + image.size,
        bytesFromUpstream: 300_000 + image.size,
        bytesSaved: 900_000,
      },
      upstreams: [
        { name: 'docker.io', available: true, sparing: false, hits: 3, status: { rateLimit: { remaining: 76 } } },
        { name: 'quay.io', available: true, hits: 0, bytesFromUpstream: 0 },
      ],
      cache: { dir: site.cacheDir, blobs: 2, usedBytes: 300_000 + image.size, maxBytes: 100 * 1024 ** 3 },
    });
  });

  test('counts no refusal as bytes that were saved', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const refused = await site.get('/v2/evil.example/app/manifests/1');
    expect([refused.status, refused.body.length > 0]).toEqual([404, true]);
    const { traffic } = json<SiteStatus>(await ask(site, '/status'));
    expect(traffic).toMatchObject({ hits: 0, bytesSaved: 0 });
  });

  test('shows what is being fetched while it is', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 3_000_000, seed: 1 });
    const stalled = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 2_000_000 });
    const pull = site.get(`/v2/library/app/blobs/${blob.digest}`);
    await stalled.reached;
    const [fill] = json<SiteStatus>(await ask(site, '/status')).fills;
    expect(fill).toMatchObject({
      digest: blob.digest,
      sizeBytes: 3_000_000,
      sources: [`docker.io/library/app ${upstream.origin}/`],
      readers: 1,
    });
    stalled.release();
    expect((await pull).sha256).toBe(blob.digest);
  });

  test('is readable in a terminal of 80 columns, and says what of an upstream is left alone and why', async () => {
    await using upstream = await startRegistry();
    await using gone = await startRegistry();
    await using mirror = await startMillpond({
      upstreams: { 'docker.io': { urls: [upstream.origin] }, 'quay.io': { urls: [gone.origin] } },
    });
    gone.fault(undefined, { kind: 'status', status: 429, headers: { 'Retry-After': '600' } });
    await get(`${mirror.origin}/v2/quay.io/team/app/manifests/v1`);
    const { code, stdout, stderr } = await millpond(['status'], mirror.directory);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^mirror {6}Millpond \d+\.\d+\.\d+ at 127\.0\.0\.1:\d+, up \d+ s\n/);
    expect(stdout).toMatch(/^docker\.io +available +0 +0 +0B +–$/m);
    expect(stdout).toMatch(/^quay\.io +in part/m);
    expect(stdout).toMatch(
      new RegExp(`^ {2}${gone.origin}/ team/app \\(manifest\\)\n {4}limited until 20.*: .+$`, 'm'),
    );
    const long = stdout.split('\n').filter((line) => line.length > 80 && !line.includes(mirror.directory));
    expect(long).toEqual([]);
    const inJson = await millpond(['status', '--json'], mirror.directory);
    expect(JSON.parse(inJson.stdout)).toMatchObject({
      upstreams: [{ name: 'docker.io' }, { status: { endpoints: [{ parts: [{ repository: 'team/app' }] }] } }],
    });
  });
});

describe('millpond explain', () => {
  test('asks the running mirror, which contacts no upstream', async () => {
    await using upstream = await startRegistry();
    await using mirror = await startMillpond({
      upstreams: { 'docker.io': { urls: [upstream.origin], tags: [{ match: 'v*', tagTtl: '1h' }] } },
    });
    const image = upstream.addImage('library/app', 'v1', { layers: ['a', 'b'] });
    await get(`${mirror.origin}/v2/library/app/manifests/v1`);
    upstream.forgetRequests();
    const { code, stdout, stderr } = await millpond(['explain', 'docker.io/app:v1'], mirror.directory);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain('upstream    docker.io (named by the image)\nrepository  library/app\n');
    expect(stdout).toContain('credential  anonymous\n');
    expect(stdout).toContain('rule        upstreams.docker.io.tags[0] matches: "v*"\n');
    expect(stdout).toContain(`  ${image.digest}\n            0 of 3 blobs here (0B), 3 missing (`);
    expect(stdout).toMatch(/^now {9}Fresh for another (?:59|60) min: served from disk,/m);
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
    expect(upstream.requests).toEqual([]);
  });

  test("takes this mirror's own address off a name, as it was pulled", async () => {
    await using mirror = await startMillpond({
      upstreams: { 'docker.io': { hosts: ['docker.mirror.example'] }, 'ghcr.io': {} },
    });
    const { host, port } = new URL(mirror.origin);
    const explained = async (name: string): Promise<string[]> => {
      const { stdout } = await millpond(['explain', name], mirror.directory);
      const line = (label: string) => new RegExp(`^${label} +(.*)$`, 'm').exec(stdout)?.[1] ?? '';
      return [line('upstream'), line('repository'), line('tag')];
    };
    const busybox = (by: string) => [`docker.io (${by})`, 'library/busybox', '1.37'];
    expect(await explained(`${host}/docker.io/library/busybox:1.37`)).toEqual(busybox('named by the image'));
    expect(await explained(`${host}/busybox:1.37`)).toEqual(busybox('the default'));
    expect(await explained(`localhost:${port}/busybox:1.37`)).toEqual(busybox('the default'));
    expect(await explained('millpond.example:5000/docker.io/busybox:1.37')).toEqual(busybox('named by the image'));
    expect(await explained('docker.mirror.example/busybox:1.37')).toEqual(busybox('named by the image'));
    expect(await explained(`${host}/ghcr.io/org/app:1`)).toEqual(['ghcr.io (named by the image)', 'org/app', '1']);
    const other = await millpond(['explain', 'other.example:5000/library/busybox'], mirror.directory);
    expect(other.stderr).toMatch(/^millpond: "other\.example:5000" is not a configured upstream /);
  });

  test('reads the directory where no mirror runs, and makes none that is not there', async () => {
    await using folder = await temporaryFolder();
    await writeFile(
      join(folder.path, 'millpond.yaml'),
      'upstreams: { ghcr.io: { auth: { username: me, password: s3cret }, repositories: { deny: ["secret/**"] } } }\n',
    );
    const { code, stdout } = await millpond(['explain', 'ghcr.io/org/app', '--json'], folder.path);
    expect(code).toBe(0);
    expect(stdout).not.toContain('s3cret');
    expect(JSON.parse(stdout)).toMatchObject({
      upstream: { name: 'ghcr.io', urls: ['https://ghcr.io/'], credential: 'user me, password from the configuration' },
      tag: 'latest',
      stored: null,
      outcome: { kind: 'missing', text: 'Not stored: fetched from ghcr.io and kept.' },
    } satisfies Partial<Record<keyof Explanation, unknown>>);
    expect(await readdir(folder.path)).toEqual(['millpond.yaml']);
    const denied = await millpond(['explain', 'ghcr.io/secret/app'], folder.path);
    expect(denied.stdout).toContain('repository  secret/app (not allowed)\n');
    expect(denied.stdout).toContain(
      'now         Refused with 403: upstreams.ghcr.io.repositories does not allow it.\n',
    );
  });

  test.each([
    [['explain'], 2, 'millpond: missing required argument \'image\' (see "millpond --help")\n'],
    [['explain', 'evil.example/app'], 1, /^millpond: "evil\.example" is not a configured upstream .+\n$/],
    [
      ['explain', 'Upper/Case'],
      2,
      'millpond: Upper/Case is not the name of an image: "Upper/Case" is not a repository name (see "millpond --help")\n',
    ],
  ] as const)('%j is refused in one line', async (args, code, stderr) => {
    await using folder = await temporaryFolder();
    const ended = await millpond(args, folder.path);
    expect(ended).toMatchObject({ code, stdout: '' });
    if (typeof stderr === 'string') expect(ended.stderr).toBe(stderr);
    else expect(ended.stderr).toMatch(stderr);
  });

  test('a socket that is none is not trusted', async () => {
    await using folder = await temporaryFolder();
    await writeFile(join(folder.path, 'control.sock'), '');
    const ended = await millpond(['status', '--cache-dir', folder.path], folder.path);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining('is not the control socket of a mirror') });
  });

  test('what listens there and is no mirror is said to be none', async () => {
    await using folder = await temporaryFolder();
    const server = createServer((socket) => void socket.end('hello\n', () => socket.destroy()));
    await new Promise<void>((resolve) => server.listen(join(folder.path, 'control.sock'), resolve));
    const ended = await millpond(['status', '--cache-dir', folder.path], folder.path);
    expect(ended).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^millpond: the mirror at .+ cannot be asked: /),
    });
    await new Promise((resolve) => server.close(resolve));
  });
});
