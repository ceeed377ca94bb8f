import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startContainerd } from '../support/containerd.ts';
import { startCountingProxy } from '../support/counting-proxy.ts';
import { startDockerRegistry } from '../support/docker-registry.ts';
import { type LocalBlob, localImage, pushImage } from '../support/images.ts';
import { startMillpond } from '../support/millpond.ts';
import { run } from '../support/processes.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

const script = fileURLToPath(
  new URL('../../deploy/kubernetes/components/daemonset/containerd-hosts.sh', import.meta.url),
);
const url = 'http://127.0.0.1:5000';

let certs: TemporaryDirectory;
beforeEach(async () => {
  certs = await temporaryDirectory('certs.d');
});
afterEach(async () => {
  await certs[Symbol.asyncDispose]();
});

function hosts(action: string, ...args: readonly (string | Record<string, string>)[]): Promise<string> {
  const env = Object.assign({}, ...args.filter((arg) => typeof arg === 'object')) as Record<string, string>;
  const words = args.filter((arg) => typeof arg === 'string');
  return run('sh', [script, action, certs.path, ...words], { env });
}

function inDefault(name = 'hosts.toml'): Promise<string> {
  return readFile(join(certs.path, '_default', name), 'utf8');
}

async function write(name: string, text: string): Promise<void> {
  await mkdir(join(certs.path, '_default'), { recursive: true });
  await writeFile(join(certs.path, '_default', name), text);
}

describe('the script that points the containerd of a node at Millpond', () => {
  test('writes a hosts.toml that leaves the registry itself as the last host', async () => {
    expect(await hosts('install', url)).toContain('wrote');
    const written = await inDefault();
    expect(written).toContain(`[host."${url}"]\n  capabilities = ["pull", "resolve"]\n  dial_timeout = "1s"\n`);
    expect(written).not.toContain('server');
    expect(await readdir(join(certs.path, '_default'))).toEqual(['hosts.toml']);
  });

  test('does nothing the second time, and takes a changed address over', async () => {
    await hosts('install', url);
    expect(await hosts('install', url)).toContain('as it should be');
    await hosts('install', 'http://127.0.0.1:5001');
    expect(await inDefault()).toContain('127.0.0.1:5001');
    expect(await readdir(join(certs.path, '_default'))).toEqual(['hosts.toml']);
  });

  test('keeps a hosts.toml that was there, once, and brings it back', async () => {
    await write('hosts.toml', 'server = "https://mine.example"\n');
    await hosts('install', url);
    await hosts('install', 'http://127.0.0.1:5001');
    expect(await inDefault('hosts.toml.before-millpond')).toContain('mine.example');
    await hosts('remove');
    expect(await inDefault()).toBe('server = "https://mine.example"\n');
    expect(await readdir(join(certs.path, '_default'))).toEqual(['hosts.toml']);
  });

  test('overwrites nothing where a second file of somebody else has come', async () => {
    await write('hosts.toml', 'server = "https://first.example"\n');
    await hosts('install', url);
    await write('hosts.toml', 'server = "https://second.example"\n');
    await expect(hosts('install', url)).rejects.toThrow(/neither is .*before-millpond/);
    expect(await inDefault()).toContain('second.example');
    expect(await inDefault('hosts.toml.before-millpond')).toContain('first.example');
    expect(await hosts('remove')).toContain('left as it is');
    expect(await inDefault()).toContain('second.example');
  });

  test('refuses where certificates would lose their effect', async () => {
    await write('client.cert', 'PEM');
    await expect(hosts('install', url)).rejects.toThrow(/client\.cert would not be used any more/);
    expect(await readdir(join(certs.path, '_default'))).toEqual(['client.cert']);
  });

  test('leaves nothing behind when it takes back what it made, and folders of other registries alone', async () => {
    await mkdir(join(certs.path, 'registry.example'));
    await hosts('install', url);
    await hosts('remove');
    expect(await readdir(certs.path)).toEqual(['registry.example']);
    expect(await hosts('remove')).toContain('left as it is');
  });

  test('names a second host, and the certificates of the first where it is https', async () => {
    const pem = join(certs.path, 'given.pem');
    await writeFile(pem, 'PEM\n');
    await hosts('install', 'https://127.0.0.1:5000', 'http://10.0.0.9:30500', { CA_FILE: pem });
    const written = await inDefault();
    const [, first = '', second = ''] = written.split('[host.');
    expect(first).toBe(
      '"https://127.0.0.1:5000"]\n  capabilities = ["pull", "resolve"]\n  dial_timeout = "1s"\n  ca = "millpond-ca.pem"\n',
    );
    expect(second).toBe('"http://10.0.0.9:30500"]\n  capabilities = ["pull", "resolve"]\n  dial_timeout = "1s"\n');
    expect(await inDefault('millpond-ca.pem')).toBe('PEM\n');
    await writeFile(pem, 'RENEWED\n');
    await hosts('install', 'https://127.0.0.1:5000', 'http://10.0.0.9:30500', { CA_FILE: pem });
    expect(await inDefault('millpond-ca.pem')).toBe('RENEWED\n');
    expect((await readdir(join(certs.path, '_default'))).toSorted()).toEqual(['hosts.toml', 'millpond-ca.pem']);
    await hosts('remove');
    expect(await readdir(certs.path)).toEqual(['given.pem']);
  });

  test.each([
    ['config_path = "CERTS"\n', undefined],
    ['[plugins]\n', /has no config_path/],
    ['config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"\n', /takes for one path/],
    ["  config_path = '/elsewhere'\n", /is \/elsewhere, not CERTS/],
    [undefined, /cannot tell/],
  ])('a containerd with %j is looked at: it warns of %s', async (text, warning) => {
    await using folder = await temporaryDirectory('containerd-config');
    if (text !== undefined) await writeFile(join(folder.path, 'config.toml'), text.replace('CERTS', certs.path));
    const notice = join(folder.path, 'notice');
    await writeFile(notice, '');
    await hosts('install', url, { CONTAINERD_CONFIG: folder.path, NOTICE_FILE: notice });
    const said = (await readFile(notice, 'utf8')).replaceAll(certs.path, 'CERTS');
    if (warning === undefined) expect(said).toBe('');
    else expect(said).toMatch(warning);
    expect(await inDefault()).toContain(url);
  });

  test('knows no other action', async () => {
    await expect(hosts('destroy')).rejects.toThrow(/install or remove, not destroy/);
  });
});

