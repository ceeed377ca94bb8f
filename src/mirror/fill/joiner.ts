import type { Repository } from '../../upstream/repository.ts';
import type { Source } from './sources.ts';

/** A request for a blob, as a fill sees it. */
export interface Joiner {
  /** The repository it is read through. */
  readonly repository: Repository;
  /** Where the bytes can come from; default: the upstream of the repository. */
  readonly sources?: readonly Source[];
  /** Bytes, as the repository's manifest says. */
  readonly expectedSize: number | undefined;
  /** Whether only a part of it is wanted now. */
  readonly isRanged: boolean;
  /** Whether it is to be kept here even where other replicas are the ones that keep it. */
  readonly isOwned?: boolean;
  /** Whether its sources are free of charge, so that no other replica is asked. */
  readonly isLocal?: boolean;
}
