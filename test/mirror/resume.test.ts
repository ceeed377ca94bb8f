import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { blobFile, filesOf } from './support.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const size = 2 * MiB;

describe('an upstream that cuts a transfer', () => {
  test.each([0, 1, 100 * KiB, MiB, size - 64 * KiB, size - 10])(
    'after %i bytes is asked for the rest, and the client sees one unbroken body',
    async (afterBytes) => {
      await using upstream = await startRegistry();
      await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
      const blob = upstream.addBlob({ size, seed: `cut ${afterBytes}` });
      upstream.fault(blob.digest, { kind: 'cut', afterBytes }, { times: 1 });
      const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
      expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      const range = upstream.requestsFor(blob.digest)[1]?.headers.range;
      expect(range).toBe(afterBytes === 0 ? undefined : `bytes=${afterBytes}-`);
      expect(upstream.bytesSent(blob.digest)).toBe(size);
    },
  );

  test('three times goes on three times', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'thrice' });
    upstream.fault(blob.digest, { kind: 'cut', afterBytes: 300 * KiB }, { times: 3 });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ complete: true, sha256: blob.digest });
    expect(upstream.requestsFor(blob.digest)).toHaveLength(4);
    expect(upstream.bytesSent(blob.digest)).toBe(size);
  });

  test.each([
    { kind: 'ignore-range' },
    { kind: 'content-range', value: `bytes 0-${size - 1}/${size}` },
    { kind: 'content-range', value: `bytes 500-${size - 1}/${size}` },
    { kind: 'content-range', value: `bytes ${MiB}-${size - 2}/${size}` },
    { kind: 'content-range', value: undefined },
    { kind: 'status', status: 503 },
    { kind: 'reset' },
  ] as const)('and answers the Range badly ($kind $value $status) gets no wrong byte through', async (fault) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'bad range' });
    upstream.fault(blob.digest, { kind: 'cut', afterBytes: MiB }, { times: 1 });
    upstream.fault(({ headers }) => headers.range !== undefined, fault, { times: 1 });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  });

  test('behind a redirect is asked at the registry again: signed addresses expire', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'redirected' });
    upstream.fault(blob.digest, { kind: 'redirect' });
    upstream.cdn.place(undefined, { kind: 'cut', afterBytes: MiB }, { times: 1 });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ complete: true, sha256: blob.digest });
    expect(upstream.requestsFor(blob.digest)).toHaveLength(2);
    expect(new Set(upstream.cdn.requests.map(({ path }) => path)).size).toBe(2);
    expect(upstream.bytesSent(blob.digest)).toBe(size);
  });

  test('for good cuts the client short of Content-Length', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size, seed: 'for good' });
    upstream.fault(({ headers }) => headers.range === undefined, { kind: 'cut', afterBytes: MiB });
    upstream.fault(({ headers }) => headers.range !== undefined, { kind: 'status', status: 403 });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ status: 200, complete: false });
    const content = Buffer.concat([...blob.source.read(0, size)]);
    expect(reply.body.equals(content.subarray(0, reply.receivedBytes))).toBe(true);
  });
});

describe('what a stopped mirror leaves', () => {
  test('is continued by the next one: no byte crosses the wire twice', async () => {
    await using upstream = await startRegistry();
    await using cache = await temporaryDirectory();
    const upstreams = { 'docker.io': upstream };
    const blob = upstream.addBlob({ size: 3 * MiB, seed: 'stopped' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    upstream.fault(blob.digest, { kind: 'stall', afterBytes: 2 * MiB });
    await using first = await startTestSite({
      upstreams,
      cacheDir: cache.path,
      config: { timeouts: { drain: '0s' } },
    });
    let received = 0;
    const cut = first.get(path, { onBytes: (count) => void (received = count) });
    await expect.poll(() => received).toBe(2 * MiB);
    await first.stop();
    expect(await cut).toMatchObject({ complete: false });
    const left = await readFile(join(cache.path, 'ingest', blob.digest.replace(':', '-')));
    expect(left.length).toBe(2 * MiB);

    upstream.clearFaults();
    upstream.forgetRequests();
    await using second = await startTestSite({ upstreams, cacheDir: cache.path });
    expect(await second.get(path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(upstream.requests.map(({ headers }) => headers.range)).toEqual([`bytes=${2 * MiB}-`]);
    expect(upstream.bytesSent(blob.digest)).toBe(MiB);
    expect(await filesOf(second)).toEqual([blobFile(blob.digest)]);
  });

  test.each([
    { left: 'other bytes of the blob’s length', bytes: (right: Buffer) => Buffer.alloc(right.length, 1) },
    { left: 'other bytes', bytes: () => Buffer.alloc(20_000, 2) },
    { left: 'more than the blob', bytes: (right: Buffer) => Buffer.concat([right, right]) },
    { left: 'all of the blob', bytes: (right: Buffer) => right },
    { left: 'nothing', bytes: () => Buffer.alloc(0) },
  ])('may be $left: the client gets the blob', async ({ bytes }) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 50_000, seed: 'left' });
    const right = Buffer.concat([...blob.source.read(0, 50_000)]);
    await writeFile(join(site.cacheDir, 'ingest', blob.digest.replace(':', '-')), bytes(right));
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
  });
});
