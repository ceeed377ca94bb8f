import type { Credential } from './credential.ts';
import type { RenewalStatus } from './renewed.ts';

/** The credential itself, or where one comes from that is renewed by itself. */
export type Identity = { readonly credential: Credential | undefined } | { readonly from: unknown };

/** Where one credential of an upstream's host comes from. */
export interface CredentialSource {
  /**
   * The current one.
   * @returns `undefined`: there is none, requests are anonymous
   * @throws RegistryError no-credentials; the signal's reason
   */
  get(options: { readonly signal: AbortSignal }): Promise<Credential | undefined>;
  /** The other side refused it. @returns whether there is another one now */
  refused(credential: Credential, options: { readonly signal: AbortSignal }): Promise<boolean>;
  /** A text that identifies this credential; keep it secret. @throws RegistryError no-credentials */
  identity(): Promise<Identity>;
  status(): RenewalStatus;
}
