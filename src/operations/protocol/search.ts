import type { FoundEntry } from '../../discovery/search/entry.ts';

/** The query of `millpond search`. */
export interface SearchParameters {
  /** The parameters of the extension `_millpond`, component `search`, as a query string. */
  readonly query: string;
  /** Most results. */
  readonly limit: number;
}

/** An image or artifact, or the end of the results. */
export type SearchEvent =
  | ({ readonly kind: 'found' } & FoundEntry)
  | {
      readonly kind: 'end';
      /** Whether there are more than were asked for. */
      readonly more: boolean;
      /** Whether the replica that keeps the hosted repositories could not be asked. */
      readonly ownerAway?: boolean;
    };
