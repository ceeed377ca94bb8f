import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { run } from '../support/processes.ts';
import { describeWith } from '../support/tools.ts';
import { checkManifests, mirrorOf } from './manifest-checks.ts';
import { type Manifest, mirrors, ofKind, parseManifests, podSpec } from './manifests.ts';

const deploy = fileURLToPath(new URL('../../deploy', import.meta.url));
const chart = join(deploy, 'helm', 'millpond');

async function read(...path: readonly string[]): Promise<string> {
  return await readFile(join(chart, ...path), 'utf8');
}

async function templates(): Promise<string> {
  const names = await readdir(join(chart, 'templates'));
  return (await Promise.all(names.map((name) => read('templates', name)))).join('\n');
}

/** Every value that can be set by a dotted name; what is free in form counts as one. */
function dotted(values: object, free: readonly string[], prefix = ''): string[] {
  return Object.entries(values).flatMap(([key, value]) => {
    const name = `${prefix}${key}`;
    const isSection = typeof value === 'object' && value !== null && !Array.isArray(value) && !free.includes(key);
    return isSection ? dotted(value as object, free, `${name}.`) : [name];
  });
}

const freeForms = [
  'config',
  'resources',
  'nodeSelector',
  'affinity',
  'cacheVolume',
  'annotations',
  'podAnnotations',
  'seLinuxOptions',
];

async function valueNames(): Promise<string[]> {
  return dotted(parse(await read('values.yaml')) as object, freeForms);
}

