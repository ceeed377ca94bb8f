import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { type PullSecret, pullByCri } from '../support/cri.ts';
import { localImage } from '../support/images.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';
import { pushAs } from './push.ts';
import { basic, htpasswdFile } from './support.ts';

const right: PullSecret = { username: 'ann', password: 'a:secret with $1' };
const image = localImage({ label: 'ours' });

/** A mirror with images of its own, and a containerd that pulls those of `company.test` from it alone. */
async function start(stack: AsyncDisposableStack, release: 'system' | '2') {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, { [right.username]: right.password });
  const site = stack.use(
    await startTestSite({
      upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
      config: { auth: { htpasswdFile: file }, hosted: { repositories: ['local/**', 'company.test/**'] } },
    }),
  );
  for (const repository of ['local/app', 'company.test/app']) {
    await pushAs(site, basic(right.username, right.password), { repository, image, tag: 'v1' });
  }
  await mkdir(join(folder.path, 'company.test'));
  await writeFile(
    join(folder.path, 'company.test', 'hosts.toml'),
    `server = "${site.origin}"\n[host."${site.origin}"]\ncapabilities = ["pull", "resolve"]\n`,
  );
  const containerd = stack.use(await startContainerd({ release, cri: { hostsDirectory: folder.path } }));
  return { site, containerd };
}

// A Kubernetes node without kubelet: containerd is asked as kubelet asks it.
describe.each([
  ['1.6', 'system', 'containerd'],
  ['2', '2', 'containerd-2'],
] as const)('containerd %s', (_, release, program) => {
  describeWith(['root', program, 'runc'], 'asked through CRI', () => {
    const owned = new AsyncDisposableStack();
    const setting = {} as { site: TestSite; containerd: Containerd };
    beforeAll(async () => void Object.assign(setting, await start(owned, release)), 60_000);
    afterAll(() => owned.disposeAsync());

    test.each([
      ['by the name of the mirror', (host: string) => `${host}/local/app:v1`],
      ['by the name of a registry that it mirrors', () => 'company.test/app:v1'],
    ])('pulls with an image-pull secret %s, and not with a wrong one or none', async (__, named) => {
      const { site, containerd } = setting;
      const name = named(site.origin.replace('http://', ''));
      const pull = (secret?: PullSecret): Promise<string> => pullByCri(containerd.socket, name, secret);
      await expect(pull()).rejects.toThrow(/401|authorization failed|unauthorized/i);
      const wrong = { ...right, password: 'wrong' };
      await expect(pull(wrong)).rejects.toThrow(/401|authorization failed|unauthorized/i);
      expect(await pull(right)).toMatch(/sha256:[0-9a-f]{64}$/);
      expect(await containerd.ctr('--namespace', 'k8s.io', 'images', 'ls', `name==${name}`)).toContain(image.digest);
    });
  });
});
