import type { Digest } from '../../oci/digest.ts';
import type { ManifestSource } from '../../store/catalog/image-parts.ts';

/** A stored image; members keep their names from version to version. Times are ISO 8601, sizes bytes. */
export interface ListedImage {
  /** The full name, with tag or digest. */
  readonly name: string;
  readonly upstream: string;
  /** The upstream's own name of the repository. */
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: Digest;
  readonly mediaType: string | null;
  /** `whole`: can be pulled without an upstream; an index: at least one of its images. `absent`: only the tag is known. */
  readonly state: 'whole' | 'partial' | 'absent';
  /** Bytes of all its stored parts and attachments. */
  readonly storedBytes: number;
  /** The part of that which other images need too. */
  readonly sharedBytes: number;
  readonly storedAt: string | null;
  readonly usedAt: string | null;
  /** When the upstream last confirmed the tag; `null` for a pinned one that the upstream says is gone. */
  readonly checkedAt: string | null;
  /** Where its manifest came from last; `null` if unknown, as after a lost catalog. */
  readonly source: ManifestSource | null;
  /** Whether it is pinned, and by what: its own name, which may be its digest, or a pattern of the configuration. */
  readonly pinned: 'name' | 'configuration' | null;
  /** For an index: how many of the images that it names are complete. */
  readonly platforms: { readonly named: number; readonly whole: number } | null;
  /** Manifests of the tag for clients that accept something else. */
  readonly variants: readonly Digest[];
  /** Signatures and other attachments. */
  readonly attachments: readonly ListedAttachment[];
}

export interface ListedAttachment {
  readonly digest: Digest;
  readonly artifactType: string | null;
  readonly stored: boolean;
}

/** The end of a list. */
export interface ListTotal {
  /** Images that the filters include, of which `listed` were shown. */
  readonly images: number;
  readonly listed: number;
  readonly repositories: number;
  /** Of the whole cache, each blob once. */
  readonly blobs: number;
  readonly bytes: number;
}

export type ListEvent =
  | ({ readonly kind: 'image' } & ListedImage)
  /** For a list of pinned images, after the images. */
  | ({ readonly kind: 'pin' } & ListedPin)
  | ({ readonly kind: 'total' } & ListTotal);

export const listOrders = ['name', 'size', 'used', 'checked'] as const;

/** An entry of `ls`. */
export interface ListParameters {
  /** Names and patterns as they were written; empty: all. */
  readonly images: readonly string[];
  readonly upstream?: string | undefined;
  readonly pinned?: boolean | undefined;
  readonly incomplete?: boolean | undefined;
  /** Not used for this long. */
  readonly unusedForMs?: number | undefined;
  /** With more stored bytes than this. */
  readonly largerThanBytes?: number | undefined;
  /** `size`, `used` and `checked`: largest, last used, last checked first. */
  readonly sort: (typeof listOrders)[number];
  readonly reverse?: boolean | undefined;
  readonly limit?: number | undefined;
}

/** A pin by name without an image in the list: of an image that is not stored, or of a part of another one. */
export interface ListedPin {
  /** The full name, with tag or digest. */
  readonly name: string;
  readonly upstream: string;
  /** The upstream's own name of the repository. */
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: Digest | null;
  /** Whether it is stored: as an entry of an index, or as an attachment. */
  readonly stored: boolean;
  readonly pinnedAt: string;
}

/** The result for one image. */
export type RemovalEvent =
  | {
      readonly kind: 'removed';
      readonly name: string;
      readonly digest: Digest;
      /** The blobs that only this image needed, which are removed; in a dry run: would be removed. */
      readonly blobs: number;
      readonly bytes: number;
      /** The blobs that other images need too, or that are being fetched: they stay. */
      readonly keptBytes: number;
      /** Whether the repository keeps the image by its digest, because an operator has pinned that. */
      readonly pinnedByDigest: boolean;
    }
  /** It stays; `isRefused` if it was named explicitly. */
  | { readonly kind: 'kept'; readonly name: string; readonly reason: string; readonly isRefused: boolean };

export interface RemovalQuery {
  readonly images: readonly string[];
  /** Includes pinned images. */
  readonly force: boolean;
  /** Only reports what would be done. */
  readonly dryRun: boolean;
}

/** The result for one name to pin or unpin. */
export type PinEvent = {
  readonly kind: 'pinned' | 'unpinned' | 'unchanged';
  readonly name: string;
  /** Whether any of it is stored. */
  readonly stored: boolean;
  readonly reason: string | null;
};
