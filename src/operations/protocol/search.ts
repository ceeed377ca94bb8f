import type { Digest } from '../../oci/digest.ts';

/** What `millpond search` asks for. */
export interface SearchParameters {
  /** The parameters of the extension `_millpond`, component `search`, as a query string. */
  readonly query: string;
  /** Most results. */
  readonly limit: number;
}

/** An image or artifact, or the end of the results. */
export type SearchEvent =
  | {
      readonly kind: 'found';
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
  | { readonly kind: 'end' /** Whether there are more than were asked for. */; readonly more: boolean };
