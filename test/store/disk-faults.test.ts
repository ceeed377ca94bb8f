import fs from 'node:fs';
import { mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { filesOf, settled } from '../mirror/support.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const MiB = 1024 * 1024;
const unreachable = { 'docker.io': { origin: 'http://127.0.0.1:9' } };

describe('a stored blob that cannot be read', () => {
  test('is fetched again before any header is sent; cut in the middle it is not joined to other bytes', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 3 * MiB, seed: 'unreadable' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    expect(await site.get(path)).toMatchObject({ sha256: blob.digest });
    await settled(site);
    upstream.forgetRequests();
    {
      using _ = failingReads({ after: 0 });
      expect(await site.get(path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      expect(await site.get(path, { headers: { range: 'bytes=5-9' } })).toMatchObject({
        status: 206,
        receivedBytes: 5,
      });
    }
    expect(upstream.requestsFor(blob.digest).length).toBeGreaterThan(0);
    await settled(site);
    using _ = failingReads({ after: 1 });
    expect(await site.get(path)).toMatchObject({ status: 200, complete: false });
  });
});

/** Lets large reads of files fail as those of a bad disk do, after so many that succeed, until it is disposed. */
function failingReads({ after }: { readonly after: number }): Disposable {
  const real = fs.read;
  let left = after;
  const failing = (...args: unknown[]): void => {
    const [, buffer] = args as [number, Buffer];
    const callback = args.at(-1) as (error: Error) => void;
    if (buffer.length < 5 || buffer.length === 3 * MiB || left-- > 0) (real as (...all: unknown[]) => void)(...args);
    else setImmediate(callback, Object.assign(new Error('i/o error'), { code: 'EIO' }));
  };
  fs.read = failing as typeof fs.read;
  syncBuiltinESMExports();
  return {
    [Symbol.dispose]() {
      fs.read = real;
      syncBuiltinESMExports();
    },
  };
}

describe('a disk that cannot take anything', () => {
  test('lets pulls through, verified; /readyz says so; afterwards things are kept again', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 3 * MiB, seed: 'disk' }] });
    const ingest = join(site.cacheDir, 'ingest');
    await rename(ingest, `${ingest}.away`);
    await writeFile(ingest, 'a file where the folder should be');

    expect(await site.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200, sha256: image.digest });
    for (const { digest, size } of [image.config, ...image.layers]) {
      const replies = await Promise.all([1, 2, 3].map(() => site.get(`/v2/library/app/blobs/${digest}`)));
      for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: digest });
      const tail = await site.get(`/v2/library/app/blobs/${digest}`, { headers: { range: 'bytes=-10' } });
      expect(tail).toMatchObject({ status: 206, receivedBytes: Math.min(10, size) });
    }
    const wrong = upstream.addBlob({ size: MiB, seed: 'wrong' });
    upstream.fault(wrong.digest, { kind: 'flip' });
    expect((await site.get(`/v2/library/app/blobs/${wrong.digest}`)).complete).toBe(false);

    const ready = await site.get('/readyz');
    expect(ready.status).toBe(200);
    expect(JSON.parse(ready.body.toString())).toMatchObject({
      status: 'degraded',
      reasons: [expect.stringContaining('disk')],
    });
    expect((await site.get('/metrics')).body.toString()).toMatch(/^millpond_disk_faults_total [1-9]/m);

    await rm(ingest);
    await rename(`${ingest}.away`, ingest);
    expect(await filesOf(site)).toEqual([]);
    const [layer] = image.layers;
    await site.get(`/v2/library/app/blobs/${layer?.digest}`);
    expect(await filesOf(site)).toHaveLength(1);
    upstream.forgetRequests();
    expect(await site.get(`/v2/library/app/blobs/${layer?.digest}`)).toMatchObject({ sha256: layer?.digest });
    expect(upstream.requests).toEqual([]);
  });

  test.each([1, 64 * 1024, 64 * 1024 + 1, 3 * MiB])('never sends a wrong last byte of %i bytes', async (size) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const ingest = join(site.cacheDir, 'ingest');
    await rm(ingest, { recursive: true });
    await writeFile(ingest, 'a file where the folder should be');
    const blob = upstream.addBlob({ size, seed: 'wrong end' });
    upstream.fault(blob.digest, { kind: 'flip', position: size - 1 });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    if (reply.status === 200) {
      expect(reply.complete).toBe(false);
      expect(reply.receivedBytes).toBeLessThanOrEqual(Math.max(0, size - 64 * 1024));
    } else expect(reply.status).toBe(502);
  });

  test('only at the end, when the blob is to be made visible, still gives it whole and leaves no partial', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blobs = join(site.cacheDir, 'blobs', 'sha256');
    await rm(blobs, { recursive: true });
    await writeFile(blobs, 'a file where the folder should be');
    const blob = upstream.addBlob({ size: MiB, seed: 'commit' });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(await filesOf(site).then((files) => files.filter((file) => file.startsWith('ingest')))).toEqual([]);
    await rm(blobs);
    await mkdir(blobs);
    expect(await site.get(`/v2/library/app/blobs/${blob.digest}`)).toMatchObject({ sha256: blob.digest });
    expect(await filesOf(site)).toHaveLength(1);
  });
});

describe('a disk that cannot take anything, before an upstream that says nothing', () => {
  test('costs no client more than the deadline, which ends with 504', async () => {
    await using upstream = await startRegistry();
    const config = { timeouts: { answer: '300ms' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: MiB, seed: 'silent' });
    const ingest = join(site.cacheDir, 'ingest');
    await rm(ingest, { recursive: true });
    await writeFile(ingest, 'a file where the folder should be');
    upstream.fault(blob.digest, { kind: 'silence' });
    expect((await site.get(`/v2/library/app/blobs/${blob.digest}`)).status).toBe(504);
  });
});

