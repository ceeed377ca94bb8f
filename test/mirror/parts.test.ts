import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const MiB = 1024 * 1024;

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

describe('a Range of a blob that is not here', () => {
  test('is answered while the bytes before it are still held back by the upstream', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 40 * MiB, seed: 1 });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const beginning = upstream.fault((request) => request.headers.range?.startsWith('bytes=0-') ?? true, {
      kind: 'stall',
      afterBytes: MiB,
    });
    const whole = site.get(path, { keepBody: false });
    await beginning.reached;
    const part = await site.get(path, { headers: { range: `bytes=${30 * MiB}-${30 * MiB + 999}` } });
    expect(part).toMatchObject({ status: 206, complete: true, receivedBytes: 1000 });
    expect(part.headers['content-range']).toBe(`bytes ${30 * MiB}-${30 * MiB + 999}/${40 * MiB}`);
    beginning.release();
    expect(await whole).toMatchObject({ complete: true, sha256: blob.digest });
    expect((await site.get(path)).headers['cache-status']).toBe('millpond; hit');
  });

  test('fills the whole blob behind it, each byte fetched once', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 40 * MiB + 12_345, seed: 2 });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    // As containerd's parallel fetch does: open-ended ranges, each connection cut by the client when it has its part.
    const offsets = [0, 8, 16, 24, 32].map((part) => part * MiB);
    const parts = await Promise.all(
      offsets.map((offset) =>
        site.get(path, { headers: { range: `bytes=${offset}-` }, leaveAfterBytes: 8 * MiB, keepBody: false }),
      ),
    );
    expect(parts.map((part) => part.status)).toEqual([206, 206, 206, 206, 206]);
    const whole = await site.get(path, { keepBody: false });
    expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(upstream.bytesSent(blob.digest)).toBe(blob.size);
  });

  test('waits for the bytes before it where the upstream ignores Range', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 20 * MiB, seed: 3 });
    upstream.fault(blob.digest, { kind: 'ignore-range' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const part = await site.get(path, { headers: { range: `bytes=${15 * MiB}-${16 * MiB - 1}` } });
    expect(part).toMatchObject({ status: 206, complete: true, receivedBytes: MiB });
    const whole = await site.get(path, { keepBody: false });
    expect(whole).toMatchObject({ complete: true, sha256: blob.digest });
    expect(upstream.bytesSent(blob.digest)).toBeLessThan(2 * blob.size);
  });

  test('does not end before the digest is right when it reaches the end of the blob', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 20 * MiB, seed: 4 });
    upstream.fault(blob.digest, { kind: 'flip', position: 3 * MiB });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const part = await site.get(path, { headers: { range: `bytes=${19 * MiB}-` }, keepBody: false });
    expect(part.complete).toBe(false);
    expect(part.receivedBytes).toBeLessThanOrEqual(MiB - 64 * 1024);
  });
});

describe('a blob fetched over several connections', () => {
  test('arrives whole and in order, each byte fetched once', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], connectionsPerBlob: 4 } },
    });
    const blob = upstream.addBlob({ size: 50 * MiB + 1, seed: 5 });
    const [whole, other] = await Promise.all([
      site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false }),
      site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false }),
    ]);
    expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(other).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    const ranges = upstream.requestsFor(blob.digest).map((request) => request.headers.range);
    expect(ranges).toHaveLength(7);
    expect(new Set(ranges).size).toBe(7);
    expect(sum(upstream.requestsFor(blob.digest).map((request) => request.bytesSent))).toBe(blob.size);
  });

  test('has four of them under way at a time', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], connectionsPerBlob: 4 } },
    });
    const blob = upstream.addBlob({ size: 64 * MiB, seed: 6 });
    const stalls = [0, 8, 16, 24].map((part) =>
      upstream.fault((request) => request.headers.range?.startsWith(`bytes=${part * MiB}-`) ?? false, {
        kind: 'stall',
        afterBytes: 100,
      }),
    );
    const whole = site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false });
    await Promise.all(stalls.map((stall) => stall.reached));
    expect(upstream.requestsFor(blob.digest)).toHaveLength(4);
    for (const stall of stalls) stall.release();
    expect(await whole).toMatchObject({ complete: true, sha256: blob.digest });
  });

  test('goes on with one where the upstream ignores Range', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], connectionsPerBlob: 4 } },
    });
    const blob = upstream.addBlob({ size: 30 * MiB, seed: 7 });
    upstream.fault(blob.digest, { kind: 'ignore-range' });
    const whole = await site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false });
    expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(upstream.requestsFor(blob.digest)).toHaveLength(1);
  });

  test('survives that every connection is cut', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], connectionsPerBlob: 3 } },
    });
    const blob = upstream.addBlob({ size: 40 * MiB, seed: 8 });
    upstream.fault(blob.digest, { kind: 'cut', afterBytes: 3 * MiB }, { times: 9 });
    const whole = await site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false });
    expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(upstream.bytesSent(blob.digest)).toBeLessThanOrEqual(blob.size * 1.02);
  });
});
