import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer as createProxyServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { selfSigned } from '../support/certificates.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, failureOf, never, upstreamAt } from './support.ts';

let own: Awaited<ReturnType<typeof selfSigned>>;
let folder: string;
let cert: string;
let key: string;

beforeAll(async () => {
  own = await selfSigned('IP:127.0.0.1,DNS:registry.example');
  ({ folder, cert, key } = own);
});

afterAll(() => own[Symbol.asyncDispose]());

const pull = (upstream: ReturnType<typeof upstreamAt>) =>
  upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });

/** A SOCKS 5 proxy that takes every name for one address. */
async function startSocks({ port, user }: { readonly port: number; readonly user?: string }) {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    const take = async (bytes: number): Promise<Buffer> => {
      for (;;) {
        const chunk = socket.read(bytes) as Buffer | null;
        if (chunk) return chunk;
        await once(socket, 'readable');
      }
    };
    const serve = async (): Promise<void> => {
      const [, methods = 0] = await take(2);
      const offered = await take(methods);
      socket.write(Buffer.from([5, user === undefined ? 0 : 2]));
      if (user !== undefined) {
        expect(offered.includes(2)).toBe(true);
        const name = await take((await take(2))[1] ?? 0);
        const password = await take((await take(1))[0] ?? 0);
        const isRight = `${name.toString()}:${password.toString()}` === user;
        socket.write(Buffer.from([1, isRight ? 0 : 1]));
        if (!isRight) return;
      }
      const [, , , kind] = await take(4);
      const host = kind === 3 ? (await take((await take(1))[0] ?? 0)).toString() : (await take(4)).join('.');
      asked.push(`${host}:${(await take(2)).readUInt16BE()}`);
      const target = connect(port, '127.0.0.1');
      sockets.add(target);
      target.on('error', () => socket.destroy());
      await once(target, 'connect');
      socket.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
      socket.pipe(target).pipe(socket);
    };
    serve().catch(() => socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    asked,
    port: (server.address() as AddressInfo).port,
    [Symbol.dispose]: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

test.each(['http', 'https'] as const)(
  'an %s upstream is asked through a SOCKS proxy, which resolves its name',
  async (scheme) => {
    await using registry = await startRegistry(scheme === 'https' ? { tls: { cert, key } } : {});
    registry.addImage('library/tiny', 'v1');
    using proxy = await startSocks({ port: Number(registry.host.split(':')[1]), user: 'me:secret' });
    const environment = { ALL_PROXY: `socks5://me:secret@127.0.0.1:${proxy.port}` };
    using upstream = upstreamAt(`${scheme}://registry.example`, { environment, tls: { ca: cert } });
    for (let round = 0; round < 2; round += 1) expect((await pull(upstream)).bytes.length).toBeGreaterThan(0);
    expect(proxy.asked).toEqual([`registry.example:${scheme === 'https' ? 443 : 80}`]);
    expect(upstream.status().endpoints[0]?.proxy).toBe(`socks5://127.0.0.1:${proxy.port}`);
  },
);

test('a SOCKS proxy that refuses is named as that, without its password', async () => {
  using proxy = await startSocks({ port: 1, user: 'me:other' });
  const environment = { ALL_PROXY: `socks5://me:secret@127.0.0.1:${proxy.port}` };
  using upstream = upstreamAt('http://registry.example', { environment });
  const error = await failureOf(pull(upstream));
  expect(error.message).toContain('cannot be reached at http://registry.example through the proxy');
  expect(`${error.message} ${String(error.cause)}`).not.toContain('secret');
});

test('what NO_PROXY excepts by range is asked directly, all else never around the proxy', async () => {
  await using registry = await startRegistry();
  registry.addImage('library/tiny', 'v1');
  const seen: string[] = [];
  const proxy = createProxyServer((request, response) => {
    seen.push(request.url ?? '');
    response.writeHead(520).end();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const pullWith = async (NO_PROXY: string) => {
    using upstream = upstreamAt(registry.origin, { environment: { HTTP_PROXY: `127.0.0.1:${port}`, NO_PROXY } });
    return await pull(upstream).catch(() => undefined);
  };
  expect(await pullWith('localhost,127.0.0.0/8')).toBeDefined();
  expect(seen).toEqual([]);
  expect(await pullWith('10.0.0.0/8')).toBeUndefined();
  expect(seen).toEqual([`${registry.origin}/v2/library/tiny/manifests/v1`]);
  expect(registry.requests).toHaveLength(1);
  proxy.closeAllConnections();
  proxy.close();
});

test('a proxy at a private address opens nothing behind it', async () => {
  await using inner = await startRegistry();
  const proxy = createProxyServer((_, response) => {
    response.writeHead(307, { location: `${inner.origin}/x` }).end();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const environment = { HTTP_PROXY: `http://127.0.0.1:${port}`, NO_PROXY: '127.0.0.1' };
  using upstream = upstreamAt('http://registry.example', { environment });
  for (let round = 0; round < 2; round += 1) {
    expect(await failureOf(pull(upstream))).toMatchObject({ reason: 'forbidden-address' });
  }
  expect(inner.requests).toEqual([]);
  proxy.closeAllConnections();
  proxy.close();
});

test('authorities of SSL_CERT_FILE and SSL_CERT_DIR are trusted, beside the configured one', async () => {
  await using registry = await startRegistry({ tls: { cert, key } });
  registry.addImage('library/tiny', 'v1');
  const file = join(folder, 'cert.pem');
  const other = join(folder, 'other.pem');
  await writeFile(other, 'no certificate');
  {
    using strict = upstreamAt(registry.origin);
    const error = await failureOf(pull(strict));
    expect(error.message).toMatch(
      /shows a certificate at https:\S+ that is not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\)/,
    );
  }
  for (const environment of [
    { SSL_CERT_FILE: file },
    { SSL_CERT_DIR: folder },
    { SSL_CERT_DIR: `/absent:${folder}` },
  ]) {
    using upstream = upstreamAt(registry.origin, { environment });
    expect((await pull(upstream)).bytes.length).toBeGreaterThan(0);
  }
  expect(() => upstreamAt(registry.origin, { environment: { SSL_CERT_FILE: '/absent' } })).toThrow(
    'SSL_CERT_FILE names /absent, which does not exist',
  );
});
