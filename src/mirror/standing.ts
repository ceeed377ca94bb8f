import type { Digest } from '../oci/digest.ts';

/** For how long, and on which facts, an answer may be given again without asking. */
export interface Standing {
  /** The digest of which the answer is, and each time a use. */
  readonly digest: Digest;
  /** Named by the functions of `oci/facts.ts`: once one of them has changed, the answer is decided again. */
  readonly facts: readonly string[];
  /** Wall clock in milliseconds: not before, which is where the clock was set back. Absent: no limit. */
  readonly sinceMs?: number;
  /** Wall clock in milliseconds: not from then on. Absent: no limit. */
  readonly untilMs?: number;
  /** Of a tag whose answer says its age: when the registry confirmed it, wall clock in milliseconds. */
  readonly confirmedAtMs?: number;
  /** The file that the answer is of: given only as long as it is as it was. Absent: the content is in memory. */
  readonly file?: StandingFile | undefined;
}

/** The file of a stored blob, as it was when its content was last known to be right. */
export interface StandingFile {
  readonly path: string;
  readonly size: number;
  readonly modifiedAtMs: number;
}
