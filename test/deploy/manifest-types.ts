import { execFile } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { DaemonSet } from 'kubernetes-models/apps/v1/DaemonSet';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap';
import { Namespace } from 'kubernetes-models/v1/Namespace';
import { Secret } from 'kubernetes-models/v1/Secret';
import { Service } from 'kubernetes-models/v1/Service';
import { ServiceAccount } from 'kubernetes-models/v1/ServiceAccount';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { type Kinds, type Manifest, titleOf } from './manifests.ts';

const packages = fileURLToPath(new URL('../../node_modules', import.meta.url));

const models = {
  ConfigMap,
  DaemonSet,
  Deployment,
  Namespace,
  NetworkPolicy,
  PodDisruptionBudget,
  Secret,
  Service,
  ServiceAccount,
} satisfies Record<keyof Kinds, unknown>;

const modules: Readonly<Record<keyof Kinds, string>> = {
  ConfigMap: 'v1/ConfigMap',
  DaemonSet: 'apps/v1/DaemonSet',
  Deployment: 'apps/v1/Deployment',
  Namespace: 'v1/Namespace',
  NetworkPolicy: 'networking.k8s.io/v1/NetworkPolicy',
  PodDisruptionBudget: 'policy/v1/PodDisruptionBudget',
  Secret: 'v1/Secret',
  Service: 'v1/Service',
  ServiceAccount: 'v1/ServiceAccount',
};

/** What the models refuse: a wrong kind, a missing key, a value of another type or form. */
export function invalidManifests(manifests: readonly Manifest[]): string[] {
  return manifests.flatMap((manifest) => {
    const Model = models[manifest.kind] as (new (data: Manifest) => { validate(): void }) | undefined;
    if (Model === undefined) return [`${titleOf(manifest)}: a kind that is not looked at`];
    try {
      new Model(manifest).validate();
      return [];
    } catch (error) {
      return [`${titleOf(manifest)}: ${(error as Error).message}`];
    }
  });
}

/**
 * What the compiler says when the manifests are written as literals of their types. Unlike the models it finds keys that
 * Kubernetes does not know, which an API server would drop without a word.
 */
export async function mistypedManifests(manifests: readonly Manifest[]): Promise<string> {
  await using folder = await temporaryDirectory('manifests');
  await symlink(packages, join(folder.path, 'node_modules'));
  const kinds = [...new Set(manifests.map(({ kind }) => kind))];
  const lines = [
    ...kinds.map((kind) => `import type { I${kind} } from 'kubernetes-models/${modules[kind]}';`),
    ...manifests.map((manifest, index) => {
      const literal = JSON.stringify(manifest, undefined, 1);
      return `export const manifest${index}: I${manifest.kind} = ${literal};`;
    }),
  ];
  await writeFile(join(folder.path, 'package.json'), '{"type":"module"}');
  await writeFile(join(folder.path, 'manifests.ts'), lines.join('\n'));
  const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--types', ''];
  const tsc = join(packages, 'typescript', 'bin', 'tsc');
  try {
    await promisify(execFile)(process.execPath, [tsc, ...flags, 'manifests.ts'], { cwd: folder.path });
    return '';
  } catch (error) {
    return (error as { stdout?: string }).stdout || String(error);
  }
}
