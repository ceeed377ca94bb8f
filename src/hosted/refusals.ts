import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';

/** @param reference a tag or a digest */
export function noManifest(repository: string, reference: string): RegistryError {
  return new RegistryError('not-found', `${repository} has no manifest ${reference}`, { code: 'MANIFEST_UNKNOWN' });
}

export function noBlob(repository: string): RegistryError {
  return new RegistryError('not-found', `${repository} has no such blob`, { code: 'BLOB_UNKNOWN' });
}

export function missingPart(repository: string, digest: Digest): RegistryError {
  const sentence = `${repository} does not have ${digest}, which the manifest names: push it first`;
  return new RegistryError('missing-part', sentence, { detail: { digest } });
}

export function immutableTag(tag: string): RegistryError {
  const sentence = `the tag ${tag} is immutable here: push under another tag`;
  return new RegistryError('tag-immutable', sentence, { detail: { tag } });
}

/** @param received bytes that the upload has */
export function outOfOrder(range: { readonly start: number }, received: number): RegistryError {
  const sentence = `the chunk begins at ${range.start}; the next byte here is ${received}`;
  return new RegistryError('out-of-order', sentence, { detail: { received } });
}
