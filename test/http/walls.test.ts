import { describe, expect, test } from 'vitest';
import { json } from '../support/client.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { getText, rawClient, rawClients } from './raw-client.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const blobPath = (digest: string) => `/v2/library/app/blobs/${digest}`;

async function metric(site: TestSite, name: string): Promise<number> {
  const text = (await site.get('/metrics')).body.toString();
  const line = text
    .split('\n')
    .find((one) => one.startsWith(`millpond_${name} `) || one.startsWith(`millpond_${name}{`));
  return Number(line?.split(' ').at(-1));
}

const statusLines = (text: string): string[] => text.match(/HTTP\/1\.1 \d{3}/g) ?? [];

describe('one connection', () => {
  test('has one request answered at a time, in the order of arrival', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blobs = ['one', 'two', 'three'].map((seed) => upstream.addBlob({ size: 100 * KiB, seed }));
    const stall = upstream.fault(blobs[0]?.digest, { kind: 'stall', afterBytes: 0 });
    const sends = blobs.map(({ digest }) => getText(blobPath(digest))).join('');
    using client = await rawClient(site.origin, { sends: sends + getText('/v2/') });
    await stall.reached;
    // What comes behind has not begun.
    expect(upstream.requestsFor(({ path }) => path.includes('/blobs/'))).toHaveLength(1);
    stall.release();
    const text = await client.until((all) => statusLines(all).length === 4 && all.endsWith('{}'));
    expect(statusLines(text)).toEqual(Array(4).fill('HTTP/1.1 200'));
    const digests = text.match(/Docker-Content-Digest: \S+/g)?.map((line) => line.slice(23));
    expect(digests).toEqual(blobs.map(({ digest }) => digest));
  });

  test('that sends a thousand requests ahead and reads all has all answered', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    using client = await rawClient(site.origin, { sends: getText('/v2/').repeat(1_000) });
    const text = await client.until((all) => statusLines(all).length === 1_000 && all.endsWith('{}'));
    expect(statusLines(text)).toEqual(Array(1_000).fill('HTTP/1.1 200'));
  });

  test('that sends ahead without end is cut, and others are served', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 100 * KiB, seed: 'one' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 0 });
    const sends = getText(blobPath(blob.digest)) + getText('/v2/').repeat(5_000);
    using client = await rawClient(site.origin, { sends });
    await client.closed;
    expect(await metric(site, 'refusals_total')).toBeGreaterThan(0);
    expect((await site.get('/v2/')).status).toBe(200);
    stall.release();
  });

  test('three with a thousand unread requests for a large blob each cost no more memory than three answers', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 16 * MiB, seed: 'large' });
    expect(await site.get(blobPath(blob.digest))).toMatchObject({ sha256: blob.digest });
    const before = process.memoryUsage();
    const sends = getText(blobPath(blob.digest)).repeat(1_000);
    using clients = await rawClients(3, site.origin, { sends, reads: false });
    await expect.poll(() => metric(site, 'requests_running')).toBeGreaterThan(3);
    const after = process.memoryUsage();
    expect(after.external + after.arrayBuffers - before.external - before.arrayBuffers).toBeLessThan(64 * MiB);
    // Others do not notice.
    expect(await site.get(blobPath(blob.digest))).toMatchObject({ status: 200, sha256: blob.digest });
    clients.dispose();
    await expect.poll(() => metric(site, 'requests_running')).toBe(0);
    await expect.poll(() => metric(site, 'waiting_bytes')).toBe(0);
  });
});

