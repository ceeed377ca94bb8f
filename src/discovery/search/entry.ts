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

/** A pulled image: a tag, or a digest, of a repository. */
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

/** An entry on a page of results: what decides whether it is shown, and what is shown of it. */
export interface ListedEntry extends Pick<FoundEntry, 'repository' | 'tag' | 'digest' | 'isHosted'> {
  /** A {@link ShownEntry} as JSON: made by the thread of the index, and passed on as it is. */
  readonly json: string;
}

/** The name of an entry, by which it is unique and sorted: its repository, and behind a space its tag or digest. */
export function entryName(
  repository: string,
  { tag, digest }: { readonly tag: string; readonly digest: string },
): string {
  return `${repository} ${tag === '' ? `@${digest}` : tag}`;
}

/** An entry as clients see it, over HTTP and with `--json`. */
export interface ShownEntry
  extends Pick<
    FoundEntry,
    | 'repository'
    | 'tag'
    | 'digest'
    | 'type'
    | 'artifactType'
    | 'mediaType'
    | 'platforms'
    | 'annotations'
    | 'subject'
    | 'pulls'
  > {
  readonly hosted: boolean;
  /** Bytes. */
  readonly size: number;
  /** All in the form of RFC 3339; `null`: not known, or never. */
  readonly created: string | null;
  readonly changed: string | null;
  readonly cached: string | null;
  readonly pulled: string | null;
}

export function shownEntry(entry: FoundEntry): ShownEntry {
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

/** As {@link shownEntry}, as JSON. @param detail the JSON of an object with what an entry has beside its columns */
export function shownJson(
  entry: Omit<FoundEntry, 'artifactType' | 'mediaType' | 'platforms' | 'annotations' | 'subject'>,
  detail: string,
): string {
  const { repository, tag, digest, isHosted, type } = entry;
  const before = JSON.stringify({ repository, tag, digest, hosted: isHosted, type });
  const after = JSON.stringify({
    size: entry.sizeBytes,
    created: shownTime(entry.createdAtMs),
    changed: shownTime(entry.changedAtMs),
    cached: shownTime(entry.cachedAtMs),
    pulled: shownTime(entry.pulledAtMs),
    pulls: entry.pulls,
  });
  return `${before.slice(0, -1)},${detail.slice(1, -1)},${after.slice(1)}`;
}

function shownTime(ms: number): string | null {
  return ms === 0 ? null : new Date(ms).toISOString();
}

/** The entry that {@link shownEntry} has shown. */
export function entryShown({ hosted, size, created, changed, cached, pulled, ...rest }: ShownEntry): FoundEntry {
  return {
    ...rest,
    isHosted: hosted,
    sizeBytes: size,
    createdAtMs: timeShown(created),
    changedAtMs: timeShown(changed),
    cachedAtMs: timeShown(cached),
    pulledAtMs: timeShown(pulled),
  };
}

function timeShown(text: string | null): number {
  return text === null ? 0 : Date.parse(text);
}
