import { copyFile, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, test } from 'vitest';
import { ociManifest } from '../src/oci/media-types.ts';
import { blobFile, settled } from './mirror/support.ts';
import { json } from './support/client.ts';
import { type ScriptedRegistry, startRegistry } from './support/registry.ts';
import { startTestSite, type TestSite } from './support/site.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';

const variantAccept = 'application/vnd.docker.distribution.manifest.v2+json';

interface Question {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What an upstream holds, and every question that a client may ask about it. */
function fill(upstream: ScriptedRegistry): { asked: Question[]; refused: Question[] } {
  const base = upstream.addBlob({ size: 100_000, seed: 'base' });
  const images = ['amd64', 'arm64'].map((architecture) => ({
    manifest: upstream.addImage('library/app', undefined, {
      layers: [base, { size: 70_000, seed: architecture }],
      config: architecture,
    }),
    platform: { os: 'linux', architecture },
  }));
  const index = upstream.addIndex('library/app', '1', images);
  const secret = upstream.addImage('team/private', 'latest', { layers: [{ size: 90_000, seed: 'secret' }] });
  const copy = upstream.addImage('team/copy', '1', images[0]!.manifest);
  const docker = upstream.addImage('library/old', 'v2', { mediaTypes: 'docker', layers: [base], algorithm: 'sha512' });
  const other = upstream.addImage('library/old', 'v2', { layers: [base], config: 'another', variant: true });
  const signature = upstream.addReferrer('library/app', index, {
    artifactType: 'application/vnd.example.signature',
    annotations: { by: 'somebody' },
  });
  const cosigned = upstream.addImage('library/app', `sha256-${index.digest.slice(7)}.sig`, { layers: ['cosign'] });
  const lone = upstream.addBlob('a blob that no manifest names', { repository: 'library/app' });
  const manifest = (repository: string, reference: string, headers = {}): Question => ({
    path: `/v2/${repository}/manifests/${reference}`,
    headers,
  });
  const blob = (repository: string, { digest }: { digest: string }): Question => ({
    path: `/v2/${repository}/blobs/${digest}`,
  });
  return {
    asked: [
      manifest('library/app', '1'),
      ...[index, ...images.map((image) => image.manifest), signature].map(({ digest }) =>
        manifest('library/app', digest),
      ),
      ...images
        .flatMap((image) => [image.manifest.config, ...image.manifest.layers])
        .map((b) => blob('library/app', b)),
      manifest('library/app', `sha256-${index.digest.slice(7)}.sig`),
      ...[cosigned.config, ...cosigned.layers, signature.config, ...signature.layers, lone].map((b) =>
        blob('library/app', b),
      ),
      manifest('team/private', 'latest'),
      ...[secret.config, ...secret.layers].map((b) => blob('team/private', b)),
      manifest('team/copy', '1'),
      ...[copy.config, ...copy.layers].map((b) => blob('team/copy', b)),
      manifest('library/old', 'v2', { Accept: variantAccept }),
      manifest('library/old', 'v2', { Accept: ociManifest }),
      ...[docker.config, other.config, base].map((b) => blob('library/old', b)),
      { path: `/v2/library/app/referrers/${index.digest}` },
      { path: '/v2/library/app/tags/list' },
    ],
    refused: [
      ...[secret.config, ...secret.layers].map((b) => blob('library/app', b)),
      manifest('library/app', secret.digest),
      manifest('library/app', 'latest'),
    ],
  };
}

interface Answer {
  readonly status: number;
  readonly [part: string]: unknown;
}

/** What a client gets, as far as it has to be the same each time. */
async function answers(site: TestSite, questions: readonly Question[]): Promise<Answer[]> {
  const given: Answer[] = [];
  for (const { path, headers = {} } of questions) {
    const { status, headers: got, sha512, complete } = await site.get(path, { headers });
    const { 'content-type': contentType, 'docker-content-digest': digest, 'content-length': length } = got;
    given.push({ path, headers, status, contentType, digest, length, complete, sha512: status === 200 ? sha512 : '' });
  }
  return given;
}

function statuses(given: readonly Answer[]): number[] {
  return given.map(({ status }) => status);
}

async function rebuilt(site: TestSite): Promise<void> {
  await expect
    .poll(async () => json<{ reasons: string[] }>(await site.get('/readyz')).reasons.join())
    .not.toContain('being rebuilt');
}

async function garbage(path: string): Promise<void> {
  const { size } = await stat(path);
  await writeFile(path, Buffer.alloc(size, 'no database '));
}

/** Damages the middle: the header is right, so that the damage is found only when something is read. */
async function damageInside(path: string): Promise<void> {
  const { size } = await stat(path);
  await using file = await open(path, 'r+');
  const page = Buffer.alloc(4096, 0xa5);
  for (let position = 4096; position < size; position += 4096) await file.write(page, 0, page.length, position);
}

async function changed(path: string, sql: string): Promise<void> {
  using database = new DatabaseSync(path);
  database.exec(sql);
}

async function replaced(path: string): Promise<void> {
  await rm(path);
  await changed(path, 'CREATE TABLE blobs (name TEXT); PRAGMA user_version = 3');
}

describe.each<[string, (catalog: string) => Promise<void>]>([
  ['deleted', (path) => rm(path)],
  ['overwritten with garbage', garbage],
  ['emptied', (path) => truncate(path)],
  ['damaged inside', damageInside],
  ['robbed of a table', (path) => changed(path, 'DROP TABLE tags')],
  ["replaced by another program's", replaced],
])('a catalog that was %s', (_, damage) => {
  test.each([{ offline: true }, { offline: false }])(
    'is rebuilt: the same answers as before ($offline)',
    async ({ offline }) => {
      await using upstream = await startRegistry();
      await using cache = await temporaryDirectory();
      const now = Date.now();
      const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, now: () => now };
      const { asked, refused } = fill(upstream);
      {
        await using site = await startTestSite(options);
        for (const { path, headers = {} } of asked) expect((await site.get(path, { headers })).status).toBe(200);
        await settled(site);
      }
      if (offline) await upstream.suspend();
      const started = { ...options, config: { offline } };
      const before = await (async () => {
        await using site = await startTestSite(started);
        return { asked: await answers(site, asked), refused: await answers(site, refused) };
      })();
      expect(statuses(before.refused)).toEqual([404, 404, 404, 404]);
      await damage(join(cache.path, 'catalog.sqlite'));
      upstream.forgetRequests();
      {
        await using site = await startTestSite(started);
        // At once, while it is being rebuilt.
        expect(await answers(site, asked)).toEqual(before.asked);
        expect(await answers(site, refused)).toEqual(before.refused);
        await rebuilt(site);
        expect(await answers(site, asked)).toEqual(before.asked);
        expect(await answers(site, refused)).toEqual(before.refused);
      }
      // It is whole: nothing has to be fetched again, and the next start knows nothing of what has happened.
      expect(
        upstream.requests.filter(
          ({ status = 0, method, path }) => status < 300 && method === 'GET' && path.includes('/blobs/sha'),
        ),
      ).toEqual([]);
      await using site = await startTestSite({ ...options, config: { offline: true } });
      expect(json(await site.get('/readyz'))).toEqual({ status: 'ok', reasons: [] });
      const after = await answers(site, asked);
      if (offline) expect(after).toEqual(before.asked);
      expect(statuses(after)).toEqual(asked.map(() => 200));
      expect(statuses(await answers(site, refused))).toEqual([404, 404, 404, 404]);
    },
  );
});

