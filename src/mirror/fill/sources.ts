import type { Slabs } from '../../memory/slabs.ts';
import type { Digest } from '../../oci/digest.ts';
import { hasReason, isNotFound, isTransient, RegistryError } from '../../oci/error.ts';
import type { BlobAnswer } from '../../upstream/client.ts';
import type { Repository } from '../../upstream/repository.ts';

/** Somewhere the bytes of a blob can come from. */
export interface Source {
  /** Tells sources apart. */
  readonly id: string;
  /** Name of the upstream it belongs to. */
  readonly upstream: string;
  /** The repository, as the cache names it, whose right to the blob an answer of this source confirms. */
  readonly repository: string;
  /** The id of the other replica that it is; its answers confirm no right. Absent: not a replica. */
  readonly replica?: string;
  /** How many connections all replicas together may have to the upstream; absent: any number. */
  readonly maxConnections?: number;
  /** How many connections it may be given for one blob; more than 1 where each has a share of its own. */
  readonly connections: number;
  /** @throws RegistryError as BlobEndpoint.openBlob of the upstream's client */
  open(
    digest: Digest,
    options: { offset: number; end?: number; size?: number; memory?: Slabs; signal: AbortSignal },
  ): Promise<BlobAnswer>;
}

/** A request for a blob, as a fill sees it. */
export interface Joiner {
  /** The repository it is read through. */
  readonly repository: Repository;
  /** Where the bytes can come from; default: the upstream of the repository. */
  readonly sources?: readonly Source[];
  /** Bytes, as the repository's manifest says. */
  readonly expectedSize: number | undefined;
  /** Whether only a part of it is wanted now. */
  readonly isRanged: boolean;
  /** Whether it is to be kept here even where other replicas are the ones that keep it. */
  readonly isOwned?: boolean;
  /** Whether its sources are free of charge, so that no other replica is asked. */
  readonly isLocal?: boolean;
}

/** Each URL of an upstream as a source, in the configured order. */
export function upstreamSources(repository: Repository): Source[] {
  return repository.upstream.client.endpoints.map((endpoint) => ({
    id: `${repository.key} ${endpoint.url}`,
    upstream: repository.upstream.name,
    maxConnections: repository.upstream.maxConnections,
    connections: repository.upstream.connectionsPerBlob,
    repository: repository.key,
    open: (digest, options) => endpoint.openBlob(repository.name, digest, options),
  }));
}

export interface NextOptions {
  readonly patience: number;
  readonly ranged: boolean;
  /** Other replicas are left out. */
  readonly withoutReplicas?: boolean;
  readonly except?: { has(source: Source): boolean };
}

interface Entry {
  readonly source: Source;
  /** Failures since this source last gave a byte. */
  failures: number;
  /** It has given bytes: that it does not have the blob is no longer an answer. */
  hasGiven: boolean;
  /** It has been left for another one because it was too slow. */
  isSlow: boolean;
  /** It has answered a `Range` with the whole blob: parts of it cannot be had here. */
  ignoresRange: boolean;
  /** The answer after which there is no point in asking again: not here, not allowed, wrong bytes. */
  verdict: unknown;
  lastError: unknown;
}

/** The sources of one blob, added by each request that joins, with the result of each. */
export class SourceList {
  readonly #entries: Entry[] = [];
  /** Size beyond which no source may give a blob, in bytes. */
  readonly maxBytes: number;

  constructor(maxBytes = Number.POSITIVE_INFINITY) {
    this.maxBytes = maxBytes;
  }

