import type { FreshnessVerdict } from '../../mirror/freshness.ts';
import type { Digest } from '../../oci/digest.ts';

/** What an image name gets from this mirror, and why; the members and their names are kept from version to version. */
export interface Explanation {
  readonly image: string;
  readonly offline: boolean;
  readonly upstream: {
    readonly name: string;
    /** `image`: the name says so; `default`: it names none. */
    readonly namedBy: 'image' | 'default';
    /** Tried in this order. */
    readonly urls: readonly string[];
    readonly credential: string;
    /** False: it is known not to answer now. */
    readonly available: boolean;
    /** True: only what is not here may spend one of its last pulls. */
    readonly sparing: boolean;
  };
  /** The upstream's own name of it. */
  readonly repository: string;
  /** Whether `upstreams.NAME.repositories` lets it be pulled. */
  readonly allowed: boolean;
  readonly tag: string | null;
  /** Of a tag: the times that hold for it, in milliseconds, and which rule says so. */
  readonly freshness: {
    /** The place in `upstreams.NAME.tags`, from 0; `null`: no rule matches, the upstream's own times hold. */
    readonly rule: {
      readonly position: number;
      readonly match: string;
      readonly repositories: readonly string[];
    } | null;
    readonly tagTtlMs: number;
    readonly staleWhileRevalidateMs: number;
    readonly staleIfErrorMs: number;
  } | null;
  /** What is here; `null`: nothing. */
  readonly stored: StoredImage | null;
  /** Of a stored tag: when the upstream last confirmed it. */
  readonly checkedAt: string | null;
  readonly ageSeconds: number | null;
  readonly outcome: {
    readonly kind: 'refused' | 'missing' | 'stored' | FreshnessVerdict['kind'];
    /** What a pull would meet now, as a sentence. */
    readonly text: string;
  };
}

/** What is here of a manifest and of what it names. */
export interface StoredImage {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Whether the repository may read it without the upstream being asked. */
  readonly readable: boolean;
  /** Whether a client can pull it with no upstream to help; an index: at least one of its images. */
  readonly whole: boolean;
  /** Blobs that it and the manifests it names need, each counted once a manifest. */
  readonly blobs: number;
  readonly storedBytes: number;
  readonly missingBlobs: number;
  readonly missingBytes: number;
  /** The blobs of an image that are not here. */
  readonly missing: readonly Digest[];
  /** What an index names. */
  readonly platforms: readonly StoredPlatform[];
}

/** One manifest that an index names. */
export interface StoredPlatform {
  readonly digest: Digest;
  /** `linux/arm64/v8`; `null` where the index does not say. */
  readonly platform: string | null;
  /** Whether its manifest is here. */
  readonly stored: boolean;
  readonly whole: boolean;
  readonly missingBlobs: number;
  readonly missingBytes: number;
}
