import type { Verdict } from '../../store/files/verification.ts';

/** What `verify` reads. */
export interface CheckupParameters {
  /** Names and patterns; none: everything stored. */
  readonly images: readonly string[];
  /** Whether to put right what is wrong. */
  readonly repair: boolean;
}

/** Something that is not as it should be. */
export type Finding = Exclude<Verdict, { readonly kind: 'ok' }>;

/** What was done about a finding. */
export type Mending =
  /** What was wrong is set aside, and the right content is here again. */
  | 'fetched'
  /** What was wrong is set aside or forgotten; nobody could give it now, so that it is fetched when it is asked for. */
  | 'lost'
  /** The catalog was wrong, and is right now. */
  | 'recorded'
  /** What was wrong is set aside; no repository here needs it. */
  | 'set aside'
  /** Nothing: it is not ours, or it cannot be read. */
  | 'none';

/** What a checkup tells while it runs; the members and their names are kept from version to version. */
export type CheckupEvent =
  | { readonly kind: 'plan'; readonly blobs: number; readonly bytes: number }
  /** How far it is; comes often. */
  | { readonly kind: 'progress'; readonly blobs: number; readonly bytes: number }
  | {
      readonly kind: 'finding';
      readonly finding: Finding;
      /** Repositories that it belongs to, some of them. */
      readonly repositories: readonly string[];
      /** `null` where nothing was to be put right. */
      readonly mending: Mending | null;
    }
  /** An image that lacks parts: they were never fetched, or are gone. No damage: a pull fetches them. */
  | { readonly kind: 'incomplete'; readonly name: string }
  | {
      readonly kind: 'end';
      readonly blobs: number;
      readonly bytes: number;
      readonly findings: number;
      /** Findings that are put right. */
      readonly mended: number;
      readonly incomplete: number;
    };
