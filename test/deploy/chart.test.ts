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
    const used = [...(await templates()).matchAll(/\.Values\.([A-Za-z.]+)/g)].map(([, name = '']) => name);
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
        'deployment.cacheVolume={"emptyDir":null,"ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"60Gi"}}}}}}',
        'seLinuxOptions={"type":"spc_t"}',
        'deployment.priorityClassName="high"',
        'service.type="NodePort"',
        'networkPolicy.extraEgress=[{"ports":[{"port":3128}]}]',
        'config.upstreams={"docker.io":{"auth":{"username":"me","passwordFile":"/run/hub/password"}}}',
        'extraVolumes=[{"name":"hub","secret":{"secretName":"pond-millpond-cluster"}}]',
        'extraVolumeMounts=[{"name":"hub","mountPath":"/run/hub"}]',
        'extraEnv=[{"name":"HTTPS_PROXY","value":"http://proxy.example:3128"}]',
      ),
    );
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
