import type { Digest } from '../../oci/digest.ts';
import type { ManifestSource } from '../../store/catalog/image-graph.ts';

/** A stored image; the members and their names are kept from version to version. Times are ISO 8601, sizes bytes. */
export interface ListedImage {
  /** The full name, with tag or digest. */
  readonly name: string;
  readonly upstream: string;
  /** The upstream's own name of it. */
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: Digest;
  readonly mediaType: string | null;
  /** `whole`: can be pulled with no upstream; an index: one of its images at least. `absent`: only the tag is known. */
  readonly state: 'whole' | 'partial' | 'absent';
  /** Of all its parts that are here, and what goes with it. */
  readonly storedBytes: number;
  /** As much of that as other images need too. */
  readonly sharedBytes: number;
  readonly storedAt: string | null;
  readonly usedAt: string | null;
  /** When the upstream last confirmed the tag; `null` of a pinned one that it has said to be gone. */
  readonly checkedAt: string | null;
  /** Where its manifest came from last; `null` where that is not known, as after the catalog was lost. */
  readonly source: ManifestSource | null;
  /** Whether it is kept, and by what: its own name, which may be its digest, or a pattern of the configuration. */
  readonly pinned: 'name' | 'configuration' | null;
  /** Of an index: how many of the images that it names are whole. */
  readonly platforms: { readonly named: number; readonly whole: number } | null;
  /** What the tag is for clients that accept something else. */
  readonly variants: readonly Digest[];
  /** Signatures and other manifests that go with it. */
  readonly attachments: readonly ListedAttachment[];
}

export interface ListedAttachment {
  readonly digest: Digest;
  readonly artifactType: string | null;
  readonly stored: boolean;
}

/** The end of a list. */
export interface ListTotal {
  /** Images that the filters let through; `listed` of them were told. */
  readonly images: number;
  readonly listed: number;
  readonly repositories: number;
  /** Of the whole cache, each blob once. */
  readonly blobs: number;
  readonly bytes: number;
}

export type ListEvent =
  | ({ readonly kind: 'image' } & ListedImage)
  /** After the images, of a list of what is pinned. */
  | ({ readonly kind: 'pin' } & ListedPin)
  | ({ readonly kind: 'total' } & ListTotal);

export const listOrders = ['name', 'size', 'used', 'checked'] as const;

/** What `ls` lists. */
export interface ListParameters {
  /** Names and patterns as they were written; none: all. */
  readonly images: readonly string[];
  readonly upstream?: string | undefined;
  readonly pinned?: boolean | undefined;
  readonly incomplete?: boolean | undefined;
  /** Not used for so long. */
  readonly unusedForMs?: number | undefined;
  /** With more bytes stored than this. */
  readonly largerThanBytes?: number | undefined;
  /** `size`, `used` and `checked`: the largest, the last used, the last checked first. */
  readonly sort: (typeof listOrders)[number];
  readonly reverse?: boolean | undefined;
  readonly limit?: number | undefined;
}

/** A pin by name that holds no image of a list: of what is not here yet, or of a part of something. */
export interface ListedPin {
  /** The full name, with tag or digest. */
  readonly name: string;
  readonly upstream: string;
  /** The upstream's own name of it. */
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: Digest | null;
  /** Whether it is here: as what an index names, or what goes with an image. */
  readonly stored: boolean;
  readonly pinnedAt: string;
}

/** What became of one image. */
export type RemovalEvent =
  | {
      readonly kind: 'removed';
      readonly name: string;
      readonly digest: Digest;
      /** What it alone needed, which is gone; of a dry run: which would be gone. */
      readonly blobs: number;
      readonly bytes: number;
      /** What other images need too, and what is being fetched: it stays. */
      readonly keptBytes: number;
      /** Whether the repository keeps the image itself, by its digest: an operator has pinned that. */
      readonly pinnedByDigest: boolean;
    }
  /** It stays: `isRefused` where it was asked for by its name. */
  | { readonly kind: 'kept'; readonly name: string; readonly reason: string; readonly isRefused: boolean };

export interface RemovalQuery {
  readonly images: readonly string[];
  /** Pinned ones too. */
  readonly force: boolean;
  /** Only says what would be done. */
  readonly dryRun: boolean;
}

/** What became of one name that was to be pinned or not. */
export type PinEvent = {
  readonly kind: 'pinned' | 'unpinned' | 'unchanged';
  readonly name: string;
  /** Whether anything of it is here. */
  readonly stored: boolean;
  readonly reason: string | null;
};
