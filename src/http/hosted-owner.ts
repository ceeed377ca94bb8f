import type { HostedRules } from '../hosted/rules.ts';
import type { OwnerWord } from '../replicas/owner-word.ts';
import type { WireAnswer } from '../transport/exchange.ts';
import type { Upstream } from '../upstream/upstream.ts';

/** The replica that keeps the hosted repositories, as this one reaches it. */
export interface HostedOwner {
  /** The owner as an upstream, which reads go to. */
  readonly upstream: Upstream;
  readonly rules: HostedRules;
  /** The digests that it said last may not be given, for the time in which it cannot be asked. */
  readonly word: OwnerWord;
  /** @throws RegistryError 503 where it cannot be reached; what reading the body throws; the signal's reason */
  send(request: {
    readonly method: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: AsyncIterable<Buffer> | undefined;
    readonly isPush: boolean;
    /** The caller, as `writeCaller` writes it. */
    readonly caller: string | undefined;
    readonly signal: AbortSignal;
  }): Promise<WireAnswer>;
}
