import { describe, expect, test } from 'vitest';
import { get } from './client.ts';
import { startRegistry } from './registry.ts';

const MiB = 1024 * 1024;

describe('faults', () => {
  const cases = [
    { fault: { kind: 'cut', afterBytes: 100_000 }, status: 200, complete: false, received: 100_000, right: false },
    { fault: { kind: 'flip' }, status: 200, complete: true, received: MiB, right: false },
    { fault: { kind: 'short', declared: 'whole' }, status: 200, complete: false, received: MiB - 1, right: false },
    { fault: { kind: 'short', declared: 'actual' }, status: 200, complete: true, received: MiB - 1, right: false },
    { fault: { kind: 'content-length', difference: 5 }, status: 200, complete: false, received: MiB, right: true },
    { fault: { kind: 'content-length', difference: -5 }, status: 200, complete: true, received: MiB - 5, right: false },
    { fault: { kind: 'html' }, status: 200, complete: true, received: undefined, right: false },
    { fault: { kind: 'gzip' }, status: 200, complete: true, received: undefined, right: false },
    { fault: { kind: 'chunked' }, status: 200, complete: true, received: MiB, right: true },
    {
      fault: { kind: 'status', status: 429, headers: { 'Retry-After': '7' } },
      status: 429,
      complete: true,
      right: false,
    },
  ] as const;
  test.each(cases)('$fault', async ({ fault, status, complete, right, ...rest }) => {
    await using upstream = await startRegistry();
    const blob = upstream.addBlob({ size: MiB });
    const url = `${upstream.origin}/v2/a/blobs/${blob.digest}`;
    upstream.fault(blob.digest, fault, { times: 1 });
    const reply = await get(url);
    expect(reply).toMatchObject({ status, complete });
    expect(reply.sha256 === blob.digest).toBe(right);
    if ('received' in rest && rest.received !== undefined) expect(reply.receivedBytes).toBe(rest.received);
    expect(await get(url)).toMatchObject({ complete: true, sha256: blob.digest });
  });

  test('a stalled body goes on when it is released', async () => {
    await using upstream = await startRegistry();
    const blob = upstream.addBlob({ size: MiB });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 1000 });
    const counts = Promise.withResolvers<number>();
    const reply = get(`${upstream.origin}/v2/a/blobs/${blob.digest}`, { onBytes: counts.resolve });
    await stall.reached;
    expect(await counts.promise).toBeLessThanOrEqual(1000);
    expect(upstream.requestsFor(blob.digest)[0]?.complete).toBe(false);
    stall.release();
    expect(await reply).toMatchObject({ complete: true, sha256: blob.digest });
  });

  test('a paused answer has no headers until it is released', async () => {
    await using upstream = await startRegistry();
    const blob = upstream.addBlob('x');
    const pause = upstream.fault(/blobs/, { kind: 'pause' });
    const reply = get(`${upstream.origin}/v2/a/blobs/${blob.digest}`);
    await pause.reached;
    expect(upstream.requests[0]?.status).toBeUndefined();
    pause.release();
    expect((await reply).status).toBe(200);
  });

  test('closing ends stalled, paused and silent answers', async () => {
    const upstream = await startRegistry();
    const blob = upstream.addBlob({ size: MiB });
    const stall = upstream.fault('/v2/a/blobs/' + blob.digest, { kind: 'stall', afterBytes: 1000 });
    const silence = upstream.fault('/v2/b/blobs/' + blob.digest, { kind: 'silence' });
    const stalled = get(`${upstream.origin}/v2/a/blobs/${blob.digest}`);
    const silent = get(`${upstream.origin}/v2/b/blobs/${blob.digest}`).catch(
      (error: NodeJS.ErrnoException) => error.code,
    );
    await Promise.all([stall.reached, silence.reached]);
    await upstream.close();
    expect((await stalled).complete).toBe(false);
    expect(await silent).toBe('ECONNRESET');
    expect(upstream.openConnections).toBe(0);
  });

  test('an ignored Range gives 200 and the whole', async () => {
    await using upstream = await startRegistry();
    const blob = upstream.addBlob({ size: 1000 });
    upstream.fault(blob.digest, { kind: 'ignore-range' });
    const reply = await get(`${upstream.origin}/v2/a/blobs/${blob.digest}`, { headers: { range: 'bytes=10-' } });
    expect(reply).toMatchObject({ status: 200, sha256: blob.digest });
    expect(reply.headers['content-range']).toBeUndefined();
  });

  test('a redirect leads to a signed address on another origin that is good once and without Authorization', async () => {
    await using upstream = await startRegistry();
    const blob = upstream.addBlob({ size: 1000 });
    upstream.fault(blob.digest, { kind: 'redirect' });
    const url = `${upstream.origin}/v2/a/blobs/${blob.digest}`;
    const location = (await get(url)).headers.location ?? '';
    expect(new URL(location).origin).toBe(upstream.cdn.origin);
    expect((await get(location)).sha256).toBe(blob.digest);
    expect((await get(location)).status).toBe(403);
    const second = (await get(url)).headers.location ?? '';
    expect((await get(second, { headers: { authorization: 'Bearer secret' } })).status).toBe(400);
    expect(upstream.cdn.requests.map((request) => request.headers.authorization)).toEqual([
      undefined,
      undefined,
      'Bearer secret',
    ]);
    expect(upstream.bytesSent(blob.digest)).toBe(
      1000 +
        upstream.cdn.requests
          .slice(1)
          .reduce((sum, request) => sum + (request.digest === blob.digest ? request.bytesSent : 0), 0),
    );
  });

  test('a suspended registry refuses connections and comes back on its port', async () => {
    await using upstream = await startRegistry();
    const url = `${upstream.origin}/v2/`;
    await upstream.suspend();
    await expect(get(url)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await upstream.resume();
    expect((await get(url)).status).toBe(200);
  });
});