describeWith(['shellcheck'], 'the scripts under deploy/', () => {
  test.each(['kubernetes/components/daemonset/containerd-hosts.sh', 'kubernetes/secret.sh', 'compose/make-secrets.sh'])(
    '%s: shellcheck finds nothing',
    async (name) => {
      const file = fileURLToPath(new URL(`../../deploy/${name}`, import.meta.url));
      expect(await run('shellcheck', [file])).toBe('');
    },
  );
});

for (const release of ['system', '2'] as const) {
  const suffix = release === '2' ? '-2' : '';
  const programs = ['root', 'docker-registry', `containerd${suffix}`, `ctr${suffix}`];
  describeWith(programs, `a containerd (${release}) that the script has configured`, () => {
    test('pulls through the mirror, and from the registry itself while the mirror is away', async () => {
      await using registry = await startDockerRegistry();
      await using upstream = await startCountingProxy(registry.origin);
      await using mirror = await startMillpond({ upstreams: { [upstream.host]: { urls: [upstream.origin] } } });
      await using containerd = await startContainerd({ release });
      const pull = async (name: string): Promise<readonly LocalBlob[]> => {
        const image = localImage({ label: name });
        await pushImage(registry.origin, name, 'v1', image);
        const reference = `${upstream.host}/${name}:v1`;
        await containerd.ctr('images', 'pull', '--hosts-dir', certs.path, '--snapshotter', 'native', reference);
        expect(await containerd.ctr('images', 'ls', `name==${reference}`)).toContain(image.digest);
        return image.blobs;
      };
      await hosts('install', mirror.origin);
      const through = await pull('library/through');
      await mirror.process.stop();
      for (const { digest } of through) {
        expect(mirror.process.output).toContain(`"path":"/v2/library/through/blobs/${digest}"`);
      }
      for (const { digest } of await pull('library/around')) {
        const asked = upstream.requests.filter(({ url: path }) =>
          path.startsWith(`/v2/library/around/blobs/${digest}`),
        );
        expect(asked).toMatchObject([{ status: 200 }]);
      }
    });
  });
}