test('a catalog that is deleted under a running mirror, with its journal of names, is rebuilt there and then', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const now = Date.now();
  const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, now: () => now };
  const { asked, refused } = fill(upstream);
  {
    await using site = await startTestSite(options);
    for (const { path, headers = {} } of asked) expect((await site.get(path, { headers })).status).toBe(200);
    await settled(site);
    const before = [await answers(site, asked), await answers(site, refused)];
    for (const name of ['catalog.sqlite', 'catalog.sqlite-wal', 'names-1.journal']) await rm(join(cache.path, name));
    await expect(startTestSite(options)).rejects.toThrow('one cache directory has one owner');
    await expect.poll(() => site.logLines.map((line) => line['msg'])).toContain('journal of names rewritten');
    expect([await answers(site, asked), await answers(site, refused)]).toEqual(before);
  }
  await using site = await startTestSite({ ...options, config: { offline: true } });
  expect(json(await site.get('/readyz'))).toEqual({ status: 'ok', reasons: [] });
  expect(statuses(await answers(site, asked))).toEqual(asked.map(() => 200));
  expect(statuses(await answers(site, refused))).toEqual([404, 404, 404, 404]);
});

test('a blob that was altered or cut before its catalog was lost is fetched again, not given out', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const config = { cache: { scrub: { every: 0 } } };
  const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, config };
  const image = upstream.addImage('library/app', '1', {
    layers: ['right', 'altered', 'cut'].map((seed) => ({ size: 300_000, seed })),
  });
  const [right = '', altered = '', cut = ''] = image.layers.map(({ digest }) => digest);
  const pathOf = (digest: string) => `/v2/library/app/blobs/${digest}`;
  {
    await using site = await startTestSite(options);
    expect((await site.get('/v2/library/app/manifests/1')).status).toBe(200);
    for (const { digest } of image.layers) expect((await site.get(pathOf(digest))).sha256).toBe(digest);
    await settled(site);
  }
  {
    await using file = await open(join(cache.path, blobFile(altered)), 'r+');
    await file.write(Buffer.from('XXXX'), 0, 4, 500);
  }
  await truncate(join(cache.path, blobFile(cut)), 200_000);
  await rm(join(cache.path, 'catalog.sqlite'));
  upstream.forgetRequests();
  await using site = await startTestSite(options);
  await rebuilt(site);
  for (const digest of [right, altered, cut, right]) {
    const reply = await site.get(pathOf(digest));
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: digest, receivedBytes: 300_000 });
  }
  expect(upstream.requests.map(({ path }) => path)).toEqual([altered, cut].map(pathOf));
});