describe('a cache directory', () => {
  test('has one owner: a second mirror is refused in one sentence, and the first goes on', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const second = startTestSite({ upstreams: { 'docker.io': upstream }, cacheDir: site.cacheDir });
    await expect(second).rejects.toThrow(
      /^another Millpond uses \S+ \("millpond serve", pid \d+\): one cache directory has one owner$/,
    );
    const image = upstream.addImage('library/app', '1');
    expect(await site.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200, sha256: image.digest });
    await site.stop();
    await using third = await startTestSite({ upstreams: { 'docker.io': upstream }, cacheDir: site.cacheDir });
    expect((await third.get('/v2/library/app/manifests/1')).headers['cache-status']).toBe('millpond; hit');
  });

  test.each([
    ['{"layout":2}', /^the cache directory \S+ has layout 2 and this version reads layout 1: /],
    ...['{"layout":"1"}', '{}', 'nonsense', ''].map((text): [string, RegExp] => [
      text,
      /^the cache directory \S+ does not say what layout it has, and this version reads layout 1: .*\/millpond\.json/,
    ]),
  ])('of another layout (%s) is refused, and left alone', async (text, sentence) => {
    await using cache = await temporaryDirectory();
    await writeFile(join(cache.path, 'millpond.json'), text);
    const site = startTestSite({ upstreams: unreachable, cacheDir: cache.path });
    await expect(site).rejects.toThrow(sentence);
    expect(await readdir(cache.path)).toEqual(['millpond.json']);
  });

  test.each<[string, path: string, kind: 'file' | 'folder' | 'link', sentence: string]>([
    ['is a file', 'in/cache', 'file', 'cannot make the folder DIR: something that is no folder is in its place'],
    ['lies in a file', 'in', 'file', 'cannot make the folder DIR: something that is no folder is in its place'],
    ['is a link to nowhere', 'in/cache', 'link', 'cannot make the folder DIR: a link on its way leads nowhere'],
    ['has a file for blobs', 'in/cache/blobs', 'file', 'cannot list the folder DIR/blobs/sha256: something that'],
    ['has a file for ingest', 'in/cache/ingest', 'file', 'cannot make the folder DIR/ingest: something that'],
    ['has a folder for its note', 'in/cache/millpond.json', 'folder', 'cannot read DIR/millpond.json: it is a folder'],
    ['has a folder for its tag', 'in/cache/CACHEDIR.TAG', 'folder', 'cannot read DIR/CACHEDIR.TAG: it is a folder'],
  ])('that %s is refused in one sentence', async (_, path, kind, sentence) => {
    await using parent = await temporaryDirectory();
    const spoilt = join(parent.path, path);
    await mkdir(kind === 'folder' ? spoilt : dirname(spoilt), { recursive: true });
    if (kind === 'file') await writeFile(spoilt, '');
    if (kind === 'link') await symlink('nowhere', spoilt);
    const cacheDir = join(parent.path, 'in', 'cache');
    const site = startTestSite({ upstreams: unreachable, cacheDir });
    await expect(site).rejects.toThrow(sentence.replace('DIR', cacheDir));
  });

  test('that is an OCI layout of somebody else is refused, and left alone', async () => {
    await using folder = await temporaryDirectory();
    const content = Buffer.from('of somebody else');
    const blob = join('blobs', 'sha256', digestOf(content).slice(7));
    await mkdir(join(folder.path, 'blobs', 'sha256'), { recursive: true });
    await writeFile(join(folder.path, blob), content);
    await writeFile(join(folder.path, 'oci-layout'), '{"imageLayoutVersion": "1.0.0"}');
    await writeFile(join(folder.path, 'index.json'), '{"schemaVersion":2,"manifests":[]}');
    const before = (await readdir(folder.path, { recursive: true })).toSorted();
    const site = startTestSite({ upstreams: unreachable, cacheDir: folder.path });
    await expect(site).rejects.toThrow(
      `the cache directory ${folder.path} has blobs that are not from a cache: use another cache.dir`,
    );
    expect((await readdir(folder.path, { recursive: true })).toSorted()).toEqual(before);
    expect(before).toContain(blob);
  });

  test.each([
    ['catalog and note', ['catalog.sqlite', 'millpond.json']],
    ['journal and note', ['names-1.journal', 'millpond.json']],
    ['catalog and journal', ['catalog.sqlite', 'names-1.journal']],
  ])('that has lost its %s is still one', async (_, lost) => {
    await using upstream = await startRegistry();
    await using cache = await temporaryDirectory();
    const options = { upstreams: { 'docker.io': upstream }, cacheDir: cache.path };
    const image = upstream.addImage('library/app', '1');
    {
      await using site = await startTestSite(options);
      expect((await site.get('/v2/library/app/manifests/1')).status).toBe(200);
    }
    for (const name of lost) await rm(join(cache.path, name));
    await using site = await startTestSite(options);
    expect(await site.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200, sha256: image.digest });
  });

  test('is marked as a cache and as an OCI layout', async () => {
    await using site = await startTestSite({ upstreams: unreachable });
    const names = await readdir(site.cacheDir);
    for (const name of ['CACHEDIR.TAG', 'oci-layout', 'blobs', 'ingest', 'millpond.json', 'catalog.sqlite']) {
      expect(names).toContain(name);
    }
    expect(names.filter((name) => name.endsWith('.new'))).toEqual([]);
  });

  test('that lost its blobs fetches them again', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'lost' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    await site.get(path);
    for (const file of await filesOf(site)) await rm(join(site.cacheDir, file));
    expect(await site.get(path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(await filesOf(site)).toHaveLength(1);
  });
});
