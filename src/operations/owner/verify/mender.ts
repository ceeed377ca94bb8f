import type { Custody } from '../../../store/care/custody.ts';
import type { Finding, Mending } from '../../protocol/verify.ts';
import type { Repair } from './repair.ts';

export interface MenderOptions {
  readonly custody: Custody;
  readonly repair: Repair;
}

/** Repairs what a checkup has found, as the scrub does. */
export class Mender {
  readonly #options: MenderOptions;

  constructor(options: MenderOptions) {
    this.#options = options;
  }

  /** @returns what was done @throws DiskFault; the signal's reason */
  async mend(finding: Finding, signal: AbortSignal): Promise<Mending> {
    if (finding.kind === 'stray' || finding.kind === 'unreadable') return 'none';
    const { custody, repair } = this.#options;
    const isHere = await custody.settle(finding);
    if (finding.kind === 'misrecorded' || finding.kind === 'unrecorded') return isHere ? 'recorded' : 'none';
    const result = await repair.fetch(finding.digest, signal);
    return result === 'unwanted' ? 'set aside' : result;
  }
}
