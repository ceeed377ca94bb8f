import { untilAborted } from '../waiting/until-aborted.ts';
import type { RequestOptions } from './client.ts';

/** How long it is remembered what `/v2/` demands, or that it demands nothing, in milliseconds. */
const knownMs = 600_000;
/** How long it is not asked again after it could not be found out, in milliseconds. */
const failedMs = 10_000;

export interface RootChallengeOptions {
  /** Asks `/v2/` for its challenge. @returns its `WWW-Authenticate`; `undefined` where it demands nothing */
  readonly ping: (options: RequestOptions) => Promise<string | undefined>;
  /** Longest time for that, in milliseconds. */
  readonly timeoutMs: number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** The challenge of `/v2/` of an endpoint, requested once for all waiting clients: one that leaves does not end it for the others. */
export class RootChallenge {
  readonly #options: RootChallengeOptions;
  #asked: { readonly challenge: Promise<string | undefined>; untilMs: number } | undefined;

  constructor(options: RootChallengeOptions) {
    this.#options = options;
  }

  /** @returns `undefined` where it demands nothing, or that could not be found out */
  async get(signal: AbortSignal): Promise<string | undefined> {
    const challenge = await untilAborted(this.#ask(), signal).catch(() => undefined);
    if (challenge === undefined && signal.aborted) this.#asked = undefined;
    return challenge;
  }

  #ask(): Promise<string | undefined> {
    const { ping, now, timeoutMs } = this.#options;
    if (this.#asked !== undefined && this.#asked.untilMs > now()) return this.#asked.challenge;
    const asked = { untilMs: now() + knownMs };
    const challenge = ping({ signal: AbortSignal.timeout(timeoutMs) }).catch(() => {
      asked.untilMs = now() + failedMs;
      return undefined;
    });
    this.#asked = Object.assign(asked, { challenge });
    return challenge;
  }
}
