import { randomBytes } from 'node:crypto';
import { macsForm, type Seal } from './seal.ts';

const passForm = new RegExp(`^([A-Za-z0-9_-]{1,64}) (\\d{1,15}) ([A-Za-z0-9_-]{22}) (${macsForm})$`);

/** The header that carries it. */
export const passHeader = 'millpond-pass';

/** The signed parts of a request between replicas. */
export interface PeerRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly range: string | undefined;
  /** `replica:boot` of the receiver: useless at another replica, or after a restart. */
  readonly to: string;
  /** On whose behalf it is passed on; absent: the replica's own. */
  readonly caller?: string | undefined;
}

/** Whether a request is let in. */
export type Admission = { readonly from: string } | { readonly refused: 'unsigned' | 'forged' | 'old' | 'replayed' };

export interface PeerPassOptions {
  readonly seal: Seal;
  /** How far the clocks of two replicas may be apart, in milliseconds. */
  readonly toleranceMs: number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** Signs what this replica asks of others, and checks what is asked of it: HMAC, time stamp, nonce. */
export class PeerPass {
  readonly #options: PeerPassOptions;
  /**
   * Nonces of requests that were let in, and until when they could come again: as many as can be answered in that time,
   * and only replicas that have the secret add to them.
   */
  readonly #seen = new Map<string, number>();

  constructor(options: PeerPassOptions) {
    this.#options = options;
  }

  /** The header's value for a request. */
  sign(request: PeerRequest, from: string): string {
    const { seal, now } = this.#options;
    const nonce = randomBytes(16).toString('base64url');
    const stamped = `${from} ${Math.round(now())} ${nonce}`;
    return `${stamped} ${seal.macs('peer request', textOf(request, stamped))}`;
  }

  /** Whether a request may be answered; the same one is let in once. */
  check(request: PeerRequest, header: string | undefined): Admission {
    const { seal, toleranceMs, now } = this.#options;
    if (header === undefined) return { refused: 'unsigned' };
    const match = passForm.exec(header);
    if (match === null) return { refused: 'forged' };
    const [, from = '', stamp = '', nonce = '', macs = ''] = match;
    if (!seal.matches('peer request', textOf(request, `${from} ${stamp} ${nonce}`), macs)) return { refused: 'forged' };
    const nowMs = now();
    if (Math.abs(nowMs - Number(stamp)) > toleranceMs) return { refused: 'old' };
    this.#forget(nowMs);
    if (this.#seen.has(nonce)) return { refused: 'replayed' };
    this.#seen.set(nonce, Number(stamp) + toleranceMs);
    return { from };
  }

  /** Forgets nonces whose requests would be too old by now. */
  #forget(nowMs: number): void {
    for (const [nonce, untilMs] of this.#seen) {
      if (untilMs >= nowMs) break;
      this.#seen.delete(nonce);
    }
  }
}

function textOf({ method, path, range = '', to, caller }: PeerRequest, stamped: string): string {
  return [method, path, range, to, stamped, ...(caller === undefined ? [] : [caller])].join('\n');
}
