import type { RegistryError } from '../../oci/error.ts';
import { untilAborted } from '../../waiting/until-aborted.ts';
import type { Credential } from './credential.ts';

/** A credential that was obtained, and how long it may be used. */
export interface Obtained {
  /** `undefined`: there is none, requests are anonymous. */
  readonly credential: Credential | undefined;
  /** Wall clock in milliseconds. */
  readonly expiresAtMs: number;
  /** When it is obtained again, if that is earlier than two thirds of the way to its expiry. */
  readonly renewAtMs?: number;
}

export interface RenewedOptions {
  /** Obtains a new one, within a time of its own. @throws RegistryError no-credentials */
  readonly obtain: () => Promise<Obtained>;
  readonly now: () => number;
}

/** The status of a credential that is renewed. */
export interface RenewalStatus {
  /** Of what is used now; absent if nothing is. */
  readonly expiresAtMs?: number;
  /** Why the last attempt to renew it failed, without secrets; absent if it did not. */
  readonly failure?: string;
}

/** Part of the time to expiry after which a credential is renewed. */
const usableShare = 2 / 3;
/** One that expires sooner is not used for a new request. */
const marginMs = 5_000;
/** Longest life that is believed: a service that states a later expiry errs, and not every number is a date. */
const longestLifeMs = 30 * 86_400_000;
/** Pause after a failed renewal: doubled from the first to the second. */
const [firstPauseMs, longestPauseMs] = [2_000, 60_000];
/** A refusal leads to a renewal at most this often: most refusals are not about expiry. */
const refusalPauseMs = 60_000;

/**
 * A credential that expires. It is renewed ahead of its expiry, by one request at a time that no caller owns; while
 * renewal fails, the last one is used until it expires.
 */
export class Renewed {
  readonly #options: RenewedOptions;
  #held: (Obtained & { readonly renewAtMs: number }) | undefined;
  #flight: Promise<void> | undefined;
  #failure: { readonly error: RegistryError; readonly untilMs: number; readonly pauseMs: number } | undefined;
  #refusedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: RenewedOptions) {
    this.#options = options;
  }

  /**
   * The current credential. Only the first caller, and one after the expiry, waits.
   * @throws RegistryError no-credentials; the signal's reason
   */
  async get({ signal }: { readonly signal: AbortSignal }): Promise<Credential | undefined> {
    const now = this.#options.now();
    const held = this.#held;
    if (held !== undefined && now < held.expiresAtMs - marginMs) {
      // The status shows why a background renewal failed; the credential is still good.
      if (now >= held.renewAtMs && !this.#isPausing()) this.#renew().catch(() => undefined);
      return held.credential;
    }
    if (this.#failure !== undefined && this.#isPausing()) throw this.#failure.error;
    await untilAborted(this.#renew(), signal);
    return this.#held?.credential;
  }

  /**
   * The other side refused a credential that was obtained here.
   * @returns whether there is another one now
   */
  async refused(credential: Credential, { signal }: { readonly signal: AbortSignal }): Promise<boolean> {
    const { now } = this.#options;
    const isOther = (): boolean => JSON.stringify(this.#held?.credential) !== JSON.stringify(credential);
    if (this.#held === undefined || isOther()) return this.#held !== undefined;
    // Requests that were refused together wait for the same renewal.
    if (this.#flight === undefined && now() - this.#refusedAtMs < refusalPauseMs) return false;
    this.#refusedAtMs = now();
    const isRenewed = await untilAborted(
      this.#renew().then(
        () => true,
        () => false,
      ),
      signal,
    );
    return isRenewed && isOther();
  }

  status(): RenewalStatus {
    const held = this.#held;
    return {
      ...(held?.credential !== undefined && { expiresAtMs: held.expiresAtMs }),
      ...(this.#failure !== undefined && { failure: this.#failure.error.message }),
    };
  }

  #isPausing(): boolean {
    return this.#failure !== undefined && this.#options.now() < this.#failure.untilMs;
  }

  #renew(): Promise<void> {
    this.#flight ??= this.#obtain().finally(() => {
      this.#flight = undefined;
    });
    return this.#flight;
  }

  async #obtain(): Promise<void> {
    const { obtain, now } = this.#options;
    const startedAtMs = now();
    try {
      const obtained = await obtain();
      const expiresAtMs = Math.min(obtained.expiresAtMs, startedAtMs + longestLifeMs);
      const usableMs = Math.max(0, expiresAtMs - startedAtMs) * usableShare;
      const renewAtMs = Math.min(obtained.renewAtMs ?? Number.POSITIVE_INFINITY, startedAtMs + usableMs);
      this.#held = { ...obtained, expiresAtMs, renewAtMs };
      this.#failure = undefined;
    } catch (error) {
      const pauseMs = Math.min(longestPauseMs, (this.#failure?.pauseMs ?? firstPauseMs / 2) * 2);
      this.#failure = { error: error as RegistryError, untilMs: now() + pauseMs, pauseMs };
      throw error;
    }
  }
}
