import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { invalidManifests, mistypedManifests } from './manifest-types.ts';
import {
  type Container,
  type Manifest,
  mirrors,
  ofKind,
  type PodSpec,
  podSpec,
  titleOf,
  type Workload,
  workloads,
} from './manifests.ts';

const dockerfile = fileURLToPath(new URL('../../deploy/Dockerfile', import.meta.url));

/** What has to be true of everything that is handed to Kubernetes, as tests of the describe around it. */
export function checkManifests(
  load: () => Promise<Manifest[]>,
  { scheme = 'http' }: { readonly scheme?: 'http' | 'https' } = {},
): void {
  let manifests: Manifest[];
  beforeAll(async () => {
    manifests = await load();
  });

  test('every object is one that Kubernetes takes, without a key that it does not know', async () => {
    expect(mirrors(manifests)).not.toEqual([]);
    expect(invalidManifests(manifests)).toEqual([]);
    expect(await mistypedManifests(manifests)).toBe('');
  });

  test('every selector picks pods that are there, and no workload picks those of another', () => {
    const pods = workloads(manifests).map((workload) => workload.spec?.template.metadata?.labels ?? {});
    const picked = (selector: Labels | undefined): number => pods.filter((labels) => picks(selector, labels)).length;
    for (const workload of workloads(manifests)) {
      const selector = workload.spec?.selector.matchLabels;
      expect(picks(selector, workload.spec?.template.metadata?.labels ?? {}), titleOf(workload)).toBe(true);
      expect(picked(selector), titleOf(workload)).toBe(1);
    }
    for (const { metadata, spec } of ofKind(manifests, 'Service'))
      expect(picked(spec?.selector), metadata?.name).toBe(1);
    for (const { spec } of ofKind(manifests, 'PodDisruptionBudget'))
      expect(picked(spec?.selector?.matchLabels)).toBe(1);
    for (const { spec } of ofKind(manifests, 'NetworkPolicy')) {
      expect(picked(spec?.podSelector?.matchLabels)).toBeGreaterThan(0);
      const peers = [...(spec?.ingress ?? []).map(({ from }) => from), ...(spec?.egress ?? []).map(({ to }) => to)];
      for (const { podSelector } of peers.flatMap((list) => list ?? [])) {
        if (podSelector !== undefined) expect(picked(podSelector.matchLabels)).toBeGreaterThan(0);
      }
    }
  });

  test('every name leads somewhere: accounts, ConfigMaps, Secrets, volumes, ports', () => {
    const names = (kind: 'ConfigMap' | 'Secret' | 'ServiceAccount' | 'Service'): (string | undefined)[] =>
      ofKind(manifests, kind).map(({ metadata }) => metadata?.name);
    const all = workloads(manifests);
    for (const spec of all.map(podSpec)) {
      expect(names('ServiceAccount')).toContain(spec.serviceAccountName);
      const volumes = spec.volumes ?? [];
      for (const { configMap } of volumes) if (configMap) expect(names('ConfigMap')).toContain(configMap.name);
      const mounted = containersOf(spec).flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name));
      expect([...new Set(mounted)].toSorted()).toEqual(volumes.map(({ name }) => name).toSorted());
      const secrets = volumes.flatMap(({ secret }) => secret?.secretName ?? []);
      const fromSecrets = containersOf(spec).flatMap(({ env = [] }) =>
        env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef?.name ?? []),
      );
      for (const name of [...secrets, ...fromSecrets]) expect(names('Secret')).toContain(name);
      for (const { ports = [], livenessProbe, readinessProbe } of spec.containers) {
        for (const probe of [livenessProbe, readinessProbe]) {
          const port = probe?.httpGet?.port ?? probe?.tcpSocket?.port;
          expect(ports.map(({ name }) => name)).toContain(port);
        }
      }
    }
    const portNames = all.flatMap((workload) => podSpec(workload).containers.flatMap(({ ports = [] }) => ports));
    for (const { spec } of ofKind(manifests, 'Service')) {
      for (const { targetPort } of spec?.ports ?? []) expect(portNames.map(({ name }) => name)).toContain(targetPort);
    }
  });

  test('what runs has no right it does not need', () => {
    for (const workload of workloads(manifests)) {
      const spec = podSpec(workload);
      expect(spec.securityContext, titleOf(workload)).toMatchObject({
        runAsNonRoot: true,
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(spec).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false });
      for (const key of ['hostNetwork', 'hostPID', 'hostIPC'] as const) expect(spec[key]).toBeUndefined();
      for (const { name, securityContext, resources } of containersOf(spec)) {
        expect(securityContext, name).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
        expect(securityContext?.privileged).toBeUndefined();
        expect(resources?.requests).toHaveProperty('memory');
        expect(resources?.limits).toHaveProperty('memory');
      }
      for (const { securityContext } of spec.containers) {
        expect(securityContext).not.toHaveProperty('runAsUser');
        expect(securityContext).not.toHaveProperty('runAsNonRoot');
        expect(securityContext?.capabilities).not.toHaveProperty('add');
      }
    }
    const asRoot = workloads(manifests).flatMap((workload) =>
      (podSpec(workload).initContainers ?? []).map(({ name, securityContext }) => [
        workload.kind,
        name,
        securityContext?.capabilities?.add ?? [],
      ]),
    );
    for (const entry of asRoot) {
      expect([
        ['DaemonSet', 'cache-owner', ['CHOWN']],
        ['DaemonSet', 'containerd-hosts', []],
      ]).toContainEqual(entry);
    }
  });

  test('the mirror runs as the user of its image, and is asked at the paths it answers', async () => {
    const image = await readFile(dockerfile, 'utf8');
    const [, user = '', group = ''] = /^USER (\d+):(\d+)$/m.exec(image) ?? [];
    const port = Number(/^EXPOSE (\d+)$/m.exec(image)?.[1]);
    for (const workload of mirrors(manifests)) {
      const spec = podSpec(workload);
      const mirror = mirrorOf(workload);
      expect(spec.securityContext).toMatchObject({
        runAsUser: Number(user),
        runAsGroup: Number(group),
        fsGroup: Number(group),
      });
      // What the image starts leaves no core dump.
      expect([mirror.command, /^ENTRYPOINT .*/m.exec(image)?.[0]]).toEqual([
        undefined,
        'ENTRYPOINT ["/opt/millpond/bin/millpond"]',
      ]);
      expect(mirror.ports).toMatchObject([{ name: 'http', containerPort: port }]);
      const probe = (path: string) => ({
        httpGet: scheme === 'https' ? { path, port: 'http', scheme: 'HTTPS' } : { path, port: 'http' },
      });
      expect(mirror).toMatchObject({
        startupProbe: probe('/healthz'),
        livenessProbe: probe('/healthz'),
        readinessProbe: probe('/readyz'),
      });
    }
  });

  test('the configuration is valid, and what it names is mounted and waited for', async () => {
    for (const workload of mirrors(manifests)) {
      const { config } = await configOf(workload, manifests);
      const preStopSeconds = Number(mirrorOf(workload).lifecycle?.preStop?.exec?.command?.[1] ?? 0);
      const graceSeconds = podSpec(workload).terminationGracePeriodSeconds;
      expect(graceSeconds).toBeGreaterThan(preStopSeconds + config.timeouts.drainMs / 1000);
      const mounts = new Map(mirrorOf(workload).volumeMounts?.map(({ name, mountPath }) => [mountPath, name]));
      const volume = (path: string) => podSpec(workload).volumes?.find(({ name }) => name === mounts.get(path));
      expect(config.listen).toEqual({ host: undefined, port: 5000 });
      expect(mounts.get(config.cache.dir)).toBe('cache');
      const secret = volume('/run/secrets/millpond')?.secret;
      expect(secret).toMatchObject({ defaultMode: 0o440 });
      const { stringData = {} } = ofKind(manifests, 'Secret').find(
        ({ metadata }) => metadata?.name === secret?.secretName,
      ) as { stringData?: Record<string, string> };
      for (const key of ['cluster-secret', 'redis-password']) expect(stringData[key]?.length).toBeGreaterThan(40);
      expect(config).toMatchObject({
        cluster: { advertise: `${scheme}://10.0.0.7:5000`, secretFile: '/run/secrets/millpond/cluster-secret' },
      });
      const redis = ofKind(manifests, 'Service').find(({ metadata }) => metadata?.name?.endsWith('-redis'));
      if (redis !== undefined) {
        expect(config).toMatchObject({
          redis: {
            url: { hosts: [{ host: redis.metadata?.name, port: redis.spec?.ports?.[0]?.port }] },
            passwordFile: '/run/secrets/millpond/redis-password',
          },
        });
      }
    }
  });
}

