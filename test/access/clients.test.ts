import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startContainerd } from '../support/containerd.ts';
import { dockerDaemonTools, startDockerDaemon } from '../support/docker-daemon.ts';
import { type LocalImage, localImage } from '../support/images.ts';
import { run } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { pushAs } from './push.ts';
import { basic, htpasswdFile } from './support.ts';

/** A mirror with one user, one image of its own, and a folder for what a client keeps. */
interface Setting {
  readonly site: TestSite;
  readonly host: string;
  readonly image: LocalImage;
  readonly folder: TemporaryDirectory;
}

const user = 'ann';
const password = 'a:secret with $1';
/** Where clients take a user name apart from its password at a colon, it cannot have one. */
const oddUser = 'josé müller+robot$1';
const oddPassword = 'pässword: "%41" \\ \u{1f511}';

function useSetting(auth: Readonly<Record<string, unknown>> = {}): () => Setting {
  const owned = new AsyncDisposableStack();
  let setting: Setting | undefined;
  beforeAll(async () => {
    const folder = owned.use(await temporaryDirectory('acc'));
    const file = await htpasswdFile(folder.path, { [user]: password, [oddUser]: oddPassword });
    const registry = owned.use(await startRegistry());
    const config = { auth: { htpasswdFile: file, ...auth }, hosted: { repositories: ['local/**'] } };
    const site = owned.use(await startTestSite({ upstreams: { 'registry.test': registry }, config }));
    const image = localImage({ label: 'ours' });
    await pushAs(site, basic(user, password), { repository: 'local/app', image, tag: 'v1' });
    setting = { site, host: site.origin.replace('http://', ''), image, folder };
  });
  afterAll(async () => await owned.disposeAsync());
  return () => setting!;
}

describeWith([...dockerDaemonTools], 'Docker', () => {
  const setting = useSetting();

  test('logs in, pulls and pushes; without credentials or with wrong ones it does not', async () => {
    const { host, image } = setting();
    await using daemon = await startDockerDaemon();
    const name = `${host}/local/app:v1`;
    await expect(daemon.docker('pull', name)).rejects.toThrow(/unauthorized|authentication required|denied/);
    await expect(daemon.docker('login', '-u', user, '-p', 'wrong', host)).rejects.toThrow(/unauthorized|401/);
    expect(await daemon.docker('login', '-u', user, '-p', password, host)).toContain('Login Succeeded');
    expect(await daemon.docker('login', '-u', oddUser, '-p', oddPassword, host)).toContain('Login Succeeded');
    await daemon.docker('pull', name);
    expect(await daemon.docker('image', 'inspect', '--format', '{{.RepoDigests}}', name)).toContain(image.digest);
    await daemon.docker('tag', name, `${host}/local/copy:v1`);
    await daemon.docker('push', `${host}/local/copy:v1`);
  });
});

describeWith(['root', 'containerd', 'ctr'], 'containerd', () => {
  const setting = useSetting();

  test('pulls with a user and password, and not with a wrong one', async () => {
    const { host, image } = setting();
    await using containerd = await startContainerd();
    const name = `${host}/local/app:v1`;
    const pull = (...args: readonly string[]) =>
      containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', 'native', ...args, name);
    await expect(pull()).rejects.toThrow(/401|authorization failed|unauthorized/i);
    await expect(pull('--user', `${user}:wrong`)).rejects.toThrow(/401|authorization failed|unauthorized/i);
    await expect(pull('--user', `${oddUser}:${oddPassword} `)).rejects.toThrow(
      /401|authorization failed|unauthorized/i,
    );
    await pull('--user', `${oddUser}:${oddPassword}`);
    expect(await containerd.ctr('images', 'ls', `name==${name}`)).toContain(image.digest);
  });
});

