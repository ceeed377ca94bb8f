/** How an answer came about; the HTTP layer words it as `Cache-Status` and counts it. */
export type Outcome =
  /** From this disk or memory, without asking anybody. */
  | 'hit'
  /** A tag past its time that the upstream has just confirmed. */
  | 'revalidated'
  /** A tag past its time, served at once while the upstream is asked behind it. */
  | 'revalidating'
  /** A tag past its time, served because the upstream cannot answer. */
  | 'stale'
  /** Not here: fetched from the upstream, and kept. */
  | 'miss'
  /** Not here: given by another replica. */
  | 'peer'
  /** Not here: another client's fetch, joined. */
  | 'collapsed'
  /** Passed on from the upstream and not kept. */
  | 'bypass'
  /** A 404 that the upstream gave a moment ago. */
  | 'negative';
