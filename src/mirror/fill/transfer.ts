import { setTimeout as sleep } from 'node:timers/promises';
import type { Slabs } from '../../memory/slabs.ts';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../../oci/digest.ts';
import { hasReason, RegistryError } from '../../oci/error.ts';
import type { Reason } from '../../oci/reason.ts';
import type { Report } from '../../oci/report.ts';
import type { BlobAnswer } from '../../upstream/client.ts';
import { Refusal } from '../../upstream/passage.ts';
import { shortPauseIn } from '../../upstream/second-try.ts';
import { atLeastRate } from '../../waiting/least-rate.ts';
import type { TransferEvent } from './fill-events.ts';
import type { Route, Source, SourceList } from './sources.ts';

/** Failures in a row, without a byte in between, that one source is allowed once bytes have flowed. */
const patienceOnceFlowing = 8;
/** The same where a source has answered, so that clients may have headers, and has given no byte yet. */
const patienceOnceAnswered = 3;
/** The same at the opening: a server that is being replaced refuses one request and answers the next. */
const patienceAtOpening = 2;
/** Failures that a second attempt may not have. A timeout has used the time for one; a limit is waited for if it is short. */
const worthASecondTry = ['bad-status', 'unreachable', 'cut', 'bad-answer', 'wrong-size'] as const satisfies Reason[];
/** How long all sources together may give nothing before a transfer that had begun is given up. */
const maxDroughtMs = 60_000;
/** How often one transfer may fail and go on, however little each attempt brings. */
const maxFailures = 100;
/** The most bytes that are here already and come again in front of a part, where not the whole blob may come again. */
const mostKnownBytes = 1024 * 1024;
/** Minimum wait before a source that another request probes is asked again. */
const minRefusedMs = 200;

/** The size and type of a blob, from the first source that answered. */
export interface BlobHeading {
  /** Size of the whole blob in bytes; `undefined` where no source and no manifest tells it. */
  readonly size: number | undefined;
  readonly contentType: string;
}

export interface TransferOptions {
  readonly digest: Digest;
  readonly sources: SourceList;
  /** Says which of the sources comes next. */
  readonly route: Route;
  /** First byte wanted. */
  readonly offset: number;
  /** Size of the blob in bytes where it is known for certain. */
  readonly size?: number | undefined;
  /** Where the bytes wanted end; asked again before each use, since others may take over what lies behind it. */
  readonly limit?: () => number;
  /** Most bytes asked for by one request; absent: all that is wanted. */
  readonly partBytes?: number | undefined;
  /** Whether a source that ignores `Range` may be read from its beginning, and the bytes before {@link offset} skipped. */
  readonly mayStartOver: boolean;
  /** Whether a client has earlier bytes, so that patience is worth more than a quick answer. */
  readonly isAwaited: () => boolean;
  /** Sizes that manifests give the blob; empty where none does. */
  readonly expectedSizes: ReadonlySet<number>;
  readonly report: Report<TransferEvent>;
  /** Where the bytes are kept afterwards: where a source can, it gives them as parts of its slabs. */
  readonly memory?: Slabs | undefined;
  /** Called for every answer, with what is known of the blob then. @returns whether the bytes are still wanted */
  readonly onAnswer: (source: Source, heading: BlobHeading) => boolean;
  readonly signal: AbortSignal;
}

/**
 * The bytes of a blob from an offset on, whole and in order, whatever its sources do: after a cut it goes on from the
 * byte reached, at the same source or the next. The digest is the caller's to verify.
 */
export class Transfer {
  /** The sources that have given bytes. */
  readonly contributors = new Set<Source>();
  readonly #options: TransferOptions;
  #position: number;
  #size: number | undefined;
  #isWanted = true;
  /** Sources that nothing is sent to for a while, and until when by the monotonic clock. */
  readonly #refusedUntilMs = new Map<Source, number>();
  /** Sources whose short pause was waited for once before any has answered. */
  readonly #paused = new Set<Source>();
  /** Sources that have refused to give the rest of the blob. */
  readonly #withoutParts = new Set<Source>();
  #hasAnswer = false;

  constructor(options: TransferOptions) {
    this.#options = options;
    this.#position = options.offset;
    this.#size = options.size;
  }

  /** Size of the blob, known at the latest when its end has come. */
  get size(): number | undefined {
    return this.#size;
  }

