import { bareMediaType, dockerManifestList, imageConfigTypes, ociIndex } from './media-types.ts';

/** A kind of content by the short name that people use for it. */
export interface ArtifactType {
  /** `helm` */
  readonly name: string;
  readonly displayName: string;
  readonly description: string;
  /** The tool that makes or reads it. */
  readonly tool: string;
  /** Types of artifacts, configs or layers that tell it, in lower case; one that ends with `*` stands for all that begin so. */
  readonly mediaTypes: readonly string[];
}

/** The parts of a manifest that tell its kind. */
export interface TypeEvidence {
  /** Of the manifest itself. */
  readonly mediaType: string;
  readonly artifactType: string | undefined;
  readonly configType: string | undefined;
  readonly layerTypes: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
}

const vnd = 'application/vnd.';

/** The first that matches counts, so what is special comes before what is general. */
export const artifactTypes: readonly ArtifactType[] = [
  {
    name: 'signature',
    displayName: 'Signature',
    description: 'a signature of an image or another artifact',
    tool: 'cosign, notation',
    mediaTypes: [
      `${vnd}dev.cosign.simplesigning.v1+json`,
      `${vnd}dev.cosign.artifact.sig.*`,
      `${vnd}dev.sigstore.bundle*`,
      `${vnd}cncf.notary.signature`,
      `${vnd}cncf.notary.v2.signature`,
      'application/jose+json',
      'application/cose',
    ],
  },
  {
    name: 'sbom',
    displayName: 'SBOM',
    description: 'a list of the software in an image',
    tool: 'syft, trivy, cosign',
    mediaTypes: ['application/spdx*', 'text/spdx*', `${vnd}cyclonedx*`, `${vnd}syft+json`],
  },
  {
    name: 'attestation',
    displayName: 'Attestation',
    description: 'a signed or unsigned statement about an image, such as its provenance',
    tool: 'cosign, BuildKit, in-toto',
    mediaTypes: [`${vnd}dsse.envelope.v1+json`, `${vnd}in-toto+json`, `${vnd}docker.attestation.manifest.v1+json`],
  },
  {
    name: 'helm',
    displayName: 'Helm chart',
    description: 'a package for Kubernetes',
    tool: 'helm',
    mediaTypes: [`${vnd}cncf.helm.*`],
  },
  {
    name: 'cnab',
    displayName: 'CNAB bundle',
    description: 'a cloud native application bundle',
    tool: 'porter, duffle, docker app',
    mediaTypes: [`${vnd}cnab.*`],
  },
  {
    name: 'wasm',
    displayName: 'WebAssembly',
    description: 'a WebAssembly module or component',
    tool: 'wasm-to-oci, wash, spin',
    mediaTypes: [
      'application/wasm',
      `${vnd}wasm.*`,
      `${vnd}module.wasm.*`,
      `${vnd}wasmcloud.*`,
      `${vnd}fermyon.spin.*`,
    ],
  },
  {
    name: 'opa',
    displayName: 'OPA policy',
    description: 'a bundle of policies in Rego',
    tool: 'conftest, opa',
    mediaTypes: [`${vnd}cncf.openpolicyagent.*`],
  },
  {
    name: 'singularity',
    displayName: 'Singularity image',
    description: 'a SIF image for high-performance computing',
    tool: 'singularity, apptainer',
    mediaTypes: [`${vnd}sylabs.sif.*`, 'appliciation/vnd.sylabs.sif.*'],
  },
  {
    name: 'flux',
    displayName: 'Flux source',
    description: 'manifests that Flux applies to a cluster',
    tool: 'flux',
    mediaTypes: [`${vnd}cncf.flux.*`],
  },
  {
    name: 'kyverno',
    displayName: 'Kyverno policy',
    description: 'policies for a cluster',
    tool: 'kyverno',
    mediaTypes: [`${vnd}cncf.kyverno.*`],
  },
  {
    name: 'timoni',
    displayName: 'Timoni module',
    description: 'a package for Kubernetes written in CUE',
    tool: 'timoni',
    mediaTypes: [`${vnd}timoni.*`],
  },
  {
    name: 'model',
    displayName: 'Model',
    description: 'weights and configuration of a machine learning model',
    tool: 'modctl, kit, ollama, docker model',
    mediaTypes: [
      `${vnd}cncf.model.*`,
      `${vnd}cnai.model.*`,
      `${vnd}kitops.*`,
      `${vnd}jozu.model.*`,
      `${vnd}ollama.image.*`,
      `${vnd}docker.ai.*`,
    ],
  },
  {
    name: 'buildcache',
    displayName: 'Build cache',
    description: 'layers that speed up a build',
    tool: 'BuildKit',
    mediaTypes: [`${vnd}buildkit.cacheconfig.*`],
  },
  {
    name: 'opentofu',
    displayName: 'OpenTofu package',
    description: 'a module or a provider',
    tool: 'tofu',
    mediaTypes: [`${vnd}opentofu.*`],
  },
  {
    name: 'compose',
    displayName: 'Compose project',
    description: 'an application of several containers',
    tool: 'docker compose',
    mediaTypes: [`${vnd}docker.compose.*`],
  },
  {
    name: 'devcontainer',
    displayName: 'Dev container',
    description: 'a feature or a template of a development container',
    tool: 'devcontainer',
    mediaTypes: [`${vnd}devcontainers*`],
  },
  {
    name: 'plugin',
    displayName: 'Docker plugin',
    description: 'a plugin of Docker Engine',
    tool: 'docker plugin',
    mediaTypes: [`${vnd}docker.plugin.*`],
  },
  {
    name: 'image',
    displayName: 'Image',
    description: 'a container image of one platform',
    tool: 'docker, podman, containerd',
    mediaTypes: imageConfigTypes,
  },
  {
    name: 'index',
    displayName: 'Image index',
    description: 'an image of several platforms, or another list of manifests',
    tool: 'docker buildx, podman manifest',
    mediaTypes: [ociIndex, dockerManifestList],
  },
  {
    name: 'artifact',
    displayName: 'Other artifact',
    description: 'content of a type that is not in this table',
    tool: 'oras',
    mediaTypes: [],
  },
];

