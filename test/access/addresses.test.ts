import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { expect, test } from 'vitest';
import { makeAuthority } from '../support/certificates.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { basic, htpasswdFile } from './support.ts';

/** What a client may claim of where it is, without being there. */
const claims = [
  'X-Forwarded-For: 127.0.0.2',
  'Forwarded: for=127.0.0.2',
  'X-Real-IP: 127.0.0.2',
  'X-Client-IP: 127.0.0.2',
  'True-Client-IP: 127.0.0.2',
  'CF-Connecting-IP: 127.0.0.2',
  'Via: 1.1 127.0.0.2',
];

describeWith(['openssl'], 'a rule for addresses', () => {
  test.each([
    ['in plain text, answered by one thread', { isTls: false, threads: 1 }],
    ['in plain text, with threads in front', { isTls: false, threads: 2 }],
    ['over TLS, answered by one thread', { isTls: true, threads: 1 }],
    ['over TLS, with threads in front', { isTls: true, threads: 2 }],
  ])('means that of the connection, %s, whatever headers say', async (_, { isTls, threads }) => {
    await using folder = await temporaryDirectory('addr');
    const authority = await makeAuthority(folder.path, 'authority');
    const { certFile, keyFile } = await authority.issue('server');
    await using registry = await startRegistry();
    const blob = registry.addBlob({ size: 100, seed: 'one' });
    await using mirror = await startMillpond({
      upstreams: { 'registry.test': { urls: [registry.origin] } },
      serve: { threads },
      ...(isTls && { tls: { certFile, keyFile } }),
      auth: {
        anonymous: true,
        htpasswdFile: await htpasswdFile(folder.path, { ann: 'a-secret' }),
        policies: [{ users: ['ann'], anonymous: true, addresses: ['127.0.0.2', '::ffff:127.0.1.0/120'] }],
      },
    });
    const port = Number(mirror.host.split(':')[1]);
    const status = async (localAddress: string, headers: readonly string[]): Promise<number> => {
      const to = { host: '127.0.0.1', port, localAddress };
      const plain = connect(to);
      const socket = isTls ? connectTls({ socket: plain, ca: authority.cert, host: '127.0.0.1' }) : plain;
      const head = [`GET /v2/registry.test/app/blobs/${blob.digest} HTTP/1.1`, `Host: ${mirror.host}`, ...headers];
      socket.write(`${[...head, 'Connection: close'].join('\r\n')}\r\n\r\n`);
      return Number((await text(socket)).split(' ', 2)[1]);
    };
    const ann = `Authorization: ${basic('ann', 'a-secret').authorization}`;
    // Twice: what was answered once may be kept.
    for (const __ of [1, 2]) {
      expect(await status('127.0.0.2', [ann])).toBe(200);
      expect(await status('127.0.0.2', [])).toBe(200);
      expect(await status('127.0.1.7', [ann])).toBe(200);
      expect(await status('127.0.0.3', [ann])).toBe(403);
      expect(await status('127.0.0.3', [])).toBe(401);
      for (const claim of claims) {
        expect([claim, await status('127.0.0.3', [ann, claim])]).toEqual([claim, 403]);
        expect([claim, await status('127.0.0.3', [claim])]).toEqual([claim, 401]);
      }
    }
  });
});
