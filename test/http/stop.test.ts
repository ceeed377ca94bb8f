import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const MiB = 1024 * 1024;

/** What connecting to an address comes to. */
function dial(origin: string): Promise<string> {
  const { hostname, port } = new URL(origin);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    socket.on('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
}

describe('a mirror that is told to stop', () => {
  test('takes no connection any more, lets a running transfer end whole, and is gone', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 2 * MiB, seed: 'drained' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB });
    const running = site.get(`/v2/library/app/blobs/${blob.digest}`);
    await stall.reached;
    expect(await dial(site.origin)).toBe('connected');
    const stopped = site.stop();
    expect(await dial(site.origin)).toBe('ECONNREFUSED');
    stall.release();
    expect(await running).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    await stopped;
    expect(await dial(site.origin)).toBe('ECONNREFUSED');
    await expect.poll(() => upstream.openConnections).toBe(0);
  });

  test('cuts what takes longer than the drain time', async () => {
    await using upstream = await startRegistry();
    const config = { timeouts: { drain: '50ms' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: 2 * MiB, seed: 'cut' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB });
    const running = site.get(`/v2/library/app/blobs/${blob.digest}`);
    await stall.reached;
    await site.stop();
    expect(await running).toMatchObject({ status: 200, complete: false });
  });

  test('leaves nothing running when clients wait for an upstream that is silent', async () => {
    await using upstream = await startRegistry();
    const config = { timeouts: { drain: '50ms' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: MiB, seed: 'silent' });
    upstream.fault(undefined, { kind: 'silence' });
    const waiting = ['manifests/1', 'tags/list', `blobs/${blob.digest}`].map((what) =>
      site.get(`/v2/library/app/${what}`).then(
        (reply) => reply.status,
        (error: NodeJS.ErrnoException) => error.code,
      ),
    );
    await expect.poll(() => upstream.requests.length).toBe(3);
    await site.stop();
    expect(await Promise.all(waiting)).toEqual(['ECONNRESET', 'ECONNRESET', 'ECONNRESET']);
    await expect.poll(() => upstream.openConnections).toBe(0);
    expect(site.logLines.filter(({ level }) => Number(level) >= 50)).toEqual([]);
  });

  test('can be told so twice, and idle connections do not keep it', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    await fetch(`${site.origin}/v2/`).then((response) => response.text());
    await Promise.all([site.stop(), site.stop()]);
    expect(await dial(site.origin)).toBe('ECONNREFUSED');
  });
});
