/** Media types of manifests, from the image-spec ("Media Types") and Docker's manifest v2 documents. */
export const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
export const ociIndex = 'application/vnd.oci.image.index.v1+json';
export const dockerManifest = 'application/vnd.docker.distribution.manifest.v2+json';
export const dockerManifestList = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const dockerSchema1 = 'application/vnd.docker.distribution.manifest.v1+json';
export const dockerSchema1Signed = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
export const ociArtifactManifest = 'application/vnd.oci.artifact.manifest.v1+json';

/** The config of an image that runs as a container. */
export const imageConfigTypes: readonly string[] = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];

export const octetStream = 'application/octet-stream';

/**
 * The types that the mirror asks an upstream for, whatever the client asks: registries match exact types, and a narrow list makes
 * some of them convert or deny (docker-registry 2.8 answers 404 for an OCI index if its type is not in `Accept`).
 */
export const manifestAccept: readonly string[] = [
  ociIndex,
  ociManifest,
  dockerManifestList,
  dockerManifest,
  ociArtifactManifest,
];

/** Every media type that a tag may resolve to. */
export const manifestMediaTypes: readonly string[] = [...manifestAccept, dockerSchema1Signed, dockerSchema1];

/** A `Content-Type` without parameters, in lower case. */
export function bareMediaType(contentType: string): string {
  return (contentType.split(';', 1)[0] ?? '').trim().toLowerCase();
}

/** Types that registries and proxies give to what they do not know. */
const genericTypes: readonly string[] = [
  'application/json',
  'application/x-www-form-urlencoded',
  octetStream,
  'binary/octet-stream',
  'text/html',
  'text/json',
  'text/plain',
];

/**
 * The `Content-Type` of a manifest, or the empty text where it says nothing: a type such as `application/json` is no
 * manifest's, and clients refuse it; `null` is no type at all.
 */
export function toldType(contentType: string): string {
  const bare = bareMediaType(contentType);
  return genericTypes.includes(bare) || !/^[^\s/]+\/[^\s/]+$/.test(bare) ? '' : contentType;
}
