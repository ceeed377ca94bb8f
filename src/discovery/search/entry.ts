import type { Digest } from '../../oci/digest.ts';

/** An image or artifact of a repository, by tag or by digest, as the mirror hands it to the index. */
export interface GivenEntry {
  /** As the mirror names it: `docker.io/library/nginx`. */
  readonly repository: string;
  /** '' for a manifest without a tag. */
  readonly tag: string;
  readonly digest: Digest;
  readonly isHosted: boolean;
  /** The file of the manifest. */
  readonly path: string;
  readonly mediaType: string;
  /** Bytes of the manifest and of what it names, each once; `undefined`: to be read from `folder`. */
  readonly sizeBytes: number | undefined;
  /** When it came here, in milliseconds since 1970. */
  readonly cachedAtMs: number;
  /** When the tag was moved there, where that is known. */
  readonly changedAtMs: number | undefined;
  /** Small blobs that the repository may read and that are here, by digest: one of them may be the config. */
  readonly readable: Readonly<Record<string, string>>;
  /** A folder with all that the repository may read, by algorithm; `undefined`: only what is `readable`. */
  readonly folder: string | undefined;
}

/** A change of what is to be found. */
export type IndexChange =
  /** All that cached repositories have of a manifest. */
  | { readonly kind: 'cached'; readonly digest: Digest; readonly entries: readonly GivenEntry[] }
  | { readonly kind: 'put'; readonly entry: GivenEntry }
  /** A tag or, with tag '', a manifest of a hosted repository is gone. */
  | { readonly kind: 'gone'; readonly repository: string; readonly tag: string; readonly digest: Digest | undefined }
  | { readonly kind: 'pulled'; readonly name: PulledName; readonly count: number; readonly atMs: number };

/** What was pulled: a tag, or a digest, of a repository. */
export interface PulledName {
  readonly repository: string;
  readonly reference: string;
}

/** An entry as it was found. */
export interface FoundEntry {
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: Digest;
  readonly isHosted: boolean;
  readonly type: string;
  readonly artifactType: string | null;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly platforms: readonly string[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly subject: Digest | null;
  /** All in milliseconds since 1970; 0: not known, or never. */
  readonly createdAtMs: number;
  readonly changedAtMs: number;
  readonly cachedAtMs: number;
  readonly pulledAtMs: number;
  readonly pulls: number;
}

/** The name of an entry, by which it is unique and sorted: its repository, and behind a space its tag or digest. */
export function entryName(
  repository: string,
  { tag, digest }: { readonly tag: string; readonly digest: string },
): string {
  return `${repository} ${tag === '' ? `@${digest}` : tag}`;
}

/** An entry as clients see it, over HTTP and with `--json`. */
export function shownEntry(entry: FoundEntry): object {
  const { repository, tag, digest, isHosted, type, artifactType, mediaType, platforms, annotations, subject } = entry;
  return {
    repository,
    tag,
    digest,
    hosted: isHosted,
    type,
    artifactType,
    mediaType,
    size: entry.sizeBytes,
    platforms,
    annotations,
    subject,
    created: shownTime(entry.createdAtMs),
    changed: shownTime(entry.changedAtMs),
    cached: shownTime(entry.cachedAtMs),
    pulled: shownTime(entry.pulledAtMs),
    pulls: entry.pulls,
  };
}

function shownTime(ms: number): string | null {
  return ms === 0 ? null : new Date(ms).toISOString();
}
