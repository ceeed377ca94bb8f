import {
  bareMediaType,
  dockerManifest,
  dockerManifestList,
  dockerSchema1,
  dockerSchema1Signed,
  ociArtifactManifest,
  ociIndex,
  ociManifest,
} from './media-types.ts';

/** The members that name content, of manifests of each type. A registry that takes one looks at no others. */
const membersByType: ReadonlyMap<string, readonly string[]> = new Map([
  [ociManifest, ['config', 'layers']],
  [dockerManifest, ['config', 'layers']],
  [ociIndex, ['manifests']],
  [dockerManifestList, ['manifests']],
  [ociArtifactManifest, ['blobs']],
  [dockerSchema1, ['fsLayers']],
  [dockerSchema1Signed, ['fsLayers']],
]);

const contentMembers: ReadonlySet<string> = new Set([...membersByType.values()].flat());

/** Every name that is read of a manifest or a descriptor, by the name in lower case. */
const readNames: ReadonlyMap<string, string> = new Map(
  ['schemaVersion', 'mediaType', 'subject', 'artifactType', 'annotations', 'digest', 'size', 'blobSum']
    .concat(...contentMembers)
    .map((name) => [folded(name), name]),
);

const exactNames: ReadonlySet<string> = new Set(readNames.values());

/**
 * Leaves out the members of a manifest that its type does not have: a registry takes `blobs` of an image, or `layers` of an
 * index, for nothing, and lets them name what it does not have.
 * @param types the types that a manifest says it has, in its body and beside it; all members stay of one of another type
 */
export function withoutForeignMembers(
  body: Readonly<Record<string, unknown>>,
  types: readonly string[],
): Readonly<Record<string, unknown>> {
  const expected = types
    .map((type) => membersByType.get(bareMediaType(type)))
    .filter((members) => members !== undefined);
  const isExpected = (name: string): boolean => expected.every((members) => members.includes(name));
  return Object.fromEntries(Object.entries(body).filter(([name]) => !contentMembers.has(name) || isExpected(name)));
}

/**
 * Whether a name in a manifest differs from one that is read in its case alone. Registries and clients in Go read it all the
 * same, in place of the right one if it comes later.
 */
export function hasNamesInOtherCase(body: Readonly<Record<string, unknown>>): boolean {
  const inOtherCase = (object: unknown): boolean => {
    if (typeof object !== 'object' || object === null) return false;
    return Object.keys(object).some((name) => !exactNames.has(name) && readNames.has(folded(name)));
  };
  if (inOtherCase(body)) return true;
  if (inOtherCase(body['config']) || inOtherCase(body['subject'])) return true;
  return ['layers', 'manifests', 'blobs', 'fsLayers'].some((member) => {
    const entries = body[member];
    return Array.isArray(entries) && entries.some(inOtherCase);
  });
}

/** Whether a reader may take a name for that of a list of content. */
export function isNameOfList(name: string): boolean {
  const known = readNames.get(folded(name)) ?? '';
  return known !== 'config' && contentMembers.has(known);
}

/** Upper case first: two letters of Unicode have a Latin one only as their upper case, or only as their lower case. */
function folded(name: string): string {
  return name.toUpperCase().toLowerCase();
}
