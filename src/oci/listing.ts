/** A page of a listing (tags or referrers), passed on as it came. */
export interface ListingAnswer {
  readonly bytes: Buffer;
  readonly contentType: string;
  /** The query string (without `?`) of the `Link` header's `rel="next"` target, where there is one. */
  readonly nextQuery: string | undefined;
  /** `OCI-Filters-Applied`, where the upstream sent it. */
  readonly filtersApplied: string | undefined;
}
