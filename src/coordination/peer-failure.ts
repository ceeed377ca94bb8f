import { RegistryError } from '../oci/error.ts';

/** Why another replica did not deliver what it was asked for. */
export type PeerFault =
  /** It does not have it. */
  | 'absent'
  /** No connection, or one that ended in the middle. */
  | 'unreachable'
  /** It did not answer in time. */
  | 'silent'
  /** It refuses this replica. */
  | 'refused'
  /** It answered something else. */
  | 'odd';

/** Another replica could not give the bytes. */
export class PeerFailure extends RegistryError {
  readonly fault: PeerFault;
  readonly replica: string;
  /** For operators: the cause in its own words. */
  readonly words: string;

  constructor(replica: string, fault: PeerFault, options: { readonly sentence: string; readonly cause?: unknown }) {
    const { sentence, cause } = options;
    const isAbsent = fault === 'absent';
    super(isAbsent ? 'not-found' : 'replica-failed', sentence, { cause, ...(isAbsent && { code: 'BLOB_UNKNOWN' }) });
    this.fault = fault;
    this.replica = replica;
    // After a semicolon, Node adds advice for programmers.
    const [words = ''] = cause instanceof Error ? cause.message.split(';', 1) : [];
    this.words = words === '' ? sentence : words;
  }
}
