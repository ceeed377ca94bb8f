import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runCommand } from '../support/commands.ts';
import { startContainerd } from '../support/containerd.ts';
import { dockerDaemonTools, startDockerDaemon } from '../support/docker-daemon.ts';
import { type LocalManifest, localArtifact, localBlob, localImage, localIndex } from '../support/images.ts';
import { layoutOf, named, writeFolder, writeTar } from '../support/layouts.ts';
import { run } from '../support/processes.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

const name = 'quay.io/org/app:1';
const index = localIndex('app', ['amd64', 'arm64']);
const image = localImage({ label: 'single', compression: 'zstd' });

/** A cache of its own, offline, with commands that work on it. */
async function place() {
  const directory = await temporaryDirectory('a');
  const cacheDir = join(directory.path, 'data');
  const config = { upstreams: { 'quay.io': { urls: ['http://127.0.0.1:1'] } }, offline: true };
  await writeFile(join(directory.path, 'millpond.yaml'), JSON.stringify({ ...config, cache: { dir: cacheDir } }));
  const millpond = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runCommand(args, directory.path);
    expect([code, stderr]).toEqual([0, '']);
    return stdout;
  };
  return {
    path: (file: string) => join(directory.path, file),
    millpond,
    skopeo: (...args: readonly string[]) =>
      run('skopeo', ['--insecure-policy', ...args], { env: { HOME: directory.path, TMPDIR: directory.path } }),
    /** What a client gets of a repository: the digest of the manifest, each of whose blobs can be pulled. */
    async pulled(repository: string, reference: string): Promise<string> {
      await using site = await startTestSite({ upstreams: {}, cacheDir, config });
      const pull = async (what: string): Promise<string> => {
        const { status, body } = await site.get(`/v2/${repository}/manifests/${what}`);
        expect(status).toBe(200);
        const { manifests = [], config: blob, layers = [] } = JSON.parse(body.toString('utf8'));
        for (const child of manifests) await pull(child.digest);
        for (const { digest } of [...(blob ? [blob] : []), ...layers]) {
          const got = await site.get(`/v2/${repository}/blobs/${digest}`);
          expect(localBlob(got.body).digest).toBe(digest);
        }
        return localBlob(body).digest;
      };
      return await pull(reference);
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}

/** An archive of ours, with a referrer of the image and a signature by tag, which other programs are to overlook. */
async function exported(here: Awaited<ReturnType<typeof place>>, manifest: LocalManifest): Promise<string> {
  const attachment = (reference: string) => ({ 'io.millpond.attachment': `quay.io/org/app${reference}` });
  const sbom = localArtifact({ artifactType: 'application/spdx+json', subject: manifest });
  const signature = localArtifact({ artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json' });
  const files = layoutOf([
    { manifest, annotations: named(name) },
    { manifest: sbom, annotations: attachment(`@${sbom.digest}`) },
    { manifest: signature, annotations: attachment(`:${manifest.digest.replace(':', '-')}.sig`) },
  ]);
  await writeTar(here.path('in.tar'), files);
  expect(await here.millpond('import', here.path('in.tar'))).toContain('with 2 attachments');
  await here.millpond('export', '--output', 'out.tar', name);
  return here.path('out.tar');
}

describeWith(['skopeo'], 'skopeo', () => {
  test('copies all platforms out of an archive of ours', async () => {
    await using here = await place();
    const archive = await exported(here, index);
    await here.skopeo('copy', '--all', `oci-archive:${archive}:${name}`, `dir:${here.path('copy')}`);
    expect(localBlob(await readFile(here.path('copy/manifest.json'))).digest).toBe(index.digest);
    const blobs = index.manifests.flatMap((manifest) => manifest.blobs.map(({ digest }) => digest.slice(7)));
    expect(await readdir(here.path('copy'))).toEqual(expect.arrayContaining(blobs));
  });

  test('copies an image with the media types of Docker out of an archive of ours, as docker-archive', async () => {
    await using here = await place();
    const old = localImage({ label: 'old', mediaTypes: 'docker' });
    const archive = await exported(here, old);
    await here.skopeo('copy', `docker-archive:${archive}:${name}`, `dir:${here.path('copy')}`);
    const { config } = JSON.parse(await readFile(here.path('copy/manifest.json'), 'utf8')) as {
      config: { digest: string };
    };
    expect(config.digest).toBe(old.blobs[0]!.digest);
  });

  test('makes archives that are taken in: oci-archive and docker-archive', async () => {
    await using here = await place();
    const layout = await writeFolder(here.path('layout'), layoutOf([{ manifest: index, annotations: named(name) }]));
    await here.skopeo('copy', '--all', `oci:${layout}:${name}`, `oci-archive:${here.path('skopeo.tar')}:1`);
    await here.millpond('import', here.path('skopeo.tar'), '--name', 'quay.io/org/app');
    expect(await here.pulled('quay.io/org/app', '1')).toBe(index.digest);
    await here.skopeo('copy', `oci:${layout}:${name}`, `docker-archive:${here.path('docker.tar')}:${name}`);
    await here.millpond('import', here.path('docker.tar'), '--name', 'quay.io/org/docker:1');
    const digest = await here.pulled('quay.io/org/docker', '1');
    await using site = await startTestSite({
      upstreams: {},
      cacheDir: here.path('data'),
      config: { upstreams: { 'quay.io': { urls: ['http://127.0.0.1:1'] } }, offline: true },
    });
    const from = `docker://${new URL(site.origin).host}/quay.io/org/docker:1`;
    await here.skopeo('copy', '--src-tls-verify=false', from, `dir:${here.path('copied')}`);
    expect(localBlob(await readFile(here.path('copied/manifest.json'))).digest).toBe(digest);
  });
});

describeWith(['skopeo'], 'folders of skopeo', () => {
  test('are taken in: of one image, and of many', async () => {
    await using here = await place();
    await exported(here, index);
    await using site = await startTestSite({
      upstreams: {},
      cacheDir: here.path('data'),
      config: { upstreams: { 'quay.io': { urls: ['http://127.0.0.1:1'] } }, offline: true },
    });
    const { host } = new URL(site.origin);
    await here.skopeo(
      'copy',
      '--all',
      '--src-tls-verify=false',
      `docker://${host}/${name}`,
      `dir:${here.path('copy')}`,
    );
    const sync = ['sync', '--all', '--scoped', '--src-tls-verify=false', '--src', 'docker', '--dest', 'dir'];
    await mkdir(here.path('sync'));
    await here.skopeo(...sync, `${host}/${name}`, here.path('sync'));
    await using there = await place();
    await there.millpond('import', here.path('copy'), '--name', name);
    expect(await there.pulled('quay.io/org/app', '1')).toBe(index.digest);
    await rm(there.path('data'), { recursive: true });
    // The names begin with the mirror that they were copied from.
    await there.millpond('import', here.path(`sync/${host}`));
    expect(await there.pulled('quay.io/org/app', '1')).toBe(index.digest);
  });
});

describeWith(['root', 'podman'], 'podman', () => {
  const podmanOf =
    (here: Awaited<ReturnType<typeof place>>) =>
    (...args: readonly string[]): Promise<string> => {
      const own = ['--root', here.path('r'), '--runroot', here.path('s'), '--storage-driver', 'vfs'];
      return run('podman', [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', ...args], {
        env: { HOME: here.path(''), TMPDIR: here.path('') },
      });
    };

  test('loads every image out of an archive of ours: several, of several platforms, signed', async () => {
    await using here = await place();
    await exported(here, index);
    const other = 'quay.io/org/other:2';
    const bill = localArtifact({ artifactType: 'application/spdx+json' });
    const more = layoutOf([
      { manifest: image, annotations: named(other) },
      { manifest: bill, annotations: named('quay.io/org/bill:1') },
    ]);
    await here.millpond('import', await writeTar(here.path('more.tar'), more));
    await here.millpond('export', '--output', 'all.tar', name, other, 'quay.io/org/bill:1');
    const podman = podmanOf(here);
    await podman('load', '--quiet', '--input', here.path('all.tar'));
    const listed = await podman('images', '--no-trunc', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}');
    const [amd64] = index.manifests;
    expect(listed.trim().split('\n').toSorted()).toEqual([
      `${name} ${amd64!.blobs[0]!.digest}`,
      `${other} ${image.config.digest}`,
    ]);
  });

  test('save gives archives that are taken in', async () => {
    await using here = await place();
    const podman = podmanOf(here);
    // Podman converts for docker-archive, and Docker's form has no zstd.
    const manifest = localImage({ label: 'for podman' });
    await writeTar(here.path('in.tar'), layoutOf([{ manifest, annotations: named(name) }]));
    await podman('load', '--quiet', '--input', here.path('in.tar'));
    await podman('save', '--quiet', '--format', 'docker-archive', '--output', here.path('d.tar'), name);
    expect(await here.millpond('import', here.path('d.tar'))).toContain(name);
    await here.pulled('quay.io/org/app', '1');
    await podman('save', '--quiet', '--format', 'oci-archive', '--output', here.path('o.tar'), name);
    expect(await here.millpond('import', here.path('o.tar'), '--name', 'quay.io/org/oci:2')).toContain(
      'quay.io/org/oci:2',
    );
    await here.pulled('quay.io/org/oci', '2');
  });
});

describeWith(['root', 'containerd', 'ctr'], 'containerd', () => {
  test('imports an archive of ours, and what it exports is taken in', async () => {
    await using here = await place();
    await using containerd = await startContainerd();
    const archive = await exported(here, index);
    await containerd.ctr('images', 'import', '--no-unpack', '--all-platforms', archive);
    const listed = await containerd.ctr('images', 'ls');
    expect(listed).toContain(name);
    expect(listed).toContain(index.digest);
    await containerd.ctr('images', 'export', '--all-platforms', here.path('ctr.tar'), name);
    await using other = await place();
    expect(await other.millpond('import', here.path('ctr.tar'))).toContain(name);
    expect(await other.pulled('quay.io/org/app', '1')).toBe(index.digest);
    // Only what it runs itself.
    await containerd.ctr('images', 'export', '--platform', 'linux/amd64', here.path('one.tar'), name);
    await using third = await place();
    expect(await third.millpond('import', here.path('one.tar'))).toContain(name);
  });

  test('unpacks an image out of an archive of ours', async () => {
    await using here = await place();
    await using containerd = await startContainerd();
    await containerd.ctr('images', 'import', '--snapshotter', 'native', await exported(here, image));
    expect(await containerd.ctr('images', 'ls')).toContain(image.digest);
  });
});

describeWith(dockerDaemonTools, 'Docker', () => {
  test('loads every image out of an archive of ours, and what it saves is taken in', async () => {
    await using here = await place();
    await using daemon = await startDockerDaemon();
    const plain = localImage({ label: 'for docker' });
    const other = 'quay.io/org/other:2';
    await exported(here, index);
    await here.millpond(
      'import',
      await writeTar(here.path('more.tar'), layoutOf([{ manifest: plain, annotations: named(other) }])),
    );
    await here.millpond('export', '--output', 'all.tar', name, other);
    await daemon.docker('load', '--quiet', '--input', here.path('all.tar'));
    const listed = await daemon.docker('images', '--no-trunc', '--format', '{{.Repository}}:{{.Tag}} {{.ID}}');
    const [amd64] = index.manifests;
    expect(listed.trim().split('\n').toSorted()).toEqual([
      `${name} ${amd64!.blobs[0]!.digest}`,
      `${other} ${plain.config.digest}`,
    ]);
    await daemon.docker('save', '--output', here.path('saved.tar'), name, other);
    await using there = await place();
    const told = await there.millpond('import', here.path('saved.tar'));
    for (const saved of [name, other]) {
      expect(told).toContain(saved);
      await there.pulled(saved.slice(0, saved.lastIndexOf(':')), saved.slice(saved.lastIndexOf(':') + 1));
    }
  });
});
