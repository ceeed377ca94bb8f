import type { ExplainedAccess } from '../../access/explain.ts';
import type { Digest } from '../../oci/digest.ts';
import type { FreshnessVerdict } from '../../upstream/freshness.ts';

/** The answer of this mirror for an image name, and its reasons; members keep their names from version to version. */
export interface Explanation {
  readonly image: string;
  readonly offline: boolean;
  readonly upstream: {
    readonly name: string;
    /** `image`: named by the image; `default`: the image names none. */
    readonly namedBy: 'image' | 'default';
    /** Tried in this order. */
    readonly urls: readonly string[];
    readonly credential: string;
    /** False: it is known not to answer now. */
    readonly available: boolean;
    /** True: only content that is not stored may spend one of its last pulls. */
    readonly sparing: boolean;
  };
  /** The upstream's own name of the repository. */
  readonly repository: string;
  /** Whether `upstreams.NAME.repositories` allows it. */
  readonly allowed: boolean;
  /** Which signature its images must carry, in words; `null`: none. */
  readonly signatures: string | null;
  /** The verdict of the policies for the caller in question; `null`: none was, or callers are not distinguished. */
  readonly access: ExplainedAccess | null;
  readonly tag: string | null;
  /** For a tag: its times in milliseconds, and the rule they come from. */
  readonly freshness: {
    /** The position in `upstreams.NAME.tags`, from 0; `null`: no rule matches, and the upstream's own times apply. */
    readonly rule: {
      readonly position: number;
      readonly match: string;
      readonly repositories: readonly string[];
    } | null;
    readonly tagTtlMs: number;
    readonly staleWhileRevalidateMs: number;
    readonly staleIfErrorMs: number;
  } | null;
  /** The stored content; `null`: none. */
  readonly stored: StoredImage | null;
  /** For a stored tag: when the upstream last confirmed it. */
  readonly checkedAt: string | null;
  readonly ageSeconds: number | null;
  readonly outcome: {
    readonly kind: 'refused' | 'missing' | 'stored' | FreshnessVerdict['kind'];
    /** The answer that a pull would get now, as a sentence. */
    readonly text: string;
  };
}

/** The stored parts of a manifest and of its content. */
export interface StoredImage {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Whether the repository may read it without asking the upstream. */
  readonly readable: boolean;
  /** Whether a client can pull it without an upstream; an index: at least one of its images. */
  readonly whole: boolean;
  /** Blobs that it and the manifests it names need, each counted once per manifest. */
  readonly blobs: number;
  readonly storedBytes: number;
  readonly missingBlobs: number;
  readonly missingBytes: number;
  /** The blobs of an image that are not stored. */
  readonly missing: readonly Digest[];
  /** The entries of an index. */
  readonly platforms: readonly StoredPlatform[];
}

/** A manifest that an index names. */
export interface StoredPlatform {
  readonly digest: Digest;
  /** `linux/arm64/v8`; `null` if the index does not say. */
  readonly platform: string | null;
  /** Whether its manifest is stored. */
  readonly stored: boolean;
  readonly whole: boolean;
  readonly missingBlobs: number;
  readonly missingBytes: number;
}
