import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Listener, type ListenOptions, listen } from '../../src/http/server.ts';
import { run } from '../cli/spawn.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { unlimited } from '../support/unlimited.ts';

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

describe('a mirror that is stopping', () => {
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

describe('a listener that is closing', () => {
  let listener: Listener | undefined;
  const sockets: Socket[] = [];
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    await listener?.close(0);
  });

  async function open(options: Partial<ListenOptions> = {}, handler: Parameters<typeof listen>[0] = () => undefined) {
    listener = await listen(handler, { host: '127.0.0.1', port: 0, ...unlimited(), ...options });
    return listener;
  }

  async function dialed({ address }: Listener): Promise<{ socket: Socket; text: () => string; closed: Promise<void> }> {
    const socket = connect({ host: '127.0.0.1', port: Number(address.split(':').at(-1)) });
    sockets.push(socket);
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
    socket.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
    return { socket, text: () => text, closed };
  }

  test('does not wait for a connection on which nothing was ever sent', async () => {
    const opened = await open();
    const { socket, text, closed } = await dialed(opened);
    await opened.close(3_600_000);
    await closed;
    expect([socket.destroyed, text()]).toEqual([true, '']);
  });

  test('does not wait for one that never began its TLS handshake, and cuts one in the middle of it', async () => {
    await using folder = await temporaryDirectory();
    const { path } = folder;
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-subj',
      '/CN=x',
    ];
    await run('openssl', [...request, '-keyout', join(path, 'key'), '-out', join(path, 'cert')], { cwd: path });
    const cert = await readFile(join(path, 'cert'), 'utf8');
    const key = await readFile(join(path, 'key'), 'utf8');
    const opened = await open({ tls: { cert, key, ca: undefined } });
    const mute = await dialed(opened);
    const halfway = await dialed(opened);
    halfway.socket.write(Buffer.from([0x16, 0x03, 0x01]));
    await opened.close(50);
    await Promise.all([mute.closed, halfway.closed]);
    expect([mute.socket.destroyed, halfway.socket.destroyed]).toEqual([true, true]);
  });

  test('says in every answer that begins from then on that it is the last of its connection', async () => {
    const begun = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const opened = await open({}, (_request, response) => {
      begun.resolve();
      void answer.promise.then(() => response.writeHead(200, ['Content-Length', '2']).end('ok'));
    });
    const { socket, text, closed } = await dialed(opened);
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await begun.promise;
    const over = opened.close(3_600_000);
    answer.resolve();
    await Promise.all([over, closed]);
    expect(text()).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(text()).toMatch(/^connection: close\r$/im);
  });
});
