import type { Descriptor } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import type { Material, Waiting } from './material.ts';
import { descriptorsOf, fieldsOf, isBundleType, type SignedDescriptor } from './reading.ts';

/** A signature that was found, not verified. */
export type Evidence =
  /** A payload of cosign's "simple signing", with what its descriptor says (cosign, SIGNATURE_SPEC). */
  | {
      readonly kind: 'simple-signing';
      readonly payload: Buffer;
      readonly annotations: Readonly<Record<string, unknown>>;
    }
  /** A Sigstore bundle (cosign, BUNDLE_SPEC). */
  | { readonly kind: 'bundle'; readonly text: Buffer };

export type FoundBy = 'tag' | 'referrer';

/** Most signatures of an image that are looked at: lists of them can be endless. */
const maxSignatures = 32;
const maxPayloadBytes = 64 * 1024;
const maxBundleBytes = 1024 * 1024;

const simpleSigning = 'application/vnd.dev.cosign.simplesigning.v1+json';
/** The artifact type of a signature that cosign 2 attaches as a referrer. */
const cosignArtifact = 'application/vnd.dev.cosign.artifact.sig.v1+json';

/** The type that cosign 2 writes into the index of registries without the referrers API in place of the type of its bundles. */
const emptyType = 'application/vnd.oci.empty.v1+json';

interface Part {
  readonly by: FoundBy;
  readonly layer: SignedDescriptor;
}

/**
 * The signatures of a manifest, from all the places that cosign writes them to: the tag `sha256-….sig`, and referrers,
 * which include the tag of registries without their API. What cannot be read comes as an error.
 */
export async function* evidenceOf(
  digest: Digest,
  { material, signal }: Waiting & { readonly material: Material },
): AsyncGenerator<{ readonly by: FoundBy; readonly evidence?: Evidence; readonly error?: unknown }> {
  let left = maxSignatures;
  for await (const { by, layer, error } of partsOf(digest, { material, signal })) {
    if (layer === undefined) {
      yield { by, error };
      continue;
    }
    const isBundle = isBundleType(layer.mediaType);
    const maxBytes = isBundle ? maxBundleBytes : maxPayloadBytes;
    if ((!isBundle && layer.mediaType !== simpleSigning) || layer.size > maxBytes) continue;
    if (left === 0) return;
    left -= 1;
    try {
      const bytes = await material.blob(layer.digest, { maxBytes, signal });
      const { annotations } = layer;
      yield {
        by,
        evidence: isBundle ? { kind: 'bundle', text: bytes } : { kind: 'simple-signing', payload: bytes, annotations },
      };
    } catch (failure) {
      yield { by, error: failure };
    }
  }
}

async function* partsOf(
  digest: Digest,
  { material, signal }: Waiting & { readonly material: Material },
): AsyncGenerator<Pick<Part, 'by'> & { readonly layer?: SignedDescriptor; readonly error?: unknown }> {
  const tag = `${digestAlgorithm(digest)}-${digestHex(digest)}.sig`;
  try {
    const manifest = await material.manifest(tag, { signal });
    for (const layer of layersOf(manifest)) yield { by: 'tag', layer };
  } catch (error) {
    yield { by: 'tag', error };
  }
  try {
    const listed = await material.referrers(digest, { signal });
    for (const { digest: referrer } of signaturesIn(listed)) {
      const manifest = await material.manifest(referrer, { signal });
      for (const layer of layersOf(manifest)) yield { by: 'referrer', layer };
    }
  } catch (error) {
    yield { by: 'referrer', error };
  }
}

function layersOf(manifest: Buffer | undefined): SignedDescriptor[] {
  return manifest === undefined ? [] : descriptorsOf(fieldsOf(manifest)['layers']);
}

/** Those that say that they are signatures come first. */
function signaturesIn(index: Buffer): Descriptor[] {
  const entries = descriptorsOf(fieldsOf(index)['manifests']);
  const isTold = ({ artifactType }: SignedDescriptor): boolean =>
    isBundleType(artifactType) || artifactType === cosignArtifact;
  const isOpen = ({ artifactType = emptyType }: SignedDescriptor): boolean => artifactType === emptyType;
  return [...entries.filter(isTold), ...entries.filter(isOpen)].slice(0, maxSignatures);
}
