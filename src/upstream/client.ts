import type { Digest } from '../oci/digest.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import type { BodyMemory } from '../transport/bulk-body.ts';
import type { ParentAge } from './parent.ts';

/** Every request to an upstream can be abandoned. */
export interface RequestOptions {
  readonly signal: AbortSignal;
}

/** A manifest as the upstream gave it. */
export interface ManifestAnswer {
  /** The exact body, at most the configured manifest size. Not yet verified against any digest. */
  readonly bytes: Buffer;
  /** The exact `Content-Type`. */
  readonly contentType: string;
  /** Of an answer from the cache of a mirror; absent: the registry's own. */
  readonly age?: ParentAge | undefined;
  /** `Docker-Content-Digest`, where the upstream sent a well-formed one. */
  readonly digest: Digest | undefined;
}

/** The headers of a manifest, by HEAD. */
export interface ManifestHead {
  /** `undefined` where the upstream does not send `Docker-Content-Digest` (ECR, some middleboxes): GET and hash then. */
  readonly digest: Digest | undefined;
  readonly contentType: string;
  readonly size: number | undefined;
  /** Of an answer from the cache of a mirror; absent: the registry's own. */
  readonly age?: ParentAge | undefined;
  /** The answer to a GET, if one was sent because the HEAD could not be trusted. */
  readonly answer?: ManifestAnswer;
}

/** A blob body on its way; its holder ends it with `body.destroy()` unless it was read to its end. */
export interface BlobAnswer {
  /** Size in bytes of the whole blob, as `Content-Length` or `Content-Range` tell it. */
  readonly size: number | undefined;
  /** Where in the blob the body begins: the offset asked for, or 0 where the upstream ignored the `Range`. */
  readonly start: number;
  /** Where in the blob it ends (exclusive); `undefined` where the upstream does not tell. */
  readonly end: number | undefined;
  readonly contentType: string;
  /**
   * Raw bytes, never decoded, in chunks of their own, or in parts of the memory that was given for them, which are to be
   * used before the next are asked for. Ends only when the body is complete; cut short it throws.
   */
  readonly body: AsyncIterable<Buffer> & { destroy(error?: Error): unknown };
}

/** The headers of a blob, by HEAD. */
export interface BlobHead {
  readonly size: number | undefined;
  readonly contentType: string;
}

/** One URL of an upstream from which blobs can be read. */
export interface BlobEndpoint {
  /** The configured URL, for logs and for telling endpoints apart. */
  readonly url: string;
  /**
   * Begins to read a blob.
   * @throws RegistryError BLOB_UNKNOWN (404), DENIED (401, 403), TOOMANYREQUESTS (429), UNAVAILABLE (everything else;
   *   504 for a time-out)
   */
  openBlob(
    repository: string,
    digest: Digest,
    options: RequestOptions & {
      /** First byte wanted; above 0 it is asked for by `Range`. */
      readonly offset?: number;
      /** End of the bytes wanted (exclusive); absent: to the end of the blob. */
      readonly end?: number;
      /** Of the whole blob in bytes, where a manifest tells it. */
      readonly size?: number;
      /** The memory for the bytes: a large body is read straight into it. */
      readonly memory?: BodyMemory;
    },
  ): Promise<BlobAnswer>;
}

/**
 * The pull API of one upstream. `repository` is the upstream's own name, `library/` included. All but
 * {@link BlobEndpoint.openBlob} try the upstream's URLs in order and throw what the last definite one said.
 */
export interface UpstreamClient {
  readonly endpoints: readonly BlobEndpoint[];
  /** @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE */
  headManifest(
    repository: string,
    reference: string,
    options: RequestOptions & {
      readonly accept: readonly string[];
      /** Whether something else can be given where the upstream asks for a pause; otherwise a GET decides. Absent: nothing. */
      readonly hasSubstitute?: (() => Promise<boolean>) | undefined;
    },
  ): Promise<ManifestHead>;
  /** @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE (also: larger than allowed) */
  getManifest(
    repository: string,
    reference: string,
    options: RequestOptions & { readonly accept: readonly string[] },
  ): Promise<ManifestAnswer>;
  /** @throws RegistryError BLOB_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE */
  headBlob(repository: string, digest: Digest, options: RequestOptions): Promise<BlobHead>;
  /** @param query the client's query without what selects the upstream. @throws RegistryError NAME_UNKNOWN, … */
  listTags(repository: string, query: string, options: RequestOptions): Promise<ListingAnswer>;
  /**
   * Asks the referrers API. @returns `undefined` where the upstream has none: read the fallback tag then.
   * @throws RegistryError DENIED, TOOMANYREQUESTS, UNAVAILABLE
   */
  listReferrers(
    repository: string,
    digest: Digest,
    query: string,
    options: RequestOptions,
  ): Promise<ListingAnswer | undefined>;
}
