import type { Caller } from './caller.ts';

/** By what a caller has shown who it is, as far as it is to be found out later whether that still holds. */
export type Proof =
  | { readonly by: 'nothing' }
  /** `mark` changes with the password. */
  | { readonly by: 'password'; readonly mark: string }
  | { readonly by: 'key'; readonly id: string }
  | { readonly by: 'certificate' }
  /** Credentials of an upstream, for that upstream alone; `sealed` with the key of our tokens. */
  | { readonly by: 'guest'; readonly upstream: string; readonly sealed: string }
  /** A token of an issuer with these settings, whose caller was looked at with the policies that had this mark. */
  | { readonly by: 'issuer'; readonly issuer: string; readonly settings: string; readonly mark: string };

/** A caller and how it is known. */
export interface Identity {
  readonly caller: Caller;
  readonly proof: Proof;
  /** Wall clock in milliseconds; absent: without end. */
  readonly untilMs?: number | undefined;
}
