import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startContainerd } from '../support/containerd.ts';
import { dockerDaemonTools, startDockerDaemon } from '../support/docker-daemon.ts';
import { localBlob, localImage, localIndex } from '../support/images.ts';
import { layoutOf, named, writeFolder, writeTar } from '../support/layouts.ts';
import { run } from '../support/processes.ts';
import type { TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { pushImage, send, startHostedSite } from './support.ts';

const index = localIndex('many', ['amd64', 'arm64']);
const image = localImage({ label: 'one' });

async function digestAt(site: TestSite, reference: string): Promise<string> {
  const [repository = '', tag = ''] = reference.split(':');
  const { status, headers } = await send(site, ['HEAD', `/v2/${repository}/manifests/${tag}`]);
  expect(status).toBe(200);
  return String(headers['docker-content-digest']);
}

/** A mirror, how its clients name it, and a folder for what they keep. */
async function start(stack: AsyncDisposableStack) {
  const site = stack.use(await startHostedSite());
  const folder = stack.use(await temporaryDirectory('push'));
  return { site, host: site.origin.replace('http://', ''), folder: folder.path, env: { HOME: folder.path } };
}

describeWith(['skopeo'], 'skopeo', () => {
  test('pushes a whole index, and pulls back what it has pushed', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host, folder, env } = await start(stack);
    const source = await writeFolder(join(folder, 'layout'), layoutOf([{ manifest: index, annotations: named('v1') }]));
    const copy = (...args: readonly string[]) =>
      run('skopeo', ['--insecure-policy', 'copy', '--all', ...args], { env });
    await copy('--dest-tls-verify=false', `oci:${source}:v1`, `docker://${host}/local/many:v1`);
    expect(await digestAt(site, 'local/many:v1')).toBe(index.digest);
    await copy('--src-tls-verify=false', `docker://${host}/local/many:v1`, `dir:${join(folder, 'back')}`);
    expect(localBlob(await readFile(join(folder, 'back', 'manifest.json'))).digest).toBe(index.digest);
    for (const blob of index.manifests.flatMap(({ blobs }) => blobs)) {
      expect(localBlob(await readFile(join(folder, 'back', blob.digest.slice(7)))).digest).toBe(blob.digest);
    }
  });
});

describeWith(['oras'], 'oras', () => {
  test('pushes an artifact and attaches another one to it, and pulls both back', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host, folder, env } = await start(stack);
    const oras = (...args: readonly string[]) => run('oras', args, { env, cwd: folder });
    await writeFile(join(folder, 'notes.txt'), 'the notes');
    await writeFile(join(folder, 'sbom.txt'), 'the parts');
    const name = `${host}/local/notes:v1`;
    await oras('push', '--plain-http', '--artifact-type', 'application/vnd.test.notes', name, 'notes.txt');
    await oras('attach', '--plain-http', '--artifact-type', 'application/vnd.test.sbom', name, 'sbom.txt');
    const digest = await digestAt(site, 'local/notes:v1');
    expect(await oras('discover', '--plain-http', '--format', 'json', name)).toContain('application/vnd.test.sbom');
    await oras('pull', '--plain-http', '--output', 'back', `${host}/local/notes@${digest}`);
    expect(await readFile(join(folder, 'back', 'notes.txt'), 'utf8')).toBe('the notes');
  });
});

describeWith(['helm'], 'helm', () => {
  test('pushes a chart, whose version has a plus, and pulls it back', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host, folder, env } = await start(stack);
    const helm = (...args: readonly string[]) => run('helm', args, { env, cwd: folder });
    const chart = 'apiVersion: v2\nname: hello\nversion: 1.2.3+build.4\n';
    await writeFolder(join(folder, 'hello'), { 'Chart.yaml': Buffer.from(chart) });
    await helm('package', 'hello');
    await helm('push', '--plain-http', 'hello-1.2.3+build.4.tgz', `oci://${host}/local/charts`);
    expect(await digestAt(site, 'local/charts/hello:1.2.3_build.4')).toMatch(/^sha256:/);
    const before = await readFile(join(folder, 'hello-1.2.3+build.4.tgz'));
    await mkdir(join(folder, 'back'));
    await helm('pull', '--plain-http', '-d', 'back', `oci://${host}/local/charts/hello`, '--version', '1.2.3+build.4');
    expect((await readFile(join(folder, 'back', 'hello-1.2.3+build.4.tgz'))).equals(before)).toBe(true);
  });
});