type Labels = Readonly<Record<string, string>>;

function picks(selector: Labels | undefined, labels: Labels): boolean {
  return selector !== undefined && Object.entries(selector).every(([name, value]) => labels[name] === value);
}

function containersOf(spec: PodSpec): readonly Container[] {
  return [...(spec.initContainers ?? []), ...spec.containers];
}

/** The container that is the mirror. */
export function mirrorOf(workload: Workload): Container {
  const found = podSpec(workload).containers.find(({ name }) => name === 'millpond');
  if (found === undefined) throw new Error(`${titleOf(workload)} has no mirror`);
  return found;
}

/** What the mirror of a workload would run with, on a pod at 10.0.0.7. */
async function configOf(workload: Workload, manifests: readonly Manifest[]): ReturnType<typeof loadConfig> {
  const { args = [], env = [], volumeMounts = [] } = mirrorOf(workload);
  const [command, flag, path = ''] = args;
  expect([command, flag]).toEqual(['serve', '--config']);
  const mount = volumeMounts.find(({ mountPath }) => path.startsWith(`${mountPath}/`));
  const volume = podSpec(workload).volumes?.find(({ name }) => name === mount?.name);
  const map = ofKind(manifests, 'ConfigMap').find(({ metadata }) => metadata?.name === volume?.configMap?.name);
  const text = map?.data?.[path.slice(`${mount?.mountPath}/`.length)] ?? '';
  expect(text).toContain('cluster:');
  const environment = Object.fromEntries(
    env.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value.replaceAll('$(POD_IP)', '10.0.0.7')]])),
  );
  await using folder = await temporaryDirectory('config');
  const file = join(folder.path, 'millpond.yaml');
  await writeFile(file, text);
  return await loadConfig({ flags: { config: file }, environment, workingDirectory: folder.path });
}