/** Tekton and Homebrew say what they are in annotations alone. */
const annotated: readonly (readonly [prefix: string, name: string])[] = [
  ['org.openpolicyagent.', 'opa'],
  ['vnd.docker.reference.type', 'attestation'],
];

/**
 * The short name for the content of a manifest: by its artifact type, else by its config, else by its layers and
 * annotations. A config or an artifact type that is not in the table makes it an `artifact`.
 */
export function artifactTypeOf(evidence: TypeEvidence): string {
  const { mediaType, artifactType, configType, layerTypes, annotations } = evidence;
  const declared = [artifactType, configType].map(nameOf).find((name) => name !== undefined && name !== 'image');
  if (declared !== undefined) return declared;
  // Signatures and policies have been stored under the config of an image.
  const layers = layerTypes.map(nameOf);
  const byLayer = layers.length > 0 && layers.every((name) => name === layers[0]) ? layers[0] : undefined;
  if (byLayer !== undefined) return byLayer;
  const keys = Object.keys(annotations);
  const byAnnotation = annotated.find(([prefix]) => keys.some((key) => key.startsWith(prefix)));
  if (byAnnotation !== undefined) return byAnnotation[1];
  if (artifactType !== undefined && nameOf(artifactType) === undefined) return 'artifact';
  const byManifest = nameOf(mediaType);
  if (byManifest === 'index') return 'index';
  return configType === undefined || nameOf(configType) === 'image' ? 'image' : 'artifact';
}

/** Whether a text is a short name of the table. */
export function isArtifactTypeName(text: string): boolean {
  return artifactTypes.some(({ name }) => name === text);
}

function nameOf(mediaType: string | undefined): string | undefined {
  if (mediaType === undefined) return undefined;
  const bare = bareMediaType(mediaType);
  const fits = (pattern: string) => (pattern.endsWith('*') ? bare.startsWith(pattern.slice(0, -1)) : bare === pattern);
  return artifactTypes.find(({ mediaTypes }) => mediaTypes.some(fits))?.name;
}
