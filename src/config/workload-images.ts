import { RegistryError } from '../oci/error.ts';
import { parseReference } from '../oci/reference.ts';
import { readYamlStream } from './document.ts';
import { ConfigError } from './problems.ts';

/**
 * The images that Kubernetes manifests name, each once, in the order in which they come: every text under a key `image`
 * that can be the name of one, whatever kind of object it is in, and every mapping there that has a `repository`, or as
 * an image volume a `reference`. A name without a registry is one of docker.io, as it is for Kubernetes.
 * @param text YAML documents, as `helm template` or `kustomize build` write them
 * @param file its name, for messages
 * @throws ConfigError where it is not YAML
 */
export function workloadImages(text: string, file: string): string[] {
  const { documents, problems } = readYamlStream(text, { textKeys: new Set(['tag']) });
  if (problems.length > 0) {
    throw new ConfigError(problems.map(({ line, message }) => `${file}:${line}: ${message}`));
  }
  const found = new Set<string>();
  const seen = new Set<object>();
  const rest: unknown[] = documents.toReversed();
  while (rest.length > 0) {
    const node = rest.pop();
    // With aliases a document may hold itself.
    if (typeof node !== 'object' || node === null || seen.has(node)) continue;
    seen.add(node);
    if (!Array.isArray(node) && 'image' in node) {
      const image = fullName(nameOf(node.image));
      if (image !== undefined) found.add(image);
    }
    for (const value of Object.values(node).toReversed()) rest.push(value);
  }
  return [...found];
}

/** The name itself, that of an image volume, or put together from the parts that charts and many custom resources keep apart. */
function nameOf(image: unknown): string | undefined {
  if (typeof image === 'string') return image;
  if (typeof image !== 'object' || image === null) return undefined;
  const { registry, repository, tag, digest, reference } = image as Record<string, unknown>;
  if (typeof reference === 'string') return reference;
  if (typeof repository !== 'string') return undefined;
  const host = typeof registry === 'string' && registry !== '' ? `${registry}/` : '';
  const version = typeof tag === 'string' && tag !== '' ? `:${tag}` : '';
  return `${host}${repository}${version}${typeof digest === 'string' && digest !== '' ? `@${digest}` : ''}`;
}

function fullName(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  try {
    const { registry } = parseReference(name);
    return registry === undefined ? `docker.io/${name}` : name;
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}
