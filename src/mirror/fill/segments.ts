import type { SlabPart, Slabs } from '../../memory/slabs.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Report } from '../../oci/report.ts';
import { BatchWriter } from '../../store/files/batch-writer.ts';
import { DiskFault, type PartialBlob } from '../../store/files/blob-store.ts';
import { LinkedAbort } from '../../waiting/linked-abort.ts';
import type { TransferEvent } from './fill-events.ts';
import type { Pace } from './pace.ts';
import type { Route, Source, SourceList } from './sources.ts';
import { type BlobHeading, Transfer } from './transfer.ts';

/** Bytes per request when a blob is fetched in parts. */
const partBytes = 8 * 1024 * 1024;
/** A reader waits for a connection that is at most this far behind it; otherwise it gets its own. */
const nearBytes = 4 * 1024 * 1024;
/** Maximum connections for one blob, however many readers are far apart. */
const maxConnections = 8;

export interface SegmentsOptions {
  readonly digest: Digest;
  readonly partial: PartialBlob;
  readonly sources: SourceList;
  readonly route: Route;
  readonly expectedSizes: ReadonlySet<number>;
  readonly isAwaited: () => boolean;
  readonly report: Report<TransferEvent>;
  readonly onAnswer: (source: Source, heading: BlobHeading) => void;
  /** The memory that the bytes pass through. */
  readonly slabs: Slabs;
  /** Bytes have arrived and are on their way to the disk. */
  readonly onReceived: (position: number, part: SlabPart) => void;
  /** More bytes can be read from disk. */
  readonly onWritten: () => void;
  readonly pace: Pace;
  /** Whether to fetch the blob in parts from the start, because a client requested a part. */
  readonly inParts: boolean;
  readonly signal: AbortSignal;
}

/** A part of the blob that one connection is fetching; no other connection writes there. */
interface Segment {
  readonly start: number;
  /** The next byte it will write. */
  position: number;
  /** It ends here, or where another segment or bytes on disk begin. */
  end: number;
  /** Whether a source has answered for it; until then it does not shorten the segment before it. */
  isAnswered: boolean;
}

/**
 * Fetches the bytes of one blob into its partial file over one or several connections: one reads from the start, others
 * fetch parts that a reader waits for, or exist because the upstream limits the rate of each connection.
 */
export class Segments {
  /** The sources that have sent bytes. */
  readonly contributors = new Set<Source>();
  readonly #options: SegmentsOptions;
  readonly #segments = new Set<Segment>();
  readonly #running = new Set<Promise<void>>();
  readonly #abort: LinkedAbort;
  #inParts: boolean;
  #size: number | undefined;
  #failure: Error | undefined;

  constructor(options: SegmentsOptions) {
    this.#options = options;
    this.#inParts = options.inParts;
    this.#abort = new LinkedAbort(options.signal);
  }