describe('a limit', () => {
  test('on connections of one address refuses further ones with 503, and another address is served', async () => {
    await using upstream = await startRegistry();
    const config = { limits: { connections: 20, perClient: { connections: 10 } } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    using slow = await rawClients(10, site.origin, { sends: 'GET /v2/ HT' });
    const refused = await site.get('/v2/');
    expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '5', connection: 'close' } });
    expect(json(refused)).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] });
    // A probe is answered all the same: nothing is wrong with the process.
    expect((await site.get('/healthz')).status).toBe(200);
    using other = await rawClient(site.origin, { sends: getText('/v2/'), localAddress: '127.0.0.2' });
    expect(await other.until((text) => text.endsWith('{}'))).toContain('HTTP/1.1 200');
    slow.dispose();
    await expect.poll(async () => (await site.get('/v2/')).status).toBe(200);
  });

  test('on connections in all refuses those of every address', async () => {
    await using upstream = await startRegistry();
    const config = { limits: { connections: 4, perClient: { connections: 4 } } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    using slow = await rawClients(4, site.origin, { sends: 'G' });
    using other = await rawClient(site.origin, { sends: getText('/v2/'), localAddress: '127.0.0.2' });
    expect(await other.until((text) => text.includes('\r\n\r\n'))).toContain('HTTP/1.1 503');
    const ready = await site.get('/readyz');
    expect(json(ready)).toMatchObject({ status: 'degraded' });
    expect(ready.body.toString()).toContain('limits.connections');
    slow.dispose();
  });

  test('on requests of one address refuses the next with 503', async () => {
    await using upstream = await startRegistry();
    const config = { limits: { perClient: { requests: 2 } } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: MiB, seed: 'one' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const running = [site.get(blobPath(blob.digest)), site.get(blobPath(blob.digest))];
    await expect.poll(() => metric(site, 'requests_running')).toBe(2);
    expect(await site.get('/v2/')).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    stall.release();
    for (const reply of await Promise.all(running)) expect(reply.sha256).toBe(blob.digest);
    expect((await site.get('/v2/')).status).toBe(200);
  });

  test('on memory refuses answers that would go past it, and what is read at last is right', async () => {
    await using upstream = await startRegistry();
    const config = { limits: { memory: '4MiB', perClient: { memory: '3MiB' } } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const blob = upstream.addBlob({ size: 16 * MiB, seed: 'large' });
    expect(await site.get(blobPath(blob.digest))).toMatchObject({ sha256: blob.digest });
    using unread = await rawClients(200, site.origin, { sends: getText(blobPath(blob.digest)), reads: false });
    // The memory is taken as soon as the others are answered.
    await expect
      .poll(() => site.get(blobPath(blob.digest), { keepBody: false }))
      .toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    expect(await metric(site, 'waiting_bytes')).toBeLessThanOrEqual(3 * MiB);
    unread.dispose();
    await expect.poll(() => metric(site, 'waiting_bytes')).toBe(0);
    expect(await site.get(blobPath(blob.digest))).toMatchObject({ status: 200, sha256: blob.digest });
  });
});

describe('a request that is not as it should be', () => {
  test('with two Host headers is 400, whichever of them is meant', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    for (const path of ['/v2/', '/v2/library/app/tags/list', '/healthz']) {
      using client = await rawClient(site.origin, { sends: getText(path, 'host: other\r\n') });
      expect(await client.until((text) => text.includes('\r\n\r\n'))).toContain('HTTP/1.1 400');
    }
    expect(upstream.requests).toEqual([]);
  });

  test('in absolute form is read as its path', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: KiB, seed: 'one' });
    for (const path of ['/v2/', blobPath(blob.digest), '/healthz']) {
      using client = await rawClient(site.origin, { sends: getText(`http://mirror${path}`) });
      expect(await client.until((text) => text.includes('\r\n\r\n'))).toContain('HTTP/1.1 200');
    }
  });

  test('is answered with 4xx and is no error of the mirror: no stack is logged', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const malformed = [
      'GET / HTTP/9.9\r\n\r\n',
      'nonsense\r\n\r\n',
      'GET /v2/ HTTP/1.1\r\n\r\n',
      'GET /v2/ HTTP/1.1\r\nHost: a\r\nBad Header: 1\r\n\r\n',
      `GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(40 * KiB)}\r\n\r\n`,
      'GET /%zz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
      'GET http://[::1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
      'OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
      'GET /healthz/%ff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
      'POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
    ];
    for (const sends of malformed) {
      using client = await rawClient(site.origin, { sends });
      await client.closed;
      expect([sends.slice(0, 60), client.text().slice(0, 10)]).toEqual([sends.slice(0, 60), 'HTTP/1.1 4']);
    }
    const logged = site.logLines.filter(({ level }) => level === 50 || level === 'error');
    expect(logged).toEqual([]);
    expect(JSON.stringify(site.logLines)).not.toContain('stack');
  });

  test('behind an answer under way cuts the connection: nothing is written into the body', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'one' });
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB / 2 });
    using client = await rawClient(site.origin, { sends: getText(blobPath(blob.digest)) });
    await client.until((text) => text.includes('\r\n\r\n'));
    client.socket.write('nonsense\r\n\r\n');
    await client.closed;
    expect(statusLines(client.text())).toEqual(['HTTP/1.1 200']);
    stall.release();
  });
});

test('the log names a client by its address as people write it, also on a socket for both families', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: { listen: ':0' } });
  const { port } = new URL(site.origin.replace('[::]', '127.0.0.1'));
  using client = await rawClient(`http://127.0.0.1:${port}`, { sends: getText('/v2/', 'Connection: close\r\n') });
  await client.closed;
  await expect.poll(() => site.logLines.find(({ msg }) => msg === 'request')).toMatchObject({ client: '127.0.0.1' });
});
