import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const MiB = 1024 * 1024;

describe('a client that takes nothing of what waits for it', () => {
  test('is cut, and the log says why; one that reads slowly is not', async () => {
    await using upstream = await startRegistry();
    const config = { timeouts: { clientIdle: '6s' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: 32 * MiB, seed: 'idle' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    await site.get(path, { keepBody: false });
    const slow = site.get(path, { keepBody: false, bytesPerSecond: 4 * MiB });
    const { hostname, port } = new URL(site.origin);
    const socket = connect({ host: hostname, port: Number(port) });
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
    await expect
      .poll(() => site.logLines.filter(({ result }) => result === 'cut'))
      .toMatchObject([{ error: { message: 'the client has taken nothing for 6000 ms' } }]);
    socket.on('error', () => undefined).resume();
    await once(socket, 'close');
    expect(await slow).toMatchObject({ complete: true, sha256: blob.digest });
  });

  test('is not one that waits for a silent upstream', async () => {
    await using upstream = await startRegistry();
    const config = { timeouts: { clientIdle: '6s' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: MiB, seed: 'waits' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const running = site.get(`/v2/library/app/blobs/${blob.digest}`);
    await stall.reached;
    // One that takes nothing comes later, and is cut when it has been idle: so long the first has waited by then.
    const large = upstream.addBlob({ size: 32 * MiB, seed: 'never taken' });
    await site.get(`/v2/library/app/blobs/${large.digest}`, { keepBody: false });
    const { hostname, port } = new URL(site.origin);
    const socket = connect({ host: hostname, port: Number(port) });
    socket.write(`GET /v2/library/app/blobs/${large.digest} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
    await expect.poll(() => site.logLines.filter(({ result }) => result === 'cut')).toHaveLength(1);
    socket.destroy();
    stall.release();
    expect(await running).toMatchObject({ complete: true, sha256: blob.digest });
  });
});
