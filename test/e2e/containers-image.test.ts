import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { localBlob } from '../support/images.ts';
import { run, showOutputOnFailure } from '../support/processes.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { repository, type Site, type SiteUpstream, startSite, tag } from './site.ts';

interface Setting {
  readonly site: Site;
  readonly directory: TemporaryDirectory;
  /** Sends both registries to the mirror by path prefix; the places behind it are ports without a listener. */
  readonly registriesConf: string;
}

describeWith(['docker-registry', 'skopeo'], 'skopeo with registries.conf', () => {
  const setting = useSetting();

  async function copy(upstream: SiteUpstream, target: string): Promise<void> {
    const { registriesConf, directory } = setting();
    const source = `docker://${upstream.name}/${repository}:${tag}`;
    const home = { HOME: directory.path, TMPDIR: directory.path };
    await run(
      'skopeo',
      ['--insecure-policy', '--registries-conf', registriesConf, 'copy', '--all', source, `dir:${target}`],
      {
        env: home,
      },
    );
  }

  test('copies the right image of each registry, the second time from disk', async () => {
    const { site, directory } = setting();
    for (const upstream of site.upstreams) {
      for (const turn of ['first', 'second']) {
        upstream.proxy.requests.length = 0;
        site.front.requests.length = 0;
        const target = join(directory.path, `${upstream.name}-${turn}`);
        await copy(upstream, target);
        expect(localBlob(await readFile(join(target, 'manifest.json'))).digest).toBe(upstream.image.digest);
        for (const blob of upstream.image.blobs) {
          expect(localBlob(await readFile(join(target, blob.digest.slice(7)))).digest).toBe(blob.digest);
        }
        expect(site.front.contentRequests()).toHaveLength(upstream.image.blobs.length);
        expect(upstream.proxy.contentRequests().length > 0).toBe(turn === 'first');
      }
    }
  });
});

describeWith(['root', 'docker-registry', 'podman'], 'podman with registries.conf', () => {
  const setting = useSetting();

  async function pull(upstream: SiteUpstream, store: string): Promise<{ digest: string; id: string }> {
    const { registriesConf, directory } = setting();
    // Podman takes a run root of at most 50 characters.
    const folder = join(directory.path, store);
    const own = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    const common = [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
    const env = { CONTAINERS_REGISTRIES_CONF: registriesConf, HOME: directory.path, TMPDIR: directory.path };
    const reference = `${upstream.name}/${repository}:${tag}`;
    await run('podman', [...common, 'pull', '--quiet', reference], { env });
    const inspected = await run(
      'podman',
      [...common, 'image', 'inspect', '--format', '{{.Digest}} {{.Id}}', reference],
      { env },
    );
    const [digest = '', id = ''] = inspected.trim().split(' ');
    return { digest, id: `sha256:${id}` };
  }

  test('pulls the right image of each registry, the second time from disk', async () => {
    const { site } = setting();
    for (const upstream of site.upstreams) {
      for (const turn of ['first', 'second']) {
        upstream.proxy.requests.length = 0;
        site.front.requests.length = 0;
        const pulled = await pull(upstream, `${upstream.name.charAt(0)}${turn.charAt(0)}`);
        expect(pulled).toEqual({ digest: upstream.image.digest, id: upstream.image.config.digest });
        expect(site.front.contentRequests()).toHaveLength(upstream.image.blobs.length);
        expect(upstream.proxy.contentRequests().length > 0).toBe(turn === 'first');
      }
    }
  });
});

function useSetting(): () => Setting {
  let setting: Setting;
  beforeAll(async () => {
    const site = await startSite();
    const directory = await temporaryDirectory('c');
    const registriesConf = join(directory.path, 'registries.conf');
    const tables = site.upstreams.map(({ name }) =>
      [
        `[[registry]]`,
        `prefix = "${name}"`,
        `location = "127.0.0.1:1"`,
        `insecure = true`,
        `[[registry.mirror]]`,
        `location = "${site.front.host}/${name}"`,
        `insecure = true`,
      ].join('\n'),
    );
    await writeFile(registriesConf, `${tables.join('\n\n')}\n`);
    setting = { site, directory, registriesConf };
  });
  afterAll(async () => {
    await setting?.site[Symbol.asyncDispose]();
    await setting?.directory[Symbol.asyncDispose]();
  });
  showOutputOnFailure(() => [setting?.site]);
  return () => setting;
}