  add(sources: readonly Source[]): void {
    for (const source of sources) {
      if (this.#entries.some((entry) => entry.source.id === source.id)) continue;
      const fresh = { failures: 0, hasGiven: false, isSlow: false, ignoresRange: false };
      this.#entries.push({ source, ...fresh, verdict: undefined, lastError: undefined });
    }
  }

  /** Every source that was brought along. */
  get all(): readonly Source[] {
    return this.#entries.map((entry) => entry.source);
  }

  /**
   * The source to try next: in the order given, one that has failed twice in a row after those that have not.
   * @param options.patience how many failures in a row a source is allowed
   * @param options.ranged only sources that, as far as is known, give parts of a blob
   * @param options.except sources to leave alone for now
   */
  next({ patience, ranged, except, withoutReplicas }: NextOptions): Source | undefined {
    // Where each may fail but once or twice, all are asked once before any is asked again.
    const rounds = ({ failures }: Entry): number => (patience > 2 ? failures >> 1 : failures);
    return this.#entries
      .filter(({ verdict, failures }) => verdict === undefined && failures < patience)
      .filter(({ ignoresRange }) => !ranged || !ignoresRange)
      .filter(({ source }) => except?.has(source) !== true && (!withoutReplicas || source.replica === undefined))
      .toSorted((a, b) => Number(a.isSlow) - Number(b.isSlow) || rounds(a) - rounds(b))[0]?.source;
  }

  /** Whether there is another source, as far as is known neither slow nor useless, that could go on from where one is. */
  hasOther(source: Source): boolean {
    return this.#entries.some((entry) => {
      const isUseful = entry.verdict === undefined && !entry.isSlow && !entry.ignoresRange;
      return isUseful && entry.source.id !== source.id && entry.source.replica === undefined;
    });
  }

  /** The source was too slow, and another one goes on: it is asked again only where none of the others is left. */
  slowed(source: Source, error: unknown): void {
    const entry = this.#entry(source);
    entry.isSlow = true;
    entry.lastError = error;
  }

  /** How many connections the sources together find right for one blob. */
  get connections(): number {
    return Math.max(1, ...this.#entries.filter((entry) => !entry.ignoresRange).map(({ source }) => source.connections));
  }

  /** Whether any source is left that, as far as is known, gives parts of a blob. */
  get hasRanged(): boolean {
    return this.#entries.some((entry) => entry.verdict === undefined && !entry.ignoresRange);
  }

  /** The source has answered a `Range` with the whole blob. */
  noteIgnoredRange(source: Source): void {
    this.#entry(source).ignoresRange = true;
  }

  /** The source has given bytes. */
  progressed(source: Source): void {
    const entry = this.#entry(source);
    entry.failures = 0;
    entry.hasGiven = true;
  }

  /** Nothing was sent to the source. That is no failure of it; the error is the reason if no source gives anything. */
  refused(source: Source, error: unknown): void {
    this.#entry(source).lastError = error;
  }

  /** @param options `isFinal`: there is no point in asking again */
  failed(source: Source, error: unknown, { isFinal = false } = {}): void {
    const entry = this.#entry(source);
    entry.failures += 1;
    if (isFinal || !isTransient(error)) entry.verdict = error;
    entry.lastError = entry.hasGiven && isNotFound(error) ? withoutRest(error) : error;
  }

  /**
   * Gives those sources another chance that refused to continue at an offset (416): it lay outside the blob.
   * @returns whether there were any
   */
  forgiveRefusedRanges(): boolean {
    const refused = this.#entries.filter(({ lastError }) => hasReason(lastError, 'range-refused'));
    for (const entry of refused) {
      entry.failures = 0;
      entry.verdict = undefined;
      entry.lastError = undefined;
    }
    return refused.length > 0;
  }

  /** The source gave bytes that are not the blob: no user of this list asks it again. */
  condemn(source: Source, error: unknown): void {
    const entry = this.#entry(source);
    entry.verdict = error;
    entry.lastError = error;
  }

  /**
   * The error for clients that wait through a repository: of its own sources if they gave one. A failure to answer counts
   * for more than a definite "not here" from another URL.
   */
  errorFor(repository: string): unknown {
    const own = this.#entries.filter((entry) => entry.source.repository === repository);
    const errors = (own.length > 0 ? own : this.#entries)
      .map((entry) => entry.lastError)
      .filter((e) => e !== undefined);
    return (
      errors.find((error) => isTransient(error)) ??
      errors.find((error) => error instanceof RegistryError) ??
      errors[0] ??
      new RegistryError('no-source', 'no upstream is left that could give this blob')
    );
  }

  #entry(source: Source): Entry {
    return this.#entries.find((entry) => entry.source.id === source.id)!;
  }
}

function withoutRest(cause: unknown): RegistryError {
  return new RegistryError('cut', 'the upstream gave a part of this blob, and now says that it does not have it', {
    cause,
  });
}

/** Decides which source a fill reads next, and learns the result. */
export interface Route {
  /** Whether the blob is to be kept on this disk. */
  readonly isKept: boolean;
  /** Whether it reads from another replica now. */
  readonly isFollowing: boolean;
  /** Whether other replicas may read the bytes that it has so far. */
  readonly isServing: boolean;
  /** The source to read from; `undefined` if none is left. @throws the signal's reason */
  next(options: NextOptions, signal: AbortSignal): Promise<Source | undefined>;
  /** Aborted when a source is no longer the one to read from. */
  guard(source: Source): AbortSignal | undefined;
  /** Call it before a source is opened; dispose the result when the connection is finished. @throws the signal's reason */
  enter(source: Source, signal: AbortSignal): Promise<AsyncDisposable | undefined>;
  /** Bytes have arrived. */
  received(): void;
  failed(source: Source, error: unknown): void;
  /** These replicas sent bytes of a transfer that was not the blob. */
  wrongBytes(replicas: readonly Source[]): void;
  /** The fill is over. */
  end(isStored: boolean): Promise<void>;
}

/** The sources in their order, without coordination. */
export class DirectRoute implements Route {
  readonly isKept = true;
  readonly isFollowing = false;
  readonly isServing = false;
  readonly #sources: SourceList;

  constructor(sources: SourceList) {
    this.#sources = sources;
  }

  next(options: NextOptions): Promise<Source | undefined> {
    return Promise.resolve(this.#sources.next(options));
  }

  guard(): AbortSignal | undefined {
    return undefined;
  }

  enter(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  received(): void {}

  failed(): void {}

  wrongBytes(): void {}

  async end(): Promise<void> {}
}