describeWith(['root', 'containerd', 'ctr'], 'containerd', () => {
  test('pushes what it has imported, and pulls it back', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host, folder } = await start(stack);
    await using containerd = await startContainerd();
    const name = `${host}/local/many:v1`;
    const files = layoutOf([{ manifest: index, annotations: named(name) }]);
    await containerd.ctr(
      'images',
      'import',
      '--no-unpack',
      '--all-platforms',
      await writeTar(join(folder, 'many.tar'), files),
    );
    await containerd.ctr('images', 'push', '--plain-http', name);
    expect(await digestAt(site, 'local/many:v1')).toBe(index.digest);
    await using other = await startContainerd();
    await other.ctr('images', 'pull', '--plain-http', '--all-platforms', '--snapshotter', 'native', name);
    expect(await other.ctr('images', 'ls', `name==${name}`)).toContain(index.digest);
  });
});

describeWith([...dockerDaemonTools], 'Docker', () => {
  test('pushes an image under another name, and pulls back the same digest', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host } = await start(stack);
    await pushImage(site, 'local/app', image, 'v1');
    await using daemon = await startDockerDaemon();
    await daemon.docker('pull', `${host}/local/app:v1`);
    const name = `${host}/local/copy:v1`;
    await daemon.docker('tag', `${host}/local/app:v1`, name);
    const said = await daemon.docker('push', name);
    const digest = await digestAt(site, 'local/copy:v1');
    expect(said).toContain(digest);
    await daemon.docker('rmi', name, `${host}/local/app:v1`);
    await daemon.docker('pull', name);
    expect(await daemon.docker('image', 'inspect', '--format', '{{.RepoDigests}}', name)).toContain(digest);
  });
});

describeWith(['root', 'podman'], 'podman', () => {
  test('pushes an image under another name, and pulls back the same digest', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host, folder, env } = await start(stack);
    await pushImage(site, 'local/app', image, 'v1');
    const own = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    const podman = (...args: readonly string[]) =>
      run('podman', [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', ...args], { env });
    const name = `${host}/local/copy:v1`;
    await podman('pull', '--quiet', '--tls-verify=false', `${host}/local/app:v1`);
    await podman('tag', `${host}/local/app:v1`, name);
    await podman('push', '--quiet', '--tls-verify=false', name);
    const digest = await digestAt(site, 'local/copy:v1');
    await podman('rmi', '--all', '--force');
    await podman('pull', '--quiet', '--tls-verify=false', name);
    expect((await podman('image', 'inspect', '--format', '{{.Digest}}', name)).trim()).toBe(digest);
  });
});

describeWith(['root', 'buildah'], 'buildah', () => {
  test('pushes an image under another name, and pulls back the same digest', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, host, folder, env } = await start(stack);
    await pushImage(site, 'local/app', image, 'v1');
    const own = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    const buildah = (...args: readonly string[]) => run('buildah', [...own, ...args], { env });
    const name = `${host}/local/copy:v1`;
    await buildah('pull', '--quiet', '--tls-verify=false', `${host}/local/app:v1`);
    await buildah('push', '--quiet', '--tls-verify=false', `${host}/local/app:v1`, `docker://${name}`);
    const digest = await digestAt(site, 'local/copy:v1');
    await buildah('rmi', '--all', '--force');
    await buildah('pull', '--quiet', '--tls-verify=false', name);
    expect(await buildah('images', '--format', '{{.Digest}}')).toContain(digest);
  });
});
