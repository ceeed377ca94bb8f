import type { Digest } from '../oci/digest.ts';

/** A change of a hosted repository that has been answered with success, or is about to be. It is durable. */
export type HostedChange =
  /** A manifest that the repository did not have before. */
  | {
      readonly kind: 'pushed';
      readonly repository: string;
      readonly digest: Digest;
      readonly mediaType: string;
      readonly artifactType: string | undefined;
      /** Bytes of the manifest. */
      readonly size: number;
      readonly subject: Digest | undefined;
      /** The tags that were pushed with it. */
      readonly tags: readonly string[];
    }
  /** A tag that stands for another manifest than before, or is new. */
  | {
      readonly kind: 'tagged';
      readonly repository: string;
      readonly tag: string;
      readonly digest: Digest;
      readonly before: Digest | undefined;
    }
  /** A tag or a manifest that is not here any more. */
  | {
      readonly kind: 'untagged';
      readonly repository: string;
      readonly tag: string;
      readonly digest: Digest | undefined;
    }
  | { readonly kind: 'deleted'; readonly repository: string; readonly digest: Digest }
  | { readonly kind: 'blob-deleted'; readonly repository: string; readonly digest: Digest };
