import type { Digest } from '../../oci/digest.ts';
import type { FoundEntry, IndexChange } from './entry.ts';
import type { PlacedEntry } from './index-reader.ts';
import type { SearchQuery } from './search-query.ts';

/** The requests to the thread of the index, and its answers; one after another. */
export interface IndexQuestions {
  readonly apply: { readonly asked: readonly IndexChange[]; readonly answer: null };
  readonly beginPass: { readonly asked: null; readonly answer: null };
  /** Whether there is more to remove. */
  readonly endPass: { readonly asked: number; readonly answer: boolean };
  readonly search: {
    readonly asked: { readonly query: SearchQuery; readonly excluded: readonly string[] };
    readonly answer: readonly PlacedEntry[];
  };
  readonly named: {
    readonly asked: { readonly repository: string; readonly digest: Digest };
    readonly answer: readonly FoundEntry[];
  };
  readonly close: { readonly asked: null; readonly answer: null };
}

export type IndexQuestion = keyof IndexQuestions;

/** A message to the thread. */
export interface IndexRequest {
  readonly id: number;
  readonly kind: IndexQuestion;
  readonly asked: unknown;
}

/** A message from the thread. */
export type IndexReply =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly error: string };
