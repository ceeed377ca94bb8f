import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { selfSigned } from '../support/certificates.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, bytesOf, failureOf, never, upstreamAt } from './support.ts';

let own: Awaited<ReturnType<typeof selfSigned>>;
let folder: string;
let cert: string;
let key: string;

beforeAll(async () => {
  own = await selfSigned();
  ({ folder, cert, key } = own);
});

afterAll(() => own[Symbol.asyncDispose]());

const pull = (upstream: ReturnType<typeof upstreamAt>) =>
  upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });

test('a certificate of an unknown authority is refused, unless it is given or checking is off', async () => {
  await using registry = await startRegistry({ tls: { cert, key } });
  registry.addImage('library/tiny', 'v1');
  using strict = upstreamAt(registry.origin);
  expect(await failureOf(pull(strict))).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
  for (const tls of [{ ca: cert }, { ca: join(folder, 'cert.pem') }, { insecureSkipVerify: true }]) {
    using upstream = upstreamAt(registry.origin, { tls });
    expect((await pull(upstream)).bytes.length).toBeGreaterThan(0);
  }
});

test.each([
  ['refuses a handshake without its protocol', ['h2']],
  ['does not look at the protocols in the handshake', undefined],
])('a server that speaks HTTP/2 alone and %s is reported as one', async (_, ALPNProtocols) => {
  const settings = Buffer.from('00000c04000000000000030000006400040000ffff', 'hex');
  const server = createTlsServer({ cert, key, ...(ALPNProtocols && { ALPNProtocols }) }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.end(settings);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  using upstream = upstreamAt(`https://127.0.0.1:${port}`, { tls: { ca: cert } });
  const { message } = await failureOf(pull(upstream));
  server.close();
  expect(message).toContain(`speaks HTTP/2 only at https://127.0.0.1:${port}`);
});

test('a client certificate is shown to the upstream', async () => {
  await using registry = await startRegistry({
    tls: { cert, key, ca: cert, requestCert: true, rejectUnauthorized: true },
  });
  registry.addImage('library/tiny', 'v1');
  using without = upstreamAt(registry.origin, { tls: { ca: cert } });
  expect(await failureOf(pull(without))).toMatchObject({ code: 'UNAVAILABLE' });
  using upstream = upstreamAt(registry.origin, { tls: { ca: cert, cert, key: join(folder, 'key.pem') } });
  expect((await pull(upstream)).bytes.length).toBeGreaterThan(0);
});

test('insecureSkipVerify ends at the own hosts of the upstream', async () => {
  await using registry = await startRegistry({ tls: { cert, key }, cdnHost: '127.0.0.2' });
  const blob = registry.addBlob(Buffer.from('blob'));
  registry.fault(/blobs/, { kind: 'redirect' });
  using upstream = upstreamAt(registry.origin, { tls: { insecureSkipVerify: true } });
  const open = upstream.client.endpoints[0]!.openBlob('a', blob.digest, { signal: never() });
  expect(await failureOf(open)).toMatchObject({ code: 'UNAVAILABLE' });
  expect(registry.cdn.requests).toHaveLength(0);
});

test('a redirect from https to plain http is refused', async () => {
  await using registry = await startRegistry({ tls: { cert, key } });
  await using plain = await startRegistry();
  const blob = registry.addBlob(Buffer.from('blob'));
  registry.fault(/blobs/, { kind: 'redirect-to', location: `${plain.origin}/blob` });
  using upstream = upstreamAt(registry.origin, { tls: { ca: cert } });
  const open = upstream.client.endpoints[0]!.openBlob('a', blob.digest, { signal: never() });
  expect(await failureOf(open)).toMatchObject({ message: expect.stringContaining('plain http') as string });
  expect(plain.requests).toHaveLength(0);
});

test('https goes through the tunnel of HTTPS_PROXY, and a refused tunnel tells nothing of the proxy', async () => {
  await using registry = await startRegistry({ tls: { cert, key } });
  const blob = registry.addBlob(Buffer.from('blob'));
  const tunnels: string[] = [];
  let refuses = false;
  const proxy = createServer();
  proxy.on('connect', (request, socket) => {
    tunnels.push(request.url ?? '');
    if (refuses) {
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
      return;
    }
    const [host, port] = registry.host.split(':');
    const target = connect(Number(port), host);
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    pipeline(socket, target, socket).catch(() => undefined);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const environment = { HTTPS_PROXY: `http://user:proxy-password@127.0.0.1:${(proxy.address() as AddressInfo).port}` };
  {
    using upstream = upstreamAt(registry.origin, { tls: { ca: cert }, environment });
    const open = () => upstream.client.endpoints[0]!.openBlob('a', blob.digest, { signal: never() });
    expect((await bytesOf(await open())).toString()).toBe('blob');
    expect(tunnels).toEqual([registry.host]);
  }
  refuses = true;
  using upstream = upstreamAt(registry.origin, { tls: { ca: cert }, environment });
  const error = await failureOf(pull(upstream));
  expect(error).toMatchObject({ code: 'UNAVAILABLE', status: 502 });
  expect(`${error.message} ${JSON.stringify(error.toBody())} ${String(error.cause)}`).not.toContain('proxy-password');
  proxy.close();
  proxy.closeAllConnections();
});

test('a redirect from https to https is followed', async () => {
  await using registry = await startRegistry({ tls: { cert, key } });
  const blob = registry.addBlob('layer');
  registry.fault(/blobs/, { kind: 'redirect-to', location: `/v2/other/blobs/${blob.digest}` }, { times: 1 });
  using upstream = upstreamAt(registry.origin, { tls: { ca: cert } });
  const answer = await upstream.client.endpoints[0]!.openBlob('library/tiny', blob.digest, { signal: never() });
  expect((await bytesOf(answer)).toString()).toBe('layer');
});
