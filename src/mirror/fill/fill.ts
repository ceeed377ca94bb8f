import { RecentBytes } from '../../memory/recent-bytes.ts';
import type { Loan } from '../../memory/slabs.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { octetStream } from '../../oci/media-types.ts';
import type { Report } from '../../oci/report.ts';
import { DiskFault, NoRoom, type PartialBlob } from '../../store/files/blob-store.ts';
import { Progress } from '../../waiting/progress.ts';
import type { FillEvent, FillResult, FillState } from './fill-events.ts';
import type { FillOptions } from './fill-options.ts';
import { Pace } from './pace.ts';
import { Segments } from './segments.ts';
import type { Source, SourceList } from './sources.ts';
import type { BlobHeading } from './transfer.ts';

/** The last bytes of a blob, which no client gets before the digest has been verified. */
export const heldBackBytes = 64 * 1024;

/** One blob being brought to this disk: its sources are read into a partial file, which any number of readers follow. */
export class Fill {
  readonly digest: Digest;
  readonly sources: SourceList;
  readonly report: Report<FillEvent>;
  /** The sizes that manifests of the waiting clients' repositories give the blob. */
  readonly expectedSizes = new Set<number>();
  /** The repositories whose upstream has answered with this blob. */
  readonly confirmed = new Set<string>();
  readonly progress = new Progress();
  /** Bytes that its sources have given so far. */
  receivedBytes = 0;
  /** Whether a reader that went on after the disk had failed has found wrong bytes: no other client may begin with them. */
  isVoid = false;
  readonly #recent: RecentBytes;
  readonly #abort = new AbortController();
  readonly #pace: Pace;
  readonly #options: FillOptions;
  #partial: PartialBlob | undefined;
  #segments: Segments | undefined;
  #heading: BlobHeading | undefined;
  #isFromReplica: boolean | undefined;
  #state: FillState = 'running';
  #fatal: RegistryError | undefined;
  #generation = 0;
  #handed = false;
  #holders = 1;
  #kept: 'stored' | 'refused' | undefined;

  constructor(options: FillOptions) {
    ({ digest: this.digest, sources: this.sources, report: this.report } = options);
    this.#options = options;
    this.#recent = new RecentBytes(options.slabs);
    this.#pace = new Pace(this.#recent, { isAlone: () => this.readers === 1, signal: this.#abort.signal });
  }

  /** Whether other replicas may read from it. */
  get isServing(): boolean {
    return this.#options.route.isServing;
  }

  /** Whether it is for this replica to keep. */
  get isKept(): boolean {
    return this.#options.route.isKept;
  }

  get state(): FillState {
    return this.#state;
  }

  /** Whether the blob is visible in the store. */
  get isStored(): boolean {
    return this.#kept === 'stored';
  }

  /** Whether the blob was passed through because the cache has no room for it. */
  get isRefused(): boolean {
    return this.#kept === 'refused';
  }

  /** Readers that follow it now. */
  get readers(): number {
    // The fill itself holds its file until it has ended.
    return this.#holders - 1;
  }

  /** The size and type of the blob; `undefined` until a source has answered. */
  get heading(): BlobHeading | undefined {
    return this.#heading;
  }

  /** Whether the first source that answered was another replica. */
  get isFromReplica(): boolean {
    return this.#isFromReplica === true;
  }

  /** Counts the times the fill restarted after wrong bytes: bytes of an earlier generation are void. */
  get generation(): number {
    return this.#generation;
  }

  /** The file readers follow; `undefined` before it is open, or where the disk could not open it. */
  get partial(): PartialBlob | undefined {
    return this.#partial;
  }

  /** Up to where readers may read from a position on: everything once verified, until then all but the blob's last part. */
  readableFrom(position: number): number {
    return this.#released(this.#partial?.availableFrom(position) ?? 0);
  }

  /** The bytes from a position on that readers may have and that are still in memory, on their way to the disk. */
  recentFrom(position: number): Loan | undefined {
    return this.#recent.at(position, (available) => this.#released(available));
  }

  /** The bytes from a position on that are still in memory, unverified: for another replica, which verifies them. */
  unverifiedFrom(position: number): Loan | undefined {
    return this.#recent.at(position);
  }