  /** Resolves when the whole blob is in the file. @throws RegistryError if no source is left, DiskFault */
  async run(): Promise<void> {
    using _ = this.#abort;
    const { partial, sources } = this.#options;
    if (sources.connections > 1) this.#inParts = true;
    this.#start(this.#nextSegment());
    while (this.#running.size > 0) await Promise.race(this.#running);
    if (partial.written !== this.#size) {
      throw this.#failure ?? new RegistryError('no-source', 'the upstream has not given the whole blob');
    }
  }

  /** A reader waits for a position that no connection will reach soon: fetches from there, if the sources serve ranges. */
  want(position: number): void {
    const { sources, partial } = this.#options;
    // The byte may have arrived and only be held back.
    if (partial.availableFrom(position) > position) return;
    if (this.#size === undefined || position >= this.#size || this.#segments.size >= maxConnections) return;
    if (!sources.hasRanged || this.#abort.signal.aborted) return;
    for (const segment of this.#segments) {
      const isAhead = segment.start <= position && position < this.#limitOf(segment);
      // Bytes that have arrived and are not written yet count as available.
      if (isAhead && position - segment.position <= nearBytes) return;
    }
    this.#inParts = true;
    this.#start(this.#segmentAt(position));
  }

  #start(segment: Segment | undefined): void {
    if (segment === undefined) return;
    this.#segments.add(segment);
    const running = this.#work(segment).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Fetches one segment after another until none is left. Never throws: see {@link run}. */
  async #work(first: Segment): Promise<void> {
    let segment: Segment | undefined = first;
    while (segment !== undefined) {
      try {
        await this.#fetch(segment);
      } catch (error) {
        this.#failure = this.#failure instanceof DiskFault ? this.#failure : (error as Error);
        if (error instanceof DiskFault) this.#abort.abort(error);
        return;
      } finally {
        this.#segments.delete(segment);
      }
      segment = this.#abort.signal.aborted ? undefined : this.#nextSegment();
      if (segment) this.#segments.add(segment);
    }
  }

  async #fetch(segment: Segment): Promise<void> {
    const { partial, slabs, onReceived, onWritten, digest, sources, route, expectedSizes, isAwaited, report } =
      this.#options;
    const transfer = new Transfer({
      digest,
      sources,
      route,
      expectedSizes,
      isAwaited,
      report,
      offset: segment.position,
      size: this.#size,
      limit: () => this.#limitOf(segment),
      partBytes: this.#inParts ? partBytes : undefined,
      mayStartOver: segment.position === partial.written,
      memory: slabs,
      onAnswer: (source, heading) => this.#answered(segment, source, heading),
      signal: this.#abort.signal,
    });
    await using writer = new BatchWriter(partial, {
      position: segment.position,
      slabs,
      expectedBytes: () => Math.min(this.#limitOf(segment), this.#size ?? Number.POSITIVE_INFINITY) - segment.position,
      onTaken: (position, part) => {
        onReceived(position, part);
        segment.position = position + part.end - part.start;
      },
      onWritten,
    });
    try {
      for await (const chunk of transfer.bytes()) {
        await writer.write(chunk);
        const paced = this.#options.pace.wait(segment.position);
        if (paced) await paced;
      }
    } finally {
      for (const source of transfer.contributors) this.contributors.add(source);
      await writer.flush();
    }
    this.#size ??= transfer.size;
  }

  #answered(segment: Segment, source: Source, heading: BlobHeading): boolean {
    const { sources, route, onAnswer } = this.#options;
    // Another connection may have passed this position meanwhile.
    const isOvertaken = !segment.isAnswered && this.#isTaken(segment);
    segment.isAnswered = true;
    this.#size ??= heading.size;
    onAnswer(source, heading);
    if (isOvertaken) return false;
    if (!sources.hasRanged) {
      // The source sent the whole blob although a part was requested: all of it is used.
      this.#inParts = false;
      segment.end = Number.POSITIVE_INFINITY;
    }
    const connections = route.isFollowing ? 1 : sources.connections;
    while (this.#inParts && this.#size !== undefined && this.#segments.size < Math.min(connections, maxConnections)) {
      const next = this.#nextSegment();
      if (!next) break;
      this.#start(next);
    }
    return true;
  }

  #isTaken(segment: Segment): boolean {
    const { partial } = this.#options;
    if (partial.availableFrom(segment.position) > segment.position || partial.written > segment.position) return true;
    return [...this.#segments].some(
      (other) =>
        other !== segment && other.isAnswered && other.position > segment.position && other.start <= segment.position,
    );
  }

  /** The first segment that is neither on disk nor being fetched. */
  #nextSegment(): Segment | undefined {
    const { partial } = this.#options;
    const size = this.#size ?? Number.POSITIVE_INFINITY;
    let start = partial.written;
    while (start < size) {
      const available = partial.availableFrom(start);
      const segment = [...this.#segments].find((other) => other.start <= start && start < this.#limitOf(other));
      const next = Math.max(available, segment ? this.#limitOf(segment) : start);
      if (next === start) break;
      start = next;
    }
    return start >= size ? undefined : this.#segmentAt(start);
  }

  /** The segment from `start` to the next position that is on disk or being fetched. */
  #segmentAt(start: number): Segment {
    const end = Math.min(
      this.#options.partial.nextAvailable(start) ?? Number.POSITIVE_INFINITY,
      ...[...this.#segments].map((other) => other.start).filter((other) => other > start),
      this.#inParts ? start + partBytes : Number.POSITIVE_INFINITY,
      this.#size ?? Number.POSITIVE_INFINITY,
    );
    return { start, position: start, end, isAnswered: false };
  }

  #limitOf(segment: Segment): number {
    const others = [...this.#segments].filter((other) => other !== segment && other.isAnswered);
    const { partial } = this.#options;
    const isHere = partial.availableFrom(segment.position) > segment.position;
    return Math.min(
      segment.end,
      isHere ? segment.position : (partial.nextAvailable(segment.position) ?? Number.POSITIVE_INFINITY),
      ...others.map((other) => other.start).filter((start) => start >= segment.position),
    );
  }
}