  /**
   * Each chunk is to be used before the next is asked for.
   * @throws RegistryError when no source is left (each one's reason is with the {@link SourceList}), the signal's reason
   */
  async *bytes(): AsyncGenerator<Buffer, void, undefined> {
    const { digest, sources, route, signal, report, isAwaited, mayStartOver } = this.#options;
    let failures = 0;
    let fruitless = 0;
    let droughtSinceMs = performance.now();
    let isBegun = false;
    while (!isBegun || (this.#isWanted && this.#position < this.#end)) {
      isBegun = true;
      const isFlowing = this.contributors.size > 0 || isAwaited();
      const patience = isFlowing ? patienceOnceFlowing : this.#hasAnswer ? patienceOnceAnswered : patienceAtOpening;
      this.#forgetOpened();
      const wanted = { patience, ranged: !mayStartOver, except: this.#refusedUntilMs };
      const source = await route.next(wanted, signal);
      if (!source && this.#refusedUntilMs.size > 0 && failures <= maxFailures) {
        const untilMs = Math.min(...this.#refusedUntilMs.values());
        if (untilMs - droughtSinceMs < maxDroughtMs) {
          await sleep(untilMs - performance.now(), undefined, { signal });
          continue;
        }
      }
      if (!source || failures > maxFailures || performance.now() - droughtSinceMs > maxDroughtMs) {
        throw new RegistryError('no-source', 'no source is left that could give this blob');
      }
      if (fruitless > 0) await sleep(backoffMs(fruitless), undefined, { signal });
      const before = this.#position;
      const guard = route.guard(source);
      try {
        yield* this.#from(source, guard);
        fruitless = 0;
        droughtSinceMs = performance.now();
      } catch (error) {
        signal.throwIfAborted();
        // It was to be left for another one: that says nothing about it.
        if (guard?.aborted) continue;
        if (hasReason(error, 'too-slow')) {
          sources.slowed(source, error);
          report({ kind: 'source-failed', digest, source, error, position: this.#position });
          continue;
        }
        const waitMs = this.#waitAfter(source, error);
        if (waitMs !== undefined) {
          this.#refusedUntilMs.set(source, performance.now() + waitMs);
          sources.refused(source, error);
          report({ kind: 'source-failed', digest, source, error, position: this.#position });
          continue;
        }
        failures += 1;
        fruitless += 1;
        if (this.#position > before) {
          fruitless = 1;
          droughtSinceMs = performance.now();
        }
        isBegun = this.#size !== undefined;
        this.#mayGiveNoParts(source, error);
        sources.failed(source, error, { isFinal: !this.#isBelieved && !hasReason(error, ...worthASecondTry) });
        route.failed(source, error);
        report({ kind: 'source-failed', digest, source, error, position: this.#position });
      }
    }
  }

  /** Whether a source has answered, so that clients wait for the bytes and not for the answer. */
  get #isBelieved(): boolean {
    return this.contributors.size > 0 || this.#hasAnswer || this.#options.isAwaited();
  }

  /** How long a source that was not asked, or asks for a pause, is waited for. `undefined`: it has failed. */
  #waitAfter(source: Source, error: unknown): number | undefined {
    // It was not sent, so it has not failed: it goes on when the source may be asked again.
    if (error instanceof Refusal && this.#isBelieved) return Math.max(error.retryAfterMs, minRefusedMs);
    if (this.#isBelieved || this.#paused.has(source)) return undefined;
    this.#paused.add(source);
    return shortPauseIn(error);
  }

  /** After a cut, a source that refuses the rest is asked for all. */
  #mayGiveNoParts(source: Source, error: unknown): void {
    const { offset, mayStartOver } = this.#options;
    // Bytes of an earlier run may be more than the blob has, and the refusal true.
    const isFromStart = mayStartOver && offset === 0 && this.#position > 0;
    if (isFromStart && hasReason(error, 'range-refused', 'range-ignored')) this.#withoutParts.add(source);
  }

  #forgetOpened(): void {
    const nowMs = performance.now();
    for (const [source, untilMs] of this.#refusedUntilMs) if (untilMs <= nowMs) this.#refusedUntilMs.delete(source);
  }

  get #end(): number {
    return Math.min(this.#options.limit?.() ?? Number.POSITIVE_INFINITY, this.#size ?? Number.POSITIVE_INFINITY);
  }

  async *#from(source: Source, guard: AbortSignal | undefined): AsyncGenerator<Buffer, void, undefined> {
    const { digest, sources, route, signal, report, onAnswer, mayStartOver, partBytes } = this.#options;
    const end = Math.min(this.#end, this.#position + (partBytes ?? Number.POSITIVE_INFINITY));
    const wanted = end === Number.POSITIVE_INFINITY || end === this.#size ? undefined : end;
    const openSignal = guard ? AbortSignal.any([signal, guard]) : signal;
    await using _place = await route.enter(source, openSignal);
    const [expected] = this.#options.expectedSizes;
    const size = this.#size ?? expected;
    const part = this.#withoutParts.has(source) ? { offset: 0 } : { offset: this.#position, end: wanted };
    const asked = { ...part, size, memory: this.#options.memory };
    const answer = await source.open(digest, { ...asked, signal: openSignal });
    try {
      if (wanted !== undefined && answer.start === 0 && answer.end !== wanted && answer.end === answer.size) {
        sources.noteIgnoredRange(source);
      }
      if (answer.start < this.#position) {
        const isFromStart = answer.start === 0;
        if (isFromStart) sources.noteIgnoredRange(source);
        if (!mayStartOver && (isFromStart || this.#position - answer.start > mostKnownBytes))
          throw new RegistryError('range-ignored', 'the upstream gives no parts of this blob');
      }
      this.#isWanted = onAnswer(source, this.#accept(answer));
      this.#hasAnswer = true;
      if (!this.#isWanted) return;
      let place = answer.start;
      for await (const chunk of atLeastRate(answer.body, { hasOther: () => sources.hasOther(source) })) {
        // A source that ignores Range begins at 0: the bytes that are here already are skipped.
        const known = Math.max(0, this.#position - place);
        place += chunk.length;
        report({ kind: 'received', source, bytes: chunk.length });
        route.received();
        if (this.#size !== undefined && place > this.#size) throw wrongSize(place, this.#size);
        if (place > sources.maxBytes) throw tooLarge(sources.maxBytes);
        if (known >= chunk.length) continue;
        this.contributors.add(source);
        sources.progressed(source);
        const fresh = chunk.subarray(known, known + this.#end - this.#position);
        this.#position += fresh.length;
        if (fresh.length > 0) yield fresh;
        if (this.#position >= this.#end && this.#position !== this.#size) return;
      }
      const bodyEnd = answer.end ?? this.#size;
      if (bodyEnd !== undefined && this.#position < Math.min(bodyEnd, this.#end)) throw wrongSize(place, bodyEnd);
      // Without a length the end of the body is the end of the blob.
      this.#size ??= this.#position;
    } catch (error) {
      throw error instanceof RegistryError || signal.aborted ? error : cut(error);
    } finally {
      answer.body.destroy();
    }
  }

  /** Compares an answer with the size that is known, before any of its bytes is used. */
  #accept(answer: BlobAnswer): BlobHeading {
    if (answer.start > this.#position) {
      throw new RegistryError(
        'range-ignored',
        'the upstream answered with another part of the blob than was asked for',
      );
    }
    const { digest, expectedSizes } = this.#options;
    const [anyExpected] = expectedSizes;
    const expected = this.#size ?? (expectedSizes.has(answer.size ?? -1) ? answer.size : anyExpected);
    if (answer.size !== undefined && expected !== undefined && expected !== answer.size) {
      throw wrongSize(answer.size, expected);
    }
    const size = expected ?? answer.size;
    const { maxBytes } = this.#options.sources;
    if (size !== undefined && size > maxBytes) throw tooLarge(maxBytes);
    // Nothing of an empty answer could be held back until its digest is known.
    if (size === 0 && finishDigest(digestAlgorithm(digest), hasherFor(digest)) !== digest) {
      throw new RegistryError('wrong-size', 'the upstream gives this blob no bytes, and its digest says it has some');
    }
    // Only now: the size of a refused answer must not end the transfer before another source is asked.
    this.#size = size;
    return { size, contentType: answer.contentType };
  }
}

function tooLarge(maxBytes: number): RegistryError {
  return new RegistryError('too-large', `this blob has more than cache.maxBlobSize (${maxBytes} bytes)`);
}

function wrongSize(found: number, expected: number): RegistryError {
  return new RegistryError('wrong-size', `the upstream gives this blob ${found} bytes instead of ${expected}`);
}

function cut(error: unknown): RegistryError {
  return new RegistryError('cut', 'the upstream cut the transfer of this blob', { cause: error });
}

// Doubling from 50 ms to 5 s, each taken half to one-and-a-half times so that replicas do not come back in step.
function backoffMs(fruitless: number): number {
  return Math.min(50 * 2 ** (fruitless - 1), 5000) * (0.5 + Math.random());
}
