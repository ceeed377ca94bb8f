import { RegistryError } from '../oci/error.ts';
import { isRepository, looksLikeHost } from '../oci/reference.ts';
import { type NamedReference, parseReferenceName } from './reference-name.ts';
import { canonicalName, dockerHub, type UpstreamTable } from './table.ts';
import type { Upstream } from './upstream.ts';

/** The parts of a request that can select an upstream. */
export interface SelectionInput {
  /** The name in the path as the client wrote it, with or without an upstream's name in front; none for `/v2/`. */
  readonly name: string | undefined;
  /** Every value of `?ns=`. */
  readonly nsValues: readonly string[];
  /** Every value of the header `OCI-REF-NAME` and of `?oci-ref-name=`. */
  readonly refNameValues: readonly string[];
  /** The `Host` header. */
  readonly host: string | undefined;
}

/** The selected upstream, and what selected it. */
export interface Selection {
  readonly upstream: Upstream;
  /** The upstream's own name of the repository, `library/` included. */
  readonly repository: string;
  readonly namedBy: 'ref-name' | 'ns' | 'host' | 'path' | 'default';
  /** `ns` as it was sent, for `OCI-Namespace`. */
  readonly namespace: string | undefined;
  /** The first part of the path's name, if it was the upstream's name; `''` otherwise. */
  readonly prefix: string;
}

/** The selection of a request that names no repository. */
export type RootSelection = Omit<Selection, 'repository'>;

/**
 * Selects the upstream of a request: by reference name, `ns`, `Host`, the first part of the path, or the default,
 * whichever is present first (distribution-spec, "Registry Proxying"). The result is always an entry of the table.
 * @throws RegistryError NAME_INVALID (400) for contradictions and malformed names, NAME_UNKNOWN (404) for a name that is
 *   not in the table, DENIED (403) for a repository that the operator does not allow
 */
export function selectUpstream(table: UpstreamTable, input: SelectionInput & { readonly name: string }): Selection;
export function selectUpstream(table: UpstreamTable, input: SelectionInput): Selection | RootSelection;
export function selectUpstream(table: UpstreamTable, input: SelectionInput): Selection | RootSelection {
  const selection = selectAny(table, input);
  if (!('repository' in selection)) return selection;
  const { upstream, repository } = selection;
  if (!upstream.allows(repository)) {
    throw new RegistryError('not-allowed', `upstreams.${upstream.name}.repositories does not allow ${repository}`, {
      detail: { upstream: upstream.name, repository },
    });
  }
  return selection;
}

/** As {@link selectUpstream}, also for a repository that the operator does not allow. @throws RegistryError */
export function selectAny(table: UpstreamTable, input: SelectionInput & { readonly name: string }): Selection;
export function selectAny(table: UpstreamTable, input: SelectionInput): Selection | RootSelection;
export function selectAny(table: UpstreamTable, input: SelectionInput): Selection | RootSelection {
  const references = input.refNameValues.map((text) =>
    parseReferenceName(text, (name) => table.find(name) !== undefined),
  );
  const choice = chooseUpstream(table, { ...input, references });
  const namespace = input.nsValues[0];
  const { upstream, namedBy } = choice;
  if (input.name === undefined) return { upstream, namedBy, namespace, prefix: '' };
  const { repository, prefix } = locate(table, { ...choice, name: input.name, references });
  if (!isRepository(repository)) {
    throw new RegistryError('bad-name', 'not a repository name by the grammar of the distribution-spec', {
      detail: { name: shown(input.name) },
    });
  }
  return { upstream, repository, namedBy, namespace, prefix };
}

interface Choice {
  readonly upstream: Upstream;
  readonly namedBy: Selection['namedBy'];
}

/** A name of an upstream in a request. */
interface Naming {
  readonly kind: 'ref-name' | 'ns';
  readonly registry: string;
  readonly label: string;
}