  /** Up to where readers may have bytes, of those that are here up to `available`. */
  #released(available: number): number {
    if (this.#state === 'verified') return available;
    // Without a size, the last part of the bytes so far is held back.
    return Math.min(available, (this.#heading?.size ?? available) - heldBackBytes);
  }

  /** A reader has nothing to read at a position: fetches from there if no transfer will reach it soon. */
  want(position: number): void {
    this.#segments?.want(position);
  }

  /** The error for clients that wait through a repository, after the fill has failed. */
  failure(repository: string): unknown {
    return this.#fatal ?? this.sources.errorFor(repository);
  }

  /** A reader that is handed the bytes from a position on: from now on sources are retried patiently. */
  markHanded(position: number): void {
    this.#handed = true;
    this.#pace.reached(position);
  }

  /** Keeps the partial file open for one more reader. */
  hold(): void {
    this.#holders += 1;
    this.#pace.changed();
  }

  /** Undoes one {@link hold}; the last one closes the file. */
  async release(): Promise<void> {
    this.#holders -= 1;
    this.#pace.changed();
    if (this.#holders === 1) this.#options.onUnwanted();
    if (this.#holders > 0) return;
    this.#recent[Symbol.dispose]();
    await this.#partial?.[Symbol.asyncDispose]();
  }

  /** Ends the fill before its time; the partial file stays for the next run. */
  stop(): void {
    this.#abort.abort(new RegistryError('shutting-down', 'this mirror is shutting down'));
  }

  /**
   * Brings the blob to the disk. Never throws: what went wrong is in {@link state} and {@link failure}. The file stays
   * open until the fill's owner calls {@link release}.
   * @param options `isApart`: another fill has the partial file of the digest; `onReceived`: called when the whole blob
   *   is here, and only its place on the disk is left to be found
   */
  async run({ isApart = false, onReceived }: { isApart?: boolean; onReceived?: () => void } = {}): Promise<void> {
    const { report, digest, store, onStored, route } = this.#options;
    report({ kind: 'fill-started', digest });
    let result: FillResult = 'failed';
    try {
      const partial = await store.ingest(digest, { isApart, memory: this.#options.slabs });
      this.#partial = partial;
      if (partial.written > 0 && !this.#options.isLeftoverOurs()) await partial.restart();
      await this.#receiveVerified(partial);
      result = 'unstored';
      this.#enter('verified');
      onReceived?.();
      const modifiedAtMs = route.isKept ? await partial.commit() : undefined;
      if (modifiedAtMs !== undefined) {
        const { contentType = octetStream } = this.#heading ?? {};
        onStored({ size: partial.written, contentType, modifiedAtMs });
        this.#kept = 'stored';
        result = 'stored';
      } else {
        if (route.isKept) this.#kept = 'refused';
        // Its readers have the file open: for them it stays until they are done.
        await partial.discard();
        result = 'passed';
      }
    } catch (error) {
      await this.#failed(error, { isApart });
    } finally {
      await route.end(result === 'stored');
      report({ kind: 'fill-ended', digest, result });
    }
  }

  async #failed(error: unknown, { isApart }: { isApart: boolean }): Promise<void> {
    if (error instanceof DiskFault) {
      if (error instanceof NoRoom) this.#kept = 'refused';
      else this.report({ kind: 'disk-fault', error });
      if (this.#state === 'running') this.#enter('spilled');
      await this.#partial?.discard();
      return;
    }
    if (this.#abort.signal.aborted) this.#fatal = this.#abort.signal.reason as RegistryError;
    this.#enter('failed');
    if (isApart || this.#partial?.written === 0) await this.#partial?.discard();
  }

  /** Receives until the digest is right. @throws RegistryError when no source is left, DiskFault */
  async #receiveVerified(partial: PartialBlob): Promise<void> {
    const { digest } = this;
    // A partial file of an earlier run may be the whole blob, a part of it, or longer than it.
    if (partial.written > 0 && partial.digest() === digest) {
      this.adoptHeading({ size: partial.written, contentType: octetStream });
      return;
    }
    if (this.expectedSizes.size > 0 && partial.written >= Math.max(...this.expectedSizes)) await partial.restart();
    while (true) {
      const leftover = partial.written > 0;
      let contributors: ReadonlySet<Source>;
      try {
        contributors = await this.#receive(partial);
      } catch (error) {
        // A partial file of an earlier run may be longer than the blob; no client has received anything of it then.
        if (!leftover || this.#handed || error instanceof DiskFault || !this.sources.forgiveRefusedRanges())
          throw error;
        await partial.restart();
        continue;
      }
      const actual = partial.digest();
      if (actual === digest) return;
      const ids = [...contributors].map((source) => source.id);
      this.report({ kind: 'wrong-bytes', digest, sources: ids, actual });
      const error = new RegistryError('wrong-bytes', 'the upstream sent bytes that are not this blob', {
        detail: { expected: digest, actual },
      });
      // The wrong bytes may be those that an earlier run left: then every source gets another chance.
      // A replica passes on unverified bytes: as long as one may be to blame, an upstream is not.
      const replicas = [...contributors].filter((source) => source.replica !== undefined);
      const suspects = replicas.length > 0 ? replicas : contributors;
      if (!leftover) for (const source of suspects) this.sources.condemn(source, error);
      this.#options.route.wrongBytes(replicas);
      // Before the file is restarted, which may fail: the bytes that readers have are void in any case.
      this.#generation += 1;
      this.#recent[Symbol.dispose]();
      this.#handed = false;
      this.#heading = undefined;
      await partial.restart();
      this.progress.wake();
    }
  }

  /** Receives the whole blob once. @returns the sources that gave bytes */
  async #receive(partial: PartialBlob): Promise<ReadonlySet<Source>> {
    const segments = new Segments({
      digest: this.digest,
      partial,
      sources: this.sources,
      route: this.#options.route,
      expectedSizes: this.expectedSizes,
      isAwaited: () => this.#handed,
      report: this.report,
      onAnswer: (source, heading) => {
        if (source.replica === undefined) this.confirmed.add(source.repository);
        this.#isFromReplica ??= source.replica !== undefined;
        this.adoptHeading(heading);
      },
      slabs: this.#options.slabs,
      onReceived: (position, part) => {
        this.receivedBytes += part.end - part.start;
        if (this.readers > 0) this.#recent.add(position, part);
        this.progress.received(position, part.end - part.start);
      },
      onWritten: () => this.progress.wake(),
      pace: this.#pace,
      inParts: this.#options.inParts,
      signal: this.#abort.signal,
    });
    this.#segments = segments;
    await segments.run();
    return segments.contributors;
  }

  /** Takes note of the heading that a source gave; the first one holds. */
  adoptHeading(heading: BlobHeading): void {
    this.#heading ??= heading;
    this.progress.wake();
  }

  #enter(state: FillState): void {
    this.#state = state;
    this.progress.wake();
  }
}