describeWith(['skopeo'], 'skopeo', () => {
  const setting = useSetting();

  test('logs in and copies, both ways', async () => {
    const { host, folder } = setting();
    const env = { HOME: folder.path, TMPDIR: folder.path, REGISTRY_AUTH_FILE: join(folder.path, 'auth.json') };
    const skopeo = (...args: readonly string[]) => run('skopeo', ['--insecure-policy', ...args], { env });
    const copy = () =>
      skopeo('copy', '--src-tls-verify=false', `docker://${host}/local/app:v1`, `dir:${folder.path}/a`);
    await expect(copy()).rejects.toThrow(/unauthorized|authentication required/);
    const login = (secret: string, name = user) =>
      skopeo('login', '--tls-verify=false', '-u', name, '-p', secret, host);
    await expect(login('wrong')).rejects.toThrow(/invalid username\/password|unauthorized/);
    await expect(login(password, oddUser)).rejects.toThrow(/invalid username\/password|unauthorized/);
    await login(oddPassword, oddUser);
    await copy();
    await login(password);
    await skopeo('copy', '--dest-tls-verify=false', `dir:${folder.path}/a`, `docker://${host}/local/skopeo:v1`);
    await skopeo('delete', '--tls-verify=false', `docker://${host}/local/skopeo:v1`);
  });
});

describeWith(['root', 'podman'], 'podman', () => {
  const setting = useSetting();

  test('pulls with credentials', async () => {
    const { host, folder, image } = setting();
    const own = ['--root', join(folder.path, 'r'), '--runroot', join(folder.path, 'u'), '--storage-driver', 'vfs'];
    const env = { HOME: folder.path, TMPDIR: folder.path };
    const podman = (...args: readonly string[]) =>
      run('podman', [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', ...args], { env });
    const name = `${host}/local/app:v1`;
    const pull = (secret: string) =>
      podman('pull', '--quiet', '--tls-verify=false', '--creds', `${user}:${secret}`, name);
    await expect(pull('wrong')).rejects.toThrow(/unauthorized|invalid username\/password/);
    const authFile = ['--authfile', join(folder.path, 'podman-auth.json'), '--tls-verify=false'];
    const login = (secret: string) => podman('login', ...authFile, '-u', oddUser, '-p', secret, host);
    await expect(login('wrong')).rejects.toThrow(/invalid username\/password|unauthorized/);
    expect(await login(oddPassword)).toContain('Login Succeeded');
    await podman('pull', '--quiet', ...authFile, name);
    await podman('image', 'rm', name);
    await pull(password);
    const inspect = ['image', 'inspect', '--format', '{{.Digest}}', `${host}/local/app:v1`];
    expect((await podman(...inspect)).trim()).toBe(image.digest);
  });
});

describeWith(['oras'], 'oras', () => {
  const setting = useSetting({ anonymous: true });

  test('logs in, pushes and pulls', async () => {
    const { host, folder } = setting();
    const env = { HOME: folder.path, DOCKER_CONFIG: folder.path };
    const oras = (...args: readonly string[]) => run('oras', args, { env, cwd: folder.path });
    await writeFile(join(folder.path, 'notes.txt'), 'some notes');
    const push = () => oras('push', '--plain-http', `${host}/local/notes:1`, 'notes.txt:text/plain');
    await expect(oras('login', '--plain-http', '-u', user, '-p', 'wrong', host)).rejects.toThrow(/unauthorized|401/i);
    await oras('login', '--plain-http', '-u', oddUser, '-p', oddPassword, host);
    await push();
    await oras('pull', '--plain-http', '-o', join(folder.path, 'out'), `${host}/local/notes:1`);
  });
});

describeWith(['helm'], 'helm', () => {
  const setting = useSetting();

  test('logs in, pushes and pulls a chart', async () => {
    const { host, folder } = setting();
    const env = { HOME: folder.path, HELM_CONFIG_HOME: folder.path, HELM_CACHE_HOME: folder.path };
    const helm = (...args: readonly string[]) => run('helm', args, { env, cwd: folder.path });
    await mkdir(join(folder.path, 'chart'));
    await writeFile(join(folder.path, 'chart', 'Chart.yaml'), 'apiVersion: v2\nname: ours\nversion: 1.0.0\n');
    await helm('package', 'chart');
    const pull = () => helm('pull', '--plain-http', `oci://${host}/local/charts/ours`, '--version', '1.0.0');
    await expect(pull()).rejects.toThrow(/unauthorized|401|credential/i);
    const login = (secret: string) => helm('registry', 'login', '--plain-http', '-u', oddUser, '-p', secret, host);
    await expect(login('wrong')).rejects.toThrow(/unauthorized|401/i);
    await login(oddPassword);
    await helm('push', '--plain-http', 'ours-1.0.0.tgz', `oci://${host}/local/charts`);
    await pull();
  });
});
