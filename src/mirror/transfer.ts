import { setTimeout as sleep } from 'node:timers/promises';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { BlobAnswer } from '../upstream/client.ts';
import type { Source, SourceList } from './sources.ts';

/** Failures in a row, without a byte in between, that one source is allowed once bytes have flowed. */
const patienceOnceFlowing = 8;
/** The same where a source has answered, so that clients may have headers, and has given no byte yet. */
const patienceOnceAnswered = 3;
/** How long all sources together may give nothing before a transfer that had begun is given up. */
const maxDroughtMs = 60_000;
/** How often one transfer may begin anew, however little each attempt brings. */
const maxAttempts = 100;

/** What the sources have told about a blob. */
export interface BlobHeading {
  /** Size of the whole blob in bytes; `undefined` where no source and no manifest tells it. */
  readonly size: number | undefined;
  readonly contentType: string;
}

/** Told of what happens to transfers, for the log and the metrics. */
export interface TransferObserver {
  /** A source has failed at a position, and another attempt follows if any source is left. */
  sourceFailed(digest: Digest, event: { source: Source; error: unknown; position: number }): void;
  /** A source has sent bytes, whether they were new or not. */
  received(source: Source, bytes: number): void;
}

export interface TransferOptions {
  readonly digest: Digest;
  readonly sources: SourceList;
  /** First byte wanted. */
  readonly offset: number;
  /** Whether somebody has been handed earlier bytes, so that patience is worth more than a quick answer. */
  readonly isAwaited: () => boolean;
  /** Sizes that manifests give the blob; empty where none does. */
  readonly expectedSizes: ReadonlySet<number>;
  readonly observer: TransferObserver;
  /** Called for every source that has answered, with what is known of the blob then. */
  readonly onAnswer: (source: Source, heading: BlobHeading) => void;
  readonly signal: AbortSignal;
}

/**
 * The bytes of a blob from an offset to its end, whole and in order, whatever its sources do: after a cut it goes on from
 * the byte reached, at the same source or the next. The digest is the caller's to verify.
 */
export class Transfer {
  /** The sources that have given bytes. */
  readonly contributors = new Set<Source>();
  readonly #options: TransferOptions;
  #position: number;
  #size: number | undefined;
  #hasAnswer = false;

  constructor(options: TransferOptions) {
    this.#options = options;
    this.#position = options.offset;
  }

  /**
   * @throws RegistryError when no source is left (each one's reason is with the {@link SourceList}), the signal's reason
   */
  async *bytes(): AsyncGenerator<Buffer, void, undefined> {
    const { digest, sources, signal, observer, isAwaited } = this.#options;
    let fruitless = 0;
    let droughtSinceMs = performance.now();
    for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
      const isFlowing = this.contributors.size > 0 || isAwaited();
      const patience = isFlowing ? patienceOnceFlowing : this.#hasAnswer ? patienceOnceAnswered : 1;
      const source = sources.next(patience);
      if (source === undefined || performance.now() - droughtSinceMs > maxDroughtMs) break;
      if (fruitless > 0 && patience > 1) await sleep(backoffMs(fruitless), undefined, { signal });
      const before = this.#position;
      try {
        yield* this.#from(source);
        return;
      } catch (error) {
        signal.throwIfAborted();
        fruitless += 1;
        if (this.#position > before) {
          fruitless = 1;
          droughtSinceMs = performance.now();
        }
        sources.failed(source, error);
        observer.sourceFailed(digest, { source, error, position: this.#position });
      }
    }
    throw new RegistryError('UNAVAILABLE', 'no source is left that could give this blob');
  }

  async *#from(source: Source): AsyncGenerator<Buffer, void, undefined> {
    const { digest, sources, signal, observer, onAnswer } = this.#options;
    const answer = await source.open(digest, { offset: this.#position, signal });
    try {
      onAnswer(source, this.#accept(answer));
      this.#hasAnswer = true;
      let place = answer.start;
      for await (const chunk of answer.body) {
        // A source that ignores Range begins at 0: what is already here is skipped.
        const known = Math.max(0, this.#position - place);
        place += chunk.length;
        observer.received(source, chunk.length);
        if (this.#size !== undefined && place > this.#size) throw wrongSize(place, this.#size);
        if (known >= chunk.length) continue;
        this.contributors.add(source);
        sources.progressed(source);
        const fresh = known > 0 ? chunk.subarray(known) : chunk;
        this.#position += fresh.length;
        yield fresh;
      }
      if (this.#size !== undefined && this.#position < this.#size) throw wrongSize(this.#position, this.#size);
    } catch (error) {
      throw error instanceof RegistryError || signal.aborted ? error : cut(error);
    } finally {
      answer.body.destroy();
    }
  }

  /** Checks an answer against what is known before any of its bytes is used. */
  #accept(answer: BlobAnswer): BlobHeading {
    if (answer.start > this.#position) {
      throw new RegistryError('UNAVAILABLE', 'the upstream answered with another part of the blob than was asked for');
    }
    const { digest, expectedSizes } = this.#options;
    const [anyExpected] = expectedSizes;
    const expected = this.#size ?? (expectedSizes.has(answer.size ?? -1) ? answer.size : anyExpected);
    if (answer.size !== undefined && expected !== undefined && expected !== answer.size) {
      throw wrongSize(answer.size, expected);
    }
    this.#size = expected ?? answer.size;
    // Nothing of an empty answer could be held back until its digest is known.
    if (this.#size === 0 && finishDigest(digestAlgorithm(digest), hasherFor(digest)) !== digest) {
      throw new RegistryError('UNAVAILABLE', 'the upstream gives this blob no bytes, and its digest says it has some');
    }
    return { size: this.#size, contentType: answer.contentType };
  }
}

function wrongSize(found: number, expected: number): RegistryError {
  return new RegistryError('UNAVAILABLE', `the upstream gives this blob ${found} bytes instead of ${expected}`);
}

function cut(error: unknown): RegistryError {
  return new RegistryError('UNAVAILABLE', 'the upstream cut the transfer of this blob', { cause: error });
}

// Doubling from 50 ms to 5 s, each taken half to one-and-a-half times so that replicas do not come back in step.
function backoffMs(fruitless: number): number {
  return Math.min(50 * 2 ** (fruitless - 1), 5000) * (0.5 + Math.random());
}
