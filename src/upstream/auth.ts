import type { RequestOptions } from './client.ts';

/** Keeps what one endpoint wants to see in `Authorization`. */
export interface Authenticator {
  /** The header to send with the first try; `undefined` as long as no challenge is known. */
  authorization(repository: string, options: RequestOptions): Promise<string | undefined>;
  /**
   * The header to send after a 401.
   * @param options.refused what was sent with the request that got the 401
   * @throws RegistryError DENIED where there is nothing (else) to send, UNAVAILABLE, TOOMANYREQUESTS
   */
  renew(
    repository: string,
    options: RequestOptions & { readonly challenge: string | undefined; readonly refused: string | undefined },
  ): Promise<string>;
  /** Drops what was refused twice. */
  forget(repository: string): void;
}
