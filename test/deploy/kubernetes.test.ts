import { readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { run, startProcess } from '../support/processes.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, toolPath } from '../support/tools.ts';
import { checkManifests, mirrorOf } from './manifest-checks.ts';
import { type Manifest, mirrors, ofKind, parseManifests, podSpec, readFolder, readKustomization } from './manifests.ts';

const root = fileURLToPath(new URL('../../deploy/kubernetes', import.meta.url));
const kinds = ['daemonset', 'deployment', 'both'] as const;

async function secret(): Promise<Manifest[]> {
  return parseManifests(await run('sh', [join(root, 'secret.sh')]));
}

for (const kind of kinds) {
  describe(`deploy/kubernetes/${kind}`, () => {
    checkManifests(async () => [...(await readFolder(join(root, kind))), ...(await secret())]);
  });
}

for (const kind of [...kinds, 'daemonset-removal']) {
  describeWith(['kubectl'], `deploy/kubernetes/${kind}, as kubectl renders it`, () => {
    const rendered = async (): Promise<Manifest[]> =>
      parseManifests(await run('kubectl', ['kustomize', join(root, kind)]));
    checkManifests(async () => [...(await rendered()), ...(await secret())]);

    test('everything is in one namespace, and every mirror is of the one image', async () => {
      const manifests = await rendered();
      const outside = manifests.filter(
        ({ kind: of, metadata }) => of !== 'Namespace' && metadata?.namespace !== 'millpond',
      );
      expect(outside).toEqual([]);
      const { images = [] } = await readKustomization(join(root, kind === 'daemonset-removal' ? 'daemonset' : kind));
      for (const workload of mirrors(manifests)) {
        const { initContainers = [] } = podSpec(workload);
        for (const { image } of [mirrorOf(workload), ...initContainers]) {
          expect(image).toBe(`${images[0]?.newName}:${images[0]?.newTag}`);
        }
      }
    });
  });
}

describeWith(['kubectl'], 'deploy/kubernetes/components/node-service', () => {
  const rendered = async (): Promise<Manifest[]> => {
    await using folder = await temporaryDirectory('node-service');
    await symlink(root, join(folder.path, 'kubernetes'));
    const lines = [
      'namespace: millpond',
      'resources: [kubernetes/daemonset]',
      'components: [kubernetes/components/node-service]',
    ];
    await writeFile(join(folder.path, 'kustomization.yaml'), `${lines.join('\n')}\n`);
    return parseManifests(await run('kubectl', ['kustomize', folder.path]));
  };
  checkManifests(async () => [...(await rendered()), ...(await secret())]);

  test('makes the mirrors of other nodes the second host of each', async () => {
    const manifests = await rendered();
    const [daemonSet] = ofKind(manifests, 'DaemonSet');
    const hosts = podSpec(daemonSet!).initContainers?.find(({ name }) => name === 'containerd-hosts');
    expect(hosts?.args).toEqual(['install', '/certs.d', 'http://127.0.0.1:5000', 'http://$(HOST_IP):30500']);
    const [service] = ofKind(manifests, 'Service').filter(({ spec }) => spec?.type === 'NodePort');
    expect(service?.spec?.ports?.[0]?.nodePort).toBe(30_500);
  });
});

describeWith(['kubectl'], 'the overlay of docs/kubernetes.md', () => {
  test('exchanges the image everywhere and the configuration with the name that leads to it', async () => {
    const page = await readFile(join(root, '..', '..', 'docs', 'kubernetes.md'), 'utf8');
    const [, shown = ''] = /```yaml\n(# kustomization\.yaml\n[^`]*)```/.exec(page) ?? [];
    await using folder = await temporaryDirectory('overlay');
    // As the overlay's folder is in the page, the checkout lies beside its file.
    await symlink(join(root, '..', '..'), join(folder.path, 'millpond'));
    await writeFile(join(folder.path, 'kustomization.yaml'), shown);
    await writeFile(join(folder.path, 'millpond.yaml'), 'offline: true\n');
    const manifests = parseManifests(await run('kubectl', ['kustomize', folder.path]));
    const [daemonSet] = ofKind(manifests, 'DaemonSet');
    const { initContainers = [], volumes = [] } = podSpec(daemonSet!);
    for (const { image } of [mirrorOf(daemonSet!), ...initContainers])
      expect(image).toBe('registry.yours/millpond:0.1.0');
    const mounted = volumes.find(({ name }) => name === 'config')?.configMap?.name;
    const maps = ofKind(manifests, 'ConfigMap').filter(({ metadata }) => metadata?.name === mounted);
    expect(maps.map(({ data }) => data)).toEqual([{ 'millpond.yaml': 'offline: true\n' }]);
  });
});

describe('deploy/kubernetes', () => {
  test('the probes ask for what the mirror answers', async () => {
    await using site = await startTestSite({ upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } } });
    for (const kind of kinds) {
      for (const workload of mirrors(await readFolder(join(root, kind)))) {
        const { startupProbe, livenessProbe, readinessProbe } = mirrorOf(workload);
        for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
          expect(await site.get(probe?.httpGet?.path ?? '')).toMatchObject({ status: 200 });
        }
      }
    }
  });

  test('the mirror of a node can be reached from that node alone, and by the other replicas', async () => {
    const manifests = await readFolder(join(root, 'daemonset'));
    const [daemonSet] = ofKind(manifests, 'DaemonSet');
    const mirror = mirrorOf(daemonSet!);
    expect(mirror.ports).toEqual([{ name: 'http', containerPort: 5000, hostPort: 5000, hostIP: '127.0.0.1' }]);
    const hosts = podSpec(daemonSet!).initContainers?.find(({ name }) => name === 'containerd-hosts');
    expect(hosts?.args).toEqual(['install', '/certs.d', 'http://127.0.0.1:5000']);
  });

  test('the removal has the nodes take the mirror back before the mirrors go', async () => {
    const { patches = [] } = await readKustomization(join(root, 'daemonset-removal'));
    const [patch] = parseManifests(patches[0]?.patch ?? '');
    expect(patch).toMatchObject({
      kind: 'DaemonSet',
      metadata: { name: 'millpond' },
      spec: { template: { spec: { initContainers: [{ name: 'containerd-hosts', args: ['remove', '/certs.d'] }] } } },
    });
  });

  test('each Secret has values of its own', async () => {
    const values = async (): Promise<string[]> =>
      ofKind(await secret(), 'Secret').flatMap(({ stringData = {} }) => Object.values(stringData));
    const four = [...(await values()), ...(await values())];
    expect(new Set(four).size).toBe(4);
    for (const value of four) expect(value).toMatch(/^[0-9a-f]{64}$/);
  });
});

describeWith(['redis-server', 'redis-cli'], 'the Redis of deploy/kubernetes', () => {
  test('runs as it is started there, and refuses requests without the password', async () => {
    const redis = ofKind(await readFolder(join(root, 'base')), 'Deployment')[0];
    const [shell = '', flags = '', script = ''] = podSpec(redis!).containers[0]?.command ?? [];
    await using folder = await temporaryDirectory('redis');
    const socket = join(folder.path, 'sock');
    const here = script.replace('port 6379', `port 0\nunixsocket ${socket}`);
    expect(here).not.toBe(script);
    const { process } = await startProcess(shell, {
      args: [flags, here],
      env: { REDIS_PASSWORD: 'the-password', PATH: `${join(toolPath('redis-server'), '..')}:/usr/bin:/bin` },
      cwd: folder.path,
      ready: /ready to accept connections/i,
    });
    await using _ = process;
    expect(await run('redis-cli', ['-s', socket, 'get', 'a'])).toContain('NOAUTH');
    const asked = ['-s', socket, '--no-auth-warning', '-a', 'the-password', 'config', 'get'];
    expect((await run('redis-cli', [...asked, 'maxmemory-policy'])).split('\n')).toContain('allkeys-lru');
    expect((await run('redis-cli', [...asked, 'save'])).trim()).toBe('save');
  });
});