function chooseUpstream(
  table: UpstreamTable,
  { name, nsValues, host, references }: SelectionInput & { readonly references: readonly NamedReference[] },
): Choice {
  const namings: Naming[] = [
    ...references.map(({ registry, text }) => ({
      kind: 'ref-name' as const,
      registry,
      label: `reference name "${shown(text)}"`,
    })),
    ...nsValues.map((text) => ({ kind: 'ns' as const, registry: text, label: `ns "${shown(text)}"` })),
  ];
  const explicit = agreedNaming(table, namings);
  if (explicit !== undefined) {
    const upstream = table.find(explicit.registry);
    if (upstream === undefined) throw unknownName(explicit.registry);
    return { upstream, namedBy: explicit.kind };
  }
  const byHost = host === undefined ? undefined : table.findByHost(host);
  if (byHost !== undefined) return { upstream: byHost, namedBy: 'host' };
  const first = name === undefined ? undefined : firstPart(name);
  const byPath = first === undefined ? undefined : table.find(first);
  if (byPath !== undefined) return { upstream: byPath, namedBy: 'path' };
  const upstream = table.default;
  if (upstream === undefined) {
    throw new RegistryError('unknown-upstream', 'the request names no configured upstream, and there is no default');
  }
  // Otherwise a mistyped or foreign registry would be looked up as a repository of Docker Hub.
  if (first !== undefined && isDockerHub(upstream) && looksLikeHost(canonicalName(first))) throw unknownName(first);
  return { upstream, namedBy: 'default' };
}

/** The first of the explicit names, if all of them agree. */
function agreedNaming(table: UpstreamTable, namings: readonly Naming[]): Naming | undefined {
  for (const { kind, registry } of namings) {
    if (kind === 'ns' && registry.trim() === '') throw new RegistryError('bad-name', 'the parameter ns is empty');
  }
  const [first, ...others] = namings;
  for (const other of others) {
    if (meaning(table, other.registry) !== meaning(table, first?.registry ?? ''))
      throw contradiction(first?.label, other.label);
  }
  return first;
}

function meaning(table: UpstreamTable, registry: string): Upstream | string {
  return table.find(registry) ?? canonicalName(registry);
}

/** The repository at the selected upstream, and the part of the path that was the upstream's name. */
function locate(
  table: UpstreamTable,
  {
    upstream,
    namedBy,
    name,
    references,
  }: Choice & { readonly name: string; readonly references: readonly NamedReference[] },
): { repository: string; prefix: string } {
  const first = firstPart(name);
  const rest = name.slice(first.length + 1);
  const stripped =
    table.find(first) === upstream && rest !== '' ? { repository: official(upstream, rest), prefix: first } : undefined;
  const whole = { repository: official(upstream, name), prefix: '' };
  const named = namedRepository(upstream, references);
  if (named === undefined) {
    if (namedBy === 'path' && stripped === undefined) {
      throw new RegistryError('bad-name', `the path names the upstream ${upstream.name} but no repository`);
    }
    return stripped ?? whole;
  }
  if (stripped?.repository === named.repository) return stripped;
  if (whole.repository === named.repository) return whole;
  throw contradiction(`reference name "${shown(named.text)}"`, `path "${shown(name)}"`);
}

/** The repository that the reference names agree on; `undefined` if they name only an upstream. */
function namedRepository(
  upstream: Upstream,
  references: readonly NamedReference[],
): { repository: string; text: string } | undefined {
  let agreed: { repository: string; text: string } | undefined;
  for (const { repository, text } of references) {
    if (repository === undefined) continue;
    const named = { repository: official(upstream, repository), text };
    if (agreed !== undefined && agreed.repository !== named.repository) {
      throw contradiction(`reference name "${shown(agreed.text)}"`, `reference name "${shown(text)}"`);
    }
    agreed = named;
  }
  return agreed;
}

/** Official images of Docker Hub are under `library/`, which their names omit. No other upstream gets a prefix. */
function official(upstream: Upstream, repository: string): string {
  return isDockerHub(upstream) && !repository.includes('/') ? `library/${repository}` : repository;
}

function isDockerHub(upstream: Upstream): boolean {
  return [upstream.name, ...upstream.aliases].some((name) => canonicalName(name) === dockerHub);
}

function firstPart(name: string): string {
  const [first = ''] = name.split('/', 1);
  return first;
}

function unknownName(registry: string): RegistryError {
  return new RegistryError(
    'unknown-upstream',
    `"${shown(registry)}" is not a configured upstream of this mirror, and names that are not configured are never contacted`,
    { detail: { name: shown(registry) } },
  );
}

function contradiction(one: string | undefined, other: string): RegistryError {
  return new RegistryError('bad-name', `the ${one} and the ${other} contradict each other`);
}

function shown(text: string): string {
  return text.slice(0, 300);
}
