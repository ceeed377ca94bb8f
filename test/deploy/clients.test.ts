import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { repository, type Site, startSite, tag } from '../e2e/site.ts';
import { get } from '../support/client.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { type DockerDaemon, dockerDaemonTools, startDockerDaemon } from '../support/docker-daemon.ts';
import { localBlob } from '../support/images.ts';
import { run, showOutputOnFailure } from '../support/processes.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

const examples = fileURLToPath(new URL('../../deploy/clients', import.meta.url));

// A client that gives the mirror up can reach no other registry, least of all the real ones.
const nowhere = { HTTP_PROXY: '', HTTPS_PROXY: 'http://127.0.0.1:1', NO_PROXY: '127.0.0.1' };

interface Setting {
  readonly site: Site;
  readonly directory: TemporaryDirectory;
  /** The examples with this site's address in place of the mirror's. */
  readonly examples: string;
}

function useSetting(): () => Setting {
  let setting: Setting;
  beforeAll(async () => {
    const site = await startSite();
    const directory = await temporaryDirectory('clients');
    setting = { site, directory, examples: join(directory.path, 'examples') };
    for (const file of await exampleFiles()) {
      const text = await readFile(join(examples, file), 'utf8');
      await mkdir(dirname(join(setting.examples, file)), { recursive: true });
      await writeFile(join(setting.examples, file), text.replaceAll('127.0.0.1:5000', site.front.host));
    }
  });
  afterAll(async () => {
    await setting?.site[Symbol.asyncDispose]();
    await setting?.directory[Symbol.asyncDispose]();
  });
  showOutputOnFailure(() => [setting?.site]);
  return () => setting;
}

async function exampleFiles(): Promise<string[]> {
  const entries = await readdir(examples, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name !== 'README.md')
    .map((entry) => join(entry.parentPath, entry.name).slice(examples.length + 1));
}

describe('the examples for clients', () => {
  test('all point at the address that Millpond listens on by default', async () => {
    const files = await exampleFiles();
    expect(files).toContain(join('docker', 'daemon.json'));
    for (const file of files) expect(await readFile(join(examples, file), 'utf8')).toContain('127.0.0.1:5000');
  });

  test('all that are files of their own are named in the README beside them', async () => {
    const readme = await readFile(join(examples, 'README.md'), 'utf8');
    for (const file of await exampleFiles()) {
      const [client = '', next = ''] = file.split('/');
      expect(readme).toContain(client === 'containerd' ? `](${client}/${next})` : `](${file})`);
    }
  });
});

for (const release of ['system', '2'] as const) {
  const suffix = release === '2' ? '-2' : '';
  const programs = ['root', 'docker-registry', `containerd${suffix}`, `ctr${suffix}`];
  describeWith(programs, `the hosts.toml for containerd (${release})`, () => {
    const setting = useSetting();
    let containerd: Containerd;
    beforeAll(async () => {
      containerd = await startContainerd({ release });
    });
    afterAll(async () => {
      await containerd?.[Symbol.asyncDispose]();
    });

    test.each(['per-registry', 'catch-all'])('%s: every registry is pulled through the mirror', async (folder) => {
      const { site, examples: copies } = setting();
      for (const { name, image } of site.upstreams) {
        site.front.requests.length = 0;
        const reference = `${name}/${repository}:${tag}`;
        const hosts = join(copies, 'containerd', folder);
        await containerd.ctr('images', 'pull', '--hosts-dir', hosts, '--snapshotter', 'native', reference);
        expect(await containerd.ctr('images', 'ls', `name==${reference}`)).toContain(image.digest);
        await containerd.ctr('images', 'rm', '--sync', reference);
        const paths = site.front.requests.map(({ url }) => url);
        expect(paths).toContain(`/v2/${repository}/manifests/${tag}?ns=${name}`);
        for (const blob of image.blobs) expect(paths).toContain(`/v2/${repository}/blobs/${blob.digest}?ns=${name}`);
      }
    });
  });
}

