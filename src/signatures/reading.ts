import { type Descriptor, manifestLimits, readDescriptor } from '../oci/descriptor.ts';
import { parseJson, parseWithNames } from '../oci/json.ts';

type Fields = Readonly<Record<string, unknown>>;

/** A descriptor with what signatures need of it. */
export interface SignedDescriptor extends Descriptor {
  readonly artifactType: string | undefined;
  readonly annotations: Fields;
}

/** The members of a manifest; an empty object for what is none. */
export function fieldsOf(bytes: Uint8Array): Fields {
  try {
    return asFields(parseJson(bytes, manifestLimits));
  } catch {
    return {};
  }
}

/** The descriptors in a list of a manifest. */
export function descriptorsOf(value: unknown): SignedDescriptor[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((one: unknown) => {
    const descriptor = readDescriptor(one);
    if (descriptor === undefined) return [];
    const { artifactType, annotations } = asFields(one);
    const type = typeof artifactType === 'string' ? artifactType : undefined;
    return [{ ...descriptor, artifactType: type, annotations: asFields(annotations) }];
  });
}

/** An object's members; none for anything else. */
export function asFields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

/** Media types of signatures, attestations and lists of parts: what clients verify images with, and cannot run. */
const materialTypes: ReadonlySet<string> = new Set([
  'application/vnd.dev.cosign.simplesigning.v1+json',
  'application/vnd.dsse.envelope.v1+json',
  'application/vnd.in-toto+json',
  'application/jose+json',
  'application/cose',
  'application/spdx+json',
  'text/spdx',
  'text/spdx+json',
  'text/spdx+xml',
  'application/vnd.cyclonedx',
  'application/vnd.cyclonedx+json',
  'application/vnd.cyclonedx+xml',
  'application/vnd.syft+json',
]);

/** Whether a media type is that of a Sigstore bundle, of any version. */
export function isBundleType(type: string | undefined): boolean {
  return /^application\/vnd\.dev\.sigstore\.bundle(?:\.v[0-9.]{1,9})?\+json(?:;version=[0-9.]{1,9})?$/.test(type ?? '');
}

/** Members of a manifest that decide what it is, and of a descriptor. */
const manifestMembers: ReadonlySet<string> = new Set([
  'schemaVersion',
  'mediaType',
  'artifactType',
  'config',
  'layers',
  'manifests',
  'subject',
  'annotations',
]);
const descriptorMembers: ReadonlySet<string> = new Set([
  'mediaType',
  'artifactType',
  'digest',
  'size',
  'urls',
  'data',
  'annotations',
  'platform',
]);

/**
 * Whether a manifest is what images are verified with, rather than an image: it needs no signature of its own. An index of
 * such manifests gives its parts no rights.
 */
export function isMaterial(bytes: Uint8Array): boolean {
  const fields = fieldsOf(bytes);
  if (!isUnambiguous(fields, bytes)) return false;
  const { config, layers, manifests, subject } = fields;
  if (manifests !== undefined) {
    if (config !== undefined || layers !== undefined || subject !== undefined || !Array.isArray(manifests))
      return false;
    const parts = descriptorsOf(manifests);
    return parts.length === manifests.length && parts.every(({ artifactType }) => artifactType !== undefined);
  }
  if (!Array.isArray(layers)) return false;
  const parts = descriptorsOf(layers);
  if (parts.length === 0 || parts.length !== layers.length) return false;
  return parts.every(({ mediaType }) => materialTypes.has(mediaType) || isBundleType(mediaType));
}

/**
 * Whether every client reads the same in a manifest. Go takes `Layers` for `layers`, and of a member that is there twice a
 * mixture: without this, an image could show its layers to clients alone.
 */
function isUnambiguous(fields: Fields, bytes: Uint8Array): boolean {
  const { config, layers, manifests, subject } = fields;
  const descriptors = [config, subject, layers, manifests].flat().filter((one) => one !== undefined);
  return (
    Object.keys(fields).every((member) => manifestMembers.has(member)) &&
    descriptors.every((one) => Object.keys(asFields(one)).every((member) => descriptorMembers.has(member))) &&
    hasEachNameOnce(bytes)
  );
}

function hasEachNameOnce(bytes: Uint8Array): boolean {
  try {
    return !parseWithNames(bytes, manifestLimits).hasNameTwice;
  } catch {
    return false;
  }
}
