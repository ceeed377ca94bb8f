/** When something happened to an entry. */
export const searchTimes = ['created', 'changed', 'cached', 'pulled'] as const;
export type SearchTime = (typeof searchTimes)[number];

/** The orders that results can have. */
export const searchOrders = ['name', 'version', ...searchTimes, 'size', 'pulls'] as const;
export type SearchOrder = (typeof searchOrders)[number];

/** Where a page begins: behind an entry in the order of the query. */
export interface SearchPosition {
  readonly key: string | number;
  readonly id: number;
}

/** A query. Conditions that are absent or empty set no condition; all that are set have to hold. */
export interface SearchQuery {
  /** Words in a row, as `words.ts` gives them; the last may go on. */
  readonly phrases: readonly string[];
  /** Short names, one of which has to fit. */
  readonly types: readonly string[];
  /** Media types of the artifact, its manifest, config or layers, one of which has to fit. */
  readonly mediaTypes: readonly string[];
  /** `linux`, `linux/arm64` or `linux/arm/v7`. */
  readonly platform: string | undefined;
  /** A digest of the entry or of what it names, or at least the first 6 digits of one. */
  readonly digest: string | undefined;
  /** A repository, or the end of one at a slash. */
  readonly repository: string | undefined;
  /** A repository by its whole name. */
  readonly exactRepository: string | undefined;
  /** Only what is in hosted repositories. */
  readonly isHosted?: boolean | undefined;
  readonly minSizeBytes: number | undefined;
  readonly maxSizeBytes: number | undefined;
  readonly time: SearchTime;
  /** Both inclusive, in milliseconds since 1970. */
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
  /** Only the newest version of each type in a repository. */
  readonly latest: boolean;
  readonly sort: SearchOrder;
  readonly descending: boolean;
  readonly limit: number;
  readonly after: SearchPosition | undefined;
}
