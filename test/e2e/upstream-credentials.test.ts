import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hash } from 'bcryptjs';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { localImage, pushImage } from '../support/images.ts';
import { startMillpond } from '../support/millpond.ts';
import { writeProgram } from '../support/programs.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { basicAuthorization } from '../support/token-service.ts';
import { describeWith } from '../support/tools.ts';

const credentials = { username: 'mirror', password: 'canary:password' };

describeWith(['docker-registry'], 'a registry that demands a password', () => {
  test.each<[string, (host: string) => object, object]>([
    [
      'the auths of config.json',
      (host) => ({ auths: { [host]: { auth: basicAuthorization(credentials).slice('Basic '.length) } } }),
      { dockerConfig: 'config.json' },
    ],
    [
      'a credential helper that config.json names',
      (host) => ({ auths: { [host]: {} }, credHelpers: { [host]: 'test' } }),
      { dockerConfig: 'config.json' },
    ],
    ['a credential helper', () => ({}), { helper: 'test' }],
  ])('is read with %s, and nothing of the secret is written anywhere', async (_, dockerConfig, auth) => {
    await using directory = await temporaryDirectory('credentials');
    const { username, password } = credentials;
    await using registry = await startDockerRegistry({ htpasswd: `${username}:${await hash(password, 4)}\n` });
    const image = localImage({ label: 'private' });
    await pushImage(registry.origin, 'team/app', 'v1', image, { authorization: basicAuthorization(credentials) });
    await writeFile(join(directory.path, 'config.json'), JSON.stringify(dockerConfig(registry.host)));
    const answer = JSON.stringify({ ServerURL: registry.host, Username: username, Secret: password });
    await writeProgram(directory.path, 'docker-credential-test', `console.log(${JSON.stringify(answer)});`);
    const env = { PATH: `${directory.path}:${process.env['PATH']}` };
    const config = { upstreams: { 'reg.example': { urls: [registry.origin], auth } }, log: { level: 'trace' } };
    await using mirror = await startMillpond(config, { directory: directory.path, env });
    const ask = (path: string) => get(`${mirror.origin}/v2/team/app/${path}?ns=reg.example`);
    const manifest = await ask('manifests/v1');
    expect([manifest.status, manifest.headers['docker-content-digest']]).toEqual([200, image.digest]);
    for (const blob of image.blobs) expect((await ask(`blobs/${blob.digest}`)).body).toEqual(blob.bytes);
    const denied = await ask('manifests/absent');
    const metrics = await get(`${mirror.origin}/metrics`);
    const written = `${mirror.process.output}${denied.body.toString()}${metrics.body.toString()}`;
    for (const secret of ['canary', basicAuthorization(credentials).slice('Basic '.length)]) {
      expect(written).not.toContain(secret);
    }
  });
});
