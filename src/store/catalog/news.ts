import type { Digest } from '../../oci/digest.ts';

/** A change of what the catalog says of a repository, by the cache's name of it. */
export type CatalogNews =
  /** A manifest that the repository did not have here before. */
  | {
      readonly kind: 'manifest';
      readonly repository: string;
      readonly digest: Digest;
      readonly mediaType: string;
      readonly artifactType: string | undefined;
      /** Bytes. */
      readonly size: number;
      readonly subject: Digest | undefined;
    }
  /** A tag that stands for another manifest than before, or is new. */
  | {
      readonly kind: 'tag';
      readonly repository: string;
      readonly tag: string;
      readonly digest: Digest;
      readonly before: Digest | undefined;
    }
  /** A tag that the upstream does not have any more. */
  | {
      readonly kind: 'tag gone';
      readonly repository: string;
      readonly tag: string;
      readonly before: Digest | undefined;
    };
