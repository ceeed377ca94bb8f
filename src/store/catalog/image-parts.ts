import { isElsewhere, type ManifestLinks } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';

/** A part of an image, or an attachment. */
export interface ImagePart {
  readonly digest: Digest;
  /** Bytes, as stored or as its manifest says; `undefined` if unknown. */
  readonly size: number | undefined;
  readonly isManifest: boolean;
  readonly isStored: boolean;
}

/** Where a manifest came from: its upstream, another replica, or an archive. */
export type ManifestSource = 'upstream' | 'replica' | 'archive';

/** A blob or manifest that a manifest names, with the size that it gives in bytes (-1: none). */
export interface NamedPart {
  readonly digest: Digest;
  readonly size: number;
}

/** A part as the table of links has it. */
export interface LinkedPart extends NamedPart {
  /** 'manifest', 'blob', or 'elsewhere' for layers that registries need not hold. */
  readonly kind: string;
}

/** The parts that a manifest names, as rows of the table of links. */
export function linksOf({ manifests, blobs }: ManifestLinks): LinkedPart[] {
  return [
    ...manifests.map((target) => ({ ...target, kind: 'manifest' })),
    ...blobs.map((target) => ({ ...target, kind: isElsewhere(target) ? 'elsewhere' : 'blob' })),
  ];
}
