/** How an answer was produced; the HTTP layer expresses it as `Cache-Status` and counts it. */
export type Outcome =
  /** From disk or memory, without asking the upstream. */
  | 'hit'
  /** A tag past its time that the upstream has just confirmed. */
  | 'revalidated'
  /** A tag past its time, served at once while it is revalidated in the background. */
  | 'revalidating'
  /** A tag past its time, served because the upstream cannot answer. */
  | 'stale'
  /** Not stored: fetched from the upstream, and kept. */
  | 'miss'
  /** Not stored: delivered by another replica. */
  | 'peer'
  /** Not stored: joined another client's fetch. */
  | 'collapsed'
  /** Passed through from the upstream and not kept. */
  | 'bypass'
  /** A 404 that the upstream gave recently. */
  | 'negative';
