import type { Source } from './sources.ts';

/** What somebody who wants a blob brings along. */
export interface Joiner {
  /** The repository it is read through, as the cache names it. */
  readonly repository: string;
  readonly sources: readonly Source[];
  /** Bytes, as the repository's manifest says. */
  readonly expectedSize: number | undefined;
  /** Whether only a part of it is wanted now. */
  readonly isRanged: boolean;
  /** Whether it is to be kept here even where other replicas are the ones that keep it. */
  readonly isOwned?: boolean;
  /** Whether its sources cost nobody anything, so that no other replica is asked. */
  readonly isLocal?: boolean;
}
