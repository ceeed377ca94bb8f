import { once } from 'node:events';
import { connect } from 'node:tls';
import { expect, test } from 'vitest';
import { makeAuthority } from '../support/certificates.ts';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { basic, htpasswdFile } from './support.ts';

describeWith(['openssl'], 'client certificates', () => {
  test.each([1, 2])(
    'say who a caller is, with %i threads; without one, other credentials count, and one of a stranger is refused',
    async (threads) => {
      await using folder = await temporaryDirectory('certs');
      const authority = await makeAuthority(folder.path, 'authority');
      const stranger = await makeAuthority(folder.path, 'stranger');
      const server = await authority.issue('server');
      const [node, other] = [await authority.issue('node-1'), await authority.issue('laptop')];
      const forged = await stranger.issue('node-2');
      await using registry = await startRegistry();
      const blob = registry.addBlob({ size: 100, seed: 'one' });
      await using mirror = await startMillpond({
        upstreams: { 'registry.test': { urls: [registry.origin] } },
        serve: { threads },
        tls: {
          certFile: server.certFile,
          keyFile: server.keyFile,
          clientCaFile: authority.certFile,
          clientCertificates: 'optional',
          minVersion: 'TLSv1.3',
        },
        auth: {
          certificates: true,
          htpasswdFile: await htpasswdFile(folder.path, { 'node-3': 'secret' }),
          policies: [{ users: ['node-*'], kinds: ['certificate'] }],
        },
      });
      const status = async (options: object): Promise<number> => {
        const url = `https://${mirror.host}/v2/registry.test/app/blobs/${blob.digest}`;
        return (await get(url, { ca: authority.cert, ...options })).status;
      };
      const shown = ({ cert, key }: typeof node) => ({ cert, key });
      expect(await status(shown(node))).toBe(200);
      expect(await status(shown(other))).toBe(403);
      expect(await status({})).toBe(401);
      // A user of that name is not the node.
      expect(await status({ headers: basic('node-3', 'secret') })).toBe(403);
      expect(await status(shown(forged))).toBe(401);
      const [name, port] = mirror.host.split(':');
      const old = connect({ host: name, port: Number(port), ca: authority.cert, maxVersion: 'TLSv1.2' });
      await expect(once(old, 'secureConnect')).rejects.toThrow(/protocol version/);
      const ping = await get(`https://${mirror.host}/v2/`, { ca: authority.cert });
      expect(ping.headers['www-authenticate']).toContain(`realm="https://${mirror.host}/token"`);
    },
  );
});
