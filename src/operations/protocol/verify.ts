import type { Verdict } from '../../store/files/verification.ts';

/** The parameters of `verify`. */
export interface CheckupParameters {
  /** Names and patterns; empty: everything stored. */
  readonly images: readonly string[];
  /** Whether to repair what is wrong. */
  readonly repair: boolean;
}

/** A blob or file that is not as it should be. */
export type Finding = Exclude<Verdict, { readonly kind: 'ok' }>;

/** The repair of a finding. */
export type Mending =
  /** The wrong content is set aside, and the right content is stored again. */
  | 'fetched'
  /** The wrong content is set aside or forgotten; no source has it now, so it is fetched when it is requested. */
  | 'lost'
  /** The catalog was wrong and has been corrected. */
  | 'recorded'
  /** The wrong content is set aside; no repository needs it. */
  | 'set aside'
  /** None: it is not a blob, or it cannot be read. */
  | 'none';

/** The events of a checkup; members keep their names from version to version. */
export type CheckupEvent =
  | { readonly kind: 'plan'; readonly blobs: number; readonly bytes: number }
  /** Progress; frequent. */
  | { readonly kind: 'progress'; readonly blobs: number; readonly bytes: number }
  | {
      readonly kind: 'finding';
      readonly finding: Finding;
      /** Some of the repositories that it belongs to. */
      readonly repositories: readonly string[];
      /** `null` if nothing was to be repaired. */
      readonly mending: Mending | null;
    }
  /** An image that lacks parts, which were never fetched or are gone. This is not damage: a pull fetches them. */
  | { readonly kind: 'incomplete'; readonly name: string }
  | {
      readonly kind: 'end';
      readonly blobs: number;
      readonly bytes: number;
      readonly findings: number;
      /** Repaired findings. */
      readonly mended: number;
      readonly incomplete: number;
    };