describeWith(['docker-registry', 'skopeo'], 'the registries.conf for skopeo', () => {
  const setting = useSetting();

  test('every registry is pulled through the mirror', async () => {
    const { site, directory, examples: copies } = setting();
    const conf = join(copies, 'containers', 'registries.conf');
    for (const { name, image } of site.upstreams) {
      const target = join(directory.path, name);
      const source = `docker://${name}/${repository}:${tag}`;
      const args = ['--insecure-policy', '--registries-conf', conf, 'copy', source, `dir:${target}`];
      await run('skopeo', args, { env: { ...nowhere, HOME: directory.path, TMPDIR: directory.path } });
      expect(localBlob(await readFile(join(target, 'manifest.json'))).digest).toBe(image.digest);
      const paths = site.front.requests.map(({ url }) => url);
      for (const blob of image.blobs) expect(paths).toContain(`/v2/${name}/${repository}/blobs/${blob.digest}`);
    }
  });
});

describeWith(['root', 'docker-registry', 'podman'], 'the registries.conf for podman', () => {
  const setting = useSetting();

  test('every registry is pulled through the mirror', async () => {
    const { site, directory, examples: copies } = setting();
    const place = (name: string): string => join(directory.path, name);
    const own = ['--root', place('root'), '--runroot', place('run'), '--storage-driver', 'vfs'];
    const common = [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
    const conf = join(copies, 'containers', 'registries.conf');
    const env = { ...nowhere, CONTAINERS_REGISTRIES_CONF: conf, HOME: directory.path, TMPDIR: directory.path };
    for (const { name, image } of site.upstreams) {
      const reference = `${name}/${repository}:${tag}`;
      await run('podman', [...common, 'pull', '--quiet', reference], { env });
      const inspect = ['image', 'inspect', '--format', '{{.Digest}}', reference];
      expect((await run('podman', [...common, ...inspect], { env })).trim()).toBe(image.digest);
      expect(site.front.requests.map(({ url }) => url)).toContain(`/v2/${name}/${repository}/manifests/${tag}`);
    }
  });
});

describeWith(['docker-registry', ...dockerDaemonTools], 'the daemon.json for Docker', () => {
  const setting = useSetting();
  let daemon: DockerDaemon;
  beforeAll(async () => {
    const configFile = join(setting().examples, 'docker', 'daemon.json');
    daemon = await startDockerDaemon({ configFile, env: nowhere });
  });
  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });
  showOutputOnFailure(() => [daemon?.process]);

  test('images of Docker Hub are pulled through the mirror, without any word on the registry', async () => {
    const { site } = setting();
    await daemon.docker('pull', `tiny:${tag}`);
    const digests = await daemon.docker('image', 'inspect', '--format', '{{.RepoDigests}}', `tiny:${tag}`);
    expect(digests).toContain(site.docker.image.digest);
    const paths = site.front.requests.map(({ url }) => url);
    for (const blob of site.docker.image.blobs) expect(paths).toContain(`/v2/${repository}/blobs/${blob.digest}`);
  });
});

interface BuildkitConfig {
  readonly registry: Readonly<Record<string, { readonly mirrors?: readonly string[]; readonly http?: boolean }>>;
}

describeWith(['docker-registry', 'python3'], 'the buildkitd.toml for BuildKit', () => {
  const setting = useSetting();

  test('leads each registry to its own image when the mirror is asked as BuildKit asks', async () => {
    const { site, examples: copies } = setting();
    const file = join(copies, 'buildkit', 'buildkitd.toml');
    const program = 'import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], "rb"))))';
    const config = JSON.parse(await run('python3', ['-c', program, file])) as BuildkitConfig;
    expect(config.registry[site.front.host]?.http).toBe(true);
    for (const { name, image } of site.upstreams) {
      const [mirror = ''] = config.registry[name]?.mirrors ?? [];
      const slash = mirror.indexOf('/');
      // The path of a mirror follows /v2, and the registry is named to a mirror as well.
      const base = `http://${mirror.slice(0, slash)}/v2${mirror.slice(slash)}/${repository}`;
      const manifest = await get(`${base}/manifests/${tag}?ns=${name}`, { headers: { accept: image.mediaType } });
      expect(manifest).toMatchObject({ status: 200, sha256: image.digest });
      for (const { digest } of image.blobs) {
        expect(await get(`${base}/blobs/${digest}?ns=${name}`)).toMatchObject({ status: 200, sha256: digest });
      }
    }
  });
});
