import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { IDaemonSet } from 'kubernetes-models/apps/v1/DaemonSet';
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment';
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import type { IConfigMap } from 'kubernetes-models/v1/ConfigMap';
import type { INamespace } from 'kubernetes-models/v1/Namespace';
import type { ISecret } from 'kubernetes-models/v1/Secret';
import type { IService } from 'kubernetes-models/v1/Service';
import type { IServiceAccount } from 'kubernetes-models/v1/ServiceAccount';
import { parseAllDocuments } from 'yaml';

/** The kinds that are used, with what each looks like. */
export interface Kinds {
  readonly ConfigMap: IConfigMap;
  readonly DaemonSet: IDaemonSet;
  readonly Deployment: IDeployment;
  readonly Namespace: INamespace;
  readonly NetworkPolicy: INetworkPolicy;
  readonly PodDisruptionBudget: IPodDisruptionBudget;
  readonly Secret: ISecret;
  readonly Service: IService;
  readonly ServiceAccount: IServiceAccount;
}

export type Manifest = { readonly [Kind in keyof Kinds]: Kinds[Kind] & { readonly kind: Kind } }[keyof Kinds];
export type Workload = Extract<Manifest, { kind: 'DaemonSet' | 'Deployment' }>;
export type PodTemplate = NonNullable<NonNullable<Workload['spec']>['template']>;
export type PodSpec = NonNullable<PodTemplate['spec']>;
export type Container = PodSpec['containers'][number];

/** The documents of a YAML text. @throws what the parser finds wrong with it */
export function parseManifests(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) => {
    const [problem] = document.errors;
    if (problem !== undefined) throw problem;
    const data: unknown = document.toJS();
    return data === null ? [] : [data as Manifest];
  });
}

export interface Kustomization {
  readonly namespace?: string;
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
  readonly configMapGenerator?: readonly { readonly name: string; readonly files: readonly string[] }[];
  readonly patches?: readonly { readonly patch: string }[];
  readonly images?: readonly { readonly name: string; readonly newName: string; readonly newTag: string }[];
}

export async function readKustomization(folder: string): Promise<Kustomization> {
  const [document] = parseAllDocuments(await readFile(join(folder, 'kustomization.yaml'), 'utf8'));
  return document?.toJS() as Kustomization;
}

/** What a kustomization is made of: its resources and generated ConfigMaps, before patches and without hashes in names. */
export async function readFolder(folder: string): Promise<Manifest[]> {
  const { resources = [], components = [], configMapGenerator = [] } = await readKustomization(folder);
  const found: Manifest[] = [];
  for (const resource of [...resources, ...components]) {
    const path = join(folder, resource);
    found.push(...(resource.endsWith('.yaml') ? parseManifests(await readFile(path, 'utf8')) : await readFolder(path)));
  }
  for (const { name, files } of configMapGenerator) {
    const entries = files.map(async (file) => [basename(file), await readFile(join(folder, file), 'utf8')] as const);
    const data = Object.fromEntries(await Promise.all(entries));
    found.push({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data });
  }
  return found;
}

/** Those of one kind. */
export function ofKind<Kind extends keyof Kinds>(
  manifests: readonly Manifest[],
  kind: Kind,
): Extract<Manifest, { kind: Kind }>[] {
  return manifests.filter((manifest): manifest is Extract<Manifest, { kind: Kind }> => manifest.kind === kind);
}

/** DaemonSets and Deployments. */
export function workloads(manifests: readonly Manifest[]): Workload[] {
  return [...ofKind(manifests, 'DaemonSet'), ...ofKind(manifests, 'Deployment')];
}

/** The pods' own part of a workload. */
export function podSpec(workload: Workload): PodSpec {
  const spec = workload.spec?.template.spec;
  if (spec === undefined) throw new Error(`${workload.kind} ${workload.metadata?.name} has no pods`);
  return spec;
}

/** Workloads whose pods run the mirror. */
export function mirrors(manifests: readonly Manifest[]): Workload[] {
  return workloads(manifests).filter((workload) =>
    podSpec(workload).containers.some(({ name }) => name === 'millpond'),
  );
}

/** `Deployment millpond`, for messages. */
export function titleOf({ kind, metadata }: Manifest): string {
  return `${kind} ${metadata?.name}`;
}