describe('the chart', () => {
  test('has the version of the program', async () => {
    const { version } = JSON.parse(await readFile(join(deploy, '..', 'package.json'), 'utf8')) as { version: string };
    expect(parse(await read('Chart.yaml'))).toMatchObject({
      apiVersion: 'v2',
      name: 'millpond',
      version,
      appVersion: version,
    });
  });

  test('writes the same script onto nodes as the plain manifests', async () => {
    const plain = await readFile(join(deploy, 'kubernetes', 'components', 'daemonset', 'containerd-hosts.sh'), 'utf8');
    expect(await read('files', 'containerd-hosts.sh')).toBe(plain);
  });

  test('every value is used by a template, and every value that a template uses is there', async () => {
    const names = await valueNames();
    const text = await templates();
    const [, placement = ''] = /define "millpond\.placement"([\s\S]*?)\n\{\{- end \}\}\n\n/.exec(text) ?? [];
    const placed = [...new Set([...placement.matchAll(/with \.([A-Za-z]+)/g)].map(([, key = '']) => key))];
    expect(placed).toEqual(['nodeSelector', 'tolerations', 'affinity', 'priorityClassName']);
    const used = [...text.matchAll(/(millpond\.placement" )?\.Values\.([A-Za-z.]+)/g)].flatMap(
      ([, isPlaced, name = '']) =>
        isPlaced ? placed.map((key) => `${name}.${key}`) : [name.startsWith('config.') ? 'config' : name],
    );
    expect(used.length).toBeGreaterThan(40);
    expect(used.filter((name) => !names.includes(name))).toEqual([]);
    expect(names.filter((name) => !used.includes(name))).toEqual([]);
  });

  test('every value is in the table of the README', async () => {
    const table = await read('README.md');
    expect((await valueNames()).filter((name) => !table.includes(`\`${name}\``))).toEqual([]);
  });

  test('its schema takes the defaults, knows each of them, and refuses what is misspelt', async () => {
    const schema = z.fromJSONSchema(JSON.parse(await read('values.schema.json')) as never);
    const values = parse(await read('values.yaml')) as Record<string, object>;
    expect(schema.safeParse(values).error?.issues).toBeUndefined();
    for (const wrong of [
      { ...values, daemonset: {} },
      { ...values, daemonSet: { ...values['daemonSet'], hostport: 1 } },
      { ...values, containerd: { ...values['containerd'], hosts: 'delete' } },
      {
        ...values,
        deployment: { ...values['deployment'], cacheVolume: { persistentVolumeClaim: { claimName: 'one' } } },
      },
      { ...values, redis: { ...values['redis'], url: 'redis://:password@redis' } },
    ]) {
      expect(schema.safeParse(wrong).success).toBe(false);
    }
  });
});

async function template(...settings: readonly string[]): Promise<Manifest[]> {
  const flags = settings.flatMap((setting) => ['--set-json', setting]);
  const args = ['template', 'pond', chart, '--namespace', 'millpond', '--kube-version', '1.30.0', ...flags];
  return parseManifests(await run('helm', args));
}

describeWith(['helm'], 'the chart, as helm renders it', () => {
  test('helm finds nothing to say against it', async () => {
    expect(await run('helm', ['lint', '--strict', chart])).toContain('0 chart(s) failed');
  });

  describe('by default', () => {
    checkManifests(() => template());
  });

  describe('with all that can be switched on', () => {
    checkManifests(() =>
      template(
        'deployment.enabled=true',
        'cluster.placement="sharded"',
        'deployment.cacheVolume={"ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"60Gi"}}}}}}',
        'seLinuxOptions={"type":"spc_t"}',
        'deployment.priorityClassName="high"',
        'service.type="NodePort"',
        'nodeService.nodePort=30500',
        'nodeService.nodes=["10.0.0.0/16"]',
        'redis.tolerations=[{"operator":"Exists"}]',
        'redis.priorityClassName="high"',
        'containerd.ca="-----BEGIN CERTIFICATE-----\\nAA==\\n-----END CERTIFICATE-----\\n"',
        'containerd.skipVerify=true',
        'networkPolicy.extraEgress=[{"ports":[{"port":3128}]}]',
        'config.upstreams={"docker.io":{"auth":{"username":"me","passwordFile":"/run/hub/password"}}}',
        'extraVolumes=[{"name":"hub","secret":{"secretName":"pond-millpond-cluster"}}]',
        'extraVolumeMounts=[{"name":"hub","mountPath":"/run/hub"}]',
        'extraEnv=[{"name":"HTTPS_PROXY","value":"http://proxy.example:3128"}]',
      ),
    );
  });

  test('a configuration that the mirror would refuse is refused before any pod starts', async () => {
    for (const wrong of [
      'config.upstreams={"docker.io":{"tagTTL":"5m"}}',
      'config.cache={"maxSize":"many"}',
      'config.listen=":80"',
      'config.cache={"dir":"/elsewhere"}',
    ]) {
      await expect(template(wrong), wrong).rejects.toThrow(/config/);
    }
  });

  test('a Redis of your own takes the place of the chart’s', async () => {
    const manifests = await template('redis.enabled=false', 'redis.url="rediss://redis.example:6380"');
    expect(ofKind(manifests, 'Deployment')).toEqual([]);
    const [map] = ofKind(manifests, 'ConfigMap').filter(({ data }) => data?.['millpond.yaml']);
    expect(parse(map?.data?.['millpond.yaml'] ?? '')).toMatchObject({ redis: { url: 'rediss://redis.example:6380' } });
    expect(map?.data?.['millpond.yaml']).not.toContain('passwordFile');
    await expect(template('redis.enabled=false')).rejects.toThrow(/redis\.url is needed/);
  });

  test('nodes are pointed at the mirror, told to forget it, or left alone', async () => {
    const initContainers = async (hosts: string) => {
      const [daemonSet] = ofKind(await template(`containerd.hosts="${hosts}"`, 'daemonSet.hostPort=5050'), 'DaemonSet');
      return podSpec(daemonSet!).initContainers?.map(({ args = [] }) => args);
    };
    expect(await initContainers('install')).toEqual([[], ['install', '/certs.d', 'http://127.0.0.1:5050']]);
    expect((await initContainers('remove'))?.[1]?.slice(0, 2)).toEqual(['remove', '/certs.d']);
    expect(await initContainers('none')).toEqual([[]]);
  });

  describe('with a certificate', () => {
    const tls = [
      'config.tls={"certFile":"/run/tls/tls.crt","keyFile":"/run/tls/tls.key"}',
      'extraVolumes=[{"name":"tls","secret":{"secretName":"pond-millpond-cluster"}}]',
      'extraVolumeMounts=[{"name":"tls","mountPath":"/run/tls"}]',
    ];
    checkManifests(() => template(...tls, 'deployment.enabled=true'), { scheme: 'https' });

    test('containerd is pointed at https, with the certificates that it is to trust', async () => {
      const pem = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';
      const manifests = await template(...tls, `containerd.ca=${JSON.stringify(pem)}`);
      const [daemonSet] = ofKind(manifests, 'DaemonSet');
      const hosts = podSpec(daemonSet!).initContainers?.find(({ name }) => name === 'containerd-hosts');
      expect(hosts?.args).toEqual(['install', '/certs.d', 'https://127.0.0.1:5000']);
      expect(hosts?.env).toContainEqual({ name: 'CA_FILE', value: '/scripts/ca.pem' });
      const map = ofKind(manifests, 'ConfigMap').find(({ metadata }) => metadata?.name?.endsWith('-containerd'));
      expect(map?.data?.['ca.pem']).toBe(pem);
    });

    test('a mirror that asks for client certificates is probed by a connection alone', async () => {
      const asking = 'config.tls={"certFile":"/a","keyFile":"/b","clientCaFile":"/c"}';
      await expect(template(asking)).rejects.toThrow(/set containerd\.hosts to none/);
      for (const workload of mirrors(await template(asking, 'containerd.hosts="none"', 'deployment.enabled=true'))) {
        const { startupProbe, livenessProbe, readinessProbe } = mirrorOf(workload);
        for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
          expect(probe).toMatchObject({ tcpSocket: { port: 'http' } });
          expect(probe).not.toHaveProperty('httpGet');
        }
      }
    });
  });

  test('the mirrors of other nodes are the second host where the nodes have a port for them', async () => {
    await expect(template('nodeService.nodePort=30500')).rejects.toThrow(/nodeService\.nodes is needed/);
    const manifests = await template('nodeService.nodePort=30500', 'nodeService.nodes=["10.0.0.0/16"]');
    const [daemonSet] = ofKind(manifests, 'DaemonSet');
    const hosts = podSpec(daemonSet!).initContainers?.find(({ name }) => name === 'containerd-hosts');
    expect(hosts?.args?.slice(2)).toEqual(['http://127.0.0.1:5000', 'http://$(HOST_IP):30500']);
    expect(hosts?.env?.map(({ name }) => name)).toContain('HOST_IP');
    const [service] = ofKind(manifests, 'Service').filter(({ spec }) => spec?.type === 'NodePort');
    expect(service?.spec?.ports).toEqual([{ name: 'http', port: 5000, targetPort: 'http', nodePort: 30500 }]);
    const [policy] = ofKind(manifests, 'NetworkPolicy');
    expect(policy?.spec?.ingress?.[0]?.from).toContainEqual({ ipBlock: { cidr: '10.0.0.0/16' } });
  });

  test('a volume of one kind takes the place of the default for the cache', async () => {
    const cacheOf = async (...settings: readonly string[]) => {
      const [deployment] = mirrors(await template('deployment.enabled=true', 'daemonSet.enabled=false', ...settings));
      return podSpec(deployment!).volumes?.find(({ name }) => name === 'cache');
    };
    expect(await cacheOf()).toEqual({ name: 'cache', emptyDir: { sizeLimit: '60Gi' } });
    const claim = { volumeClaimTemplate: { spec: { accessModes: ['ReadWriteOnce'] } } };
    expect(await cacheOf(`deployment.cacheVolume=${JSON.stringify({ ephemeral: claim })}`)).toEqual({
      name: 'cache',
      ephemeral: claim,
    });
  });

  test('an image by digest goes before its tag', async () => {
    const digest = `sha256:${'a'.repeat(64)}`;
    const [workload] = mirrors(await template(`image.digest="${digest}"`, 'image.tag="latest"'));
    expect(mirrorOf(workload!).image).toBe(`registry.example/millpond@${digest}`);
  });

  test('the Secret of somebody else is taken as it is', async () => {
    const manifests = await template('cluster.existingSecret="mine"');
    expect(ofKind(manifests, 'Secret')).toEqual([]);
    for (const workload of mirrors(manifests)) {
      const secrets = podSpec(workload).volumes?.flatMap(({ secret }) => secret?.secretName ?? []);
      expect(secrets).toEqual(['mine']);
    }
  });
});