test('a catalog that is lost twice is rebuilt twice, also from a journal that was rewritten', async () => {
  await using upstream = await startRegistry();
  await using cache = await temporaryDirectory();
  const now = Date.now();
  const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, now: () => now };
  const { asked, refused } = fill(upstream);
  {
    await using site = await startTestSite(options);
    for (const { path, headers = {} } of asked) await site.get(path, { headers });
    await settled(site);
  }
  const offline = { ...options, config: { offline: true } };
  const seen: unknown[] = [];
  for (let time = 0; time < 3; time += 1) {
    const length = (await readFile(join(cache.path, 'names-1.journal'))).length;
    {
      await using site = await startTestSite(offline);
      seen.push([await answers(site, asked), await answers(site, refused)]);
      await rebuilt(site);
      // A rebuilt catalog rewrites its names at once: it does not know how many of the old ones are obsolete.
      if (time > 0)
        await expect.poll(() => site.logLines.map((line) => line['msg'])).toContain('journal of names rewritten');
    }
    expect((await readFile(join(cache.path, 'names-1.journal'))).length).toBeLessThanOrEqual(length);
    await rm(join(cache.path, 'catalog.sqlite'));
  }
  expect(seen[1]).toEqual(seen[0]);
  expect(seen[2]).toEqual(seen[0]);
});

test.each([{ offline: true }, { offline: false }])(
  'a catalog from a backup beside all that came later answers as the newer one did ($offline)',
  async ({ offline }) => {
    await using upstream = await startRegistry();
    await using cache = await temporaryDirectory();
    const now = Date.now();
    const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path, now: () => now };
    const path = join(cache.path, 'catalog.sqlite');
    const { asked, refused } = fill(upstream);
    const pull = async (questions: readonly Question[]) => {
      await using site = await startTestSite(options);
      for (const { path: asking, headers = {} } of questions) {
        expect((await site.get(asking, { headers })).status).toBe(200);
      }
      await settled(site);
    };
    await pull(asked.slice(0, 3));
    await copyFile(path, `${path}.backup`);
    await pull(asked);
    if (offline) await upstream.suspend();
    const started = { ...options, config: { offline } };
    const before = await (async () => {
      await using site = await startTestSite(started);
      return { asked: await answers(site, asked), refused: await answers(site, refused) };
    })();
    await rm(`${path}-wal`, { force: true });
    await copyFile(`${path}.backup`, path);
    {
      await using site = await startTestSite(started);
      expect(await answers(site, asked)).toEqual(before.asked);
      expect(await answers(site, refused)).toEqual(before.refused);
      await rebuilt(site);
      expect(await answers(site, asked)).toEqual(before.asked);
      expect(site.logLines.map((line) => line['msg'])).toContain('catalog rebuilt');
    }
    await using site = await startTestSite({ ...options, config: { offline: true } });
    expect(json(await site.get('/readyz'))).toEqual({ status: 'ok', reasons: [] });
    expect(statuses(await answers(site, asked))).toEqual(asked.map(() => 200));
    expect(statuses(await answers(site, refused))).toEqual([404, 404, 404, 404]);
  },
);
