import { Completeness } from '../../../mirror/completeness.ts';
import { KeptManifests } from '../../../mirror/kept-manifests.ts';
import type { Mirror } from '../../../mirror/mirror.ts';
import type { Descriptor } from '../../../oci/descriptor.ts';
import { isNotFound } from '../../../oci/error.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { Room } from '../../../store/eviction/room.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import type { Repository } from '../../../upstream/repository.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import { allOf, Slots } from '../../../waiting/slots.ts';
import type { FetchChoice, FetchEvent, FetchParameters, WantedImages } from '../../protocol/fetch.ts';
import type { SignatureChecks } from '../cache/owned-cache.ts';
import { type BlobAmount, BlobAmounts, bytesOf } from './blob-amounts.ts';
import { bringBlob } from './blob-arrival.ts';
import { EventQueue } from './event-queue.ts';
import { type WalkedBlob, walkImage } from './image-walk.ts';
import { withPatience } from './patience.ts';
import { ReservedRoom } from './reserved-room.ts';
import { expandImages, type WantedImage } from './wanted-images.ts';
import { byRepository, ChosenImages, type ImageChoice, readChoice, withoutUndefined } from './wanted-list.ts';

/** Concurrent requests for manifests and listings. */
const maxQuestions = 8;
/** Minimum time between two events about the same blob, in milliseconds. */
const sayEveryMs = 200;

export interface FetchDependencies {
  readonly mirror: Mirror;
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly room: Pick<Room, 'reserve'>;
  readonly upstreams: UpstreamTable;
  readonly offline: boolean;
  readonly signatures: Pick<SignatureChecks, 'ofUpstream'>;
  /** The mirror's own setting. */
  readonly maxFills: number;
  readonly now: () => number;
  /** Waits for a pause; default: a timer. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Fetches images as clients would, each to its last blob and with everything that refers to it. A failed image does not
 * stop the others; stored content is not fetched again. A reader that stops reading the events ends the fetch.
 * @throws Error in one sentence if nothing can be fetched at all; the signal's reason
 */
export async function* fetchImages(
  parameters: FetchParameters,
  dependencies: FetchDependencies,
  { signal }: { readonly signal: AbortSignal },
): AsyncGenerator<FetchEvent> {
  if (dependencies.offline) throw new Error('this mirror is offline: nothing can be fetched');
  const stop = new AbortController();
  const run = new Fetch(parameters, dependencies, AbortSignal.any([signal, stop.signal]));
  const ended = run.run();
  try {
    yield* run.events;
  } finally {
    stop.abort(new Error('no longer wanted'));
    await ended;
  }
}

class Fetch {
  readonly events = new EventQueue<FetchEvent>();
  readonly #reserved: ReservedRoom;
  readonly #parameters: FetchParameters;
  readonly #dependencies: FetchDependencies;
  readonly #signal: AbortSignal;
  readonly #questions = new Slots(maxQuestions);
  readonly #fills: Slots;
  readonly #completeness: Completeness;
  /** Whether it had to be fetched, by repository and digest. */
  readonly #blobs = new Map<string, Promise<boolean>>();
  /** Progress of each blob that was not stored. */
  readonly #amounts = new BlobAmounts();
  /** Those of them that no client has fetched meanwhile; one amount per digest. */
  readonly #fetchedBlobs = new Set<BlobAmount>();
  readonly #failures: { readonly image: string; readonly error: string }[] = [];
  #images = 0;
  #fetched = 0;

  constructor(parameters: FetchParameters, dependencies: FetchDependencies, signal: AbortSignal) {
    const { store, catalog, maxFills } = dependencies;
    this.#parameters = parameters;
    this.#dependencies = dependencies;
    this.#reserved = new ReservedRoom(dependencies);
    this.#signal = signal;
    // Clients come first: at least half of the slots are theirs.
    this.#fills = new Slots(Math.max(1, Math.min(parameters.concurrency ?? 6, Math.floor(maxFills / 2))));
    const ignore = (): void => undefined;
    const kept = new KeptManifests({ store, catalog, report: ignore });
    this.#completeness = new Completeness({ store, catalog, kept });
  }

  /** Never throws: the events report errors. */
  async run(): Promise<void> {
    try {
      const { images } = this.#parameters;
      await allOf(byRepository(images, this.#dependencies.upstreams).map((lines) => this.#lines(lines)));
      this.#signal.throwIfAborted();
      await this.#dependencies.store.sync();
      const failures = this.#failures;
      const counted = { images: this.#fetched + failures.length, fetched: this.#fetched, failed: failures.length };
      const fetchedBytes = this.#fetchedBlobs.values().reduce((sum, { totalBytes }) => sum + totalBytes, 0);
      this.events.push({ kind: 'end', ...counted, fetchedBytes, failures });
      this.events.end();
    } catch (error) {
      this.events.end({ error });
    } finally {
      this.#reserved[Symbol.dispose]();
    }
  }

  /** Fetches the images of one repository's lines: each image once, with everything that any line requests of it. */
  async #lines(lines: readonly (WantedImages & FetchChoice)[]): Promise<void> {
    const { mirror, upstreams, catalog, now } = this.#dependencies;
    const { manifests, listings } = mirror;
    const signal = this.#signal;
    const chosen = new ChosenImages();
    const expand = async (line: WantedImages & FetchChoice): Promise<void> => {
      const choice = readChoice({ ...this.#parameters, ...withoutUndefined(line) });
      const ask = this.#asking(line.image);
      const images = await expandImages(line, { upstreams, catalog, manifests, listings, ask, signal, now });
      for (const image of images) chosen.add(image, choice);
    };
    await allOf(lines.map((line) => this.#orFailed(line.image, () => expand(line))));
    const fetches = [...chosen.values()].map(({ image, choice }) =>
      this.#orFailed(image.name, () => this.#image(image, choice)),
    );
    await allOf(fetches);
  }

  async #image(image: WantedImage, choice: ImageChoice): Promise<void> {
    const { mirror, signatures, now } = this.#dependencies;
    const { name, target, reference } = image;
    this.#images += 1;
    this.#sayTotal();
    const walked = await walkImage(target, reference, {
      manifests: mirror.manifests,
      listings: mirror.listings,
      ask: this.#asking(name),
      signal: this.#signal,
      now,
      nondistributable: this.#parameters.nondistributable ?? false,
      ...choice,
    });
    const { digest, manifests, referrers, blobs, lacks, leftOut } = walked;
    for (const { digest: absent, reason } of leftOut) {
      this.events.push({ kind: 'left-out', image: name, name: `${target.key}@${absent}`, reason });
    }
    const waiting = { signal: this.#signal };
    const warning = await this.#asking(name)(() => signatures.ofUpstream(target, digest, waiting));
    if (warning !== undefined) this.events.push({ kind: 'warned', image: name, warning });
    const missing = await this.#missing(target, blobs);
    const counted = { blobs: blobs.length, bytes: bytesOf(blobs) };
    this.events.push({
      kind: 'resolved',
      image: name,
      digest,
      manifests,
      referrers,
      lacks,
      ...counted,
      missingBlobs: missing.length,
      missingBytes: bytesOf(missing),
    });
    await this.#reserved.take(walked, this.#signal);
    const arrived = await allOf(missing.map((blob) => this.#blobUnlessGone(image, blob)));
    const fetched = missing.filter((_, index) => arrived[index]);
    const fetchedBytes = fetched.reduce((sum, blob) => sum + this.#amounts.of(blob).totalBytes, 0);
    this.#fetched += 1;
    this.events.push({
      kind: 'fetched',
      image: name,
      digest,
      lacks,
      ...counted,
      fetchedBlobs: fetched.length,
      fetchedBytes,
    });
  }

  async #missing({ key }: Repository, blobs: readonly WalkedBlob[]): Promise<WalkedBlob[]> {
    const missing: WalkedBlob[] = [];
    for (const blob of blobs) {
      if (await this.#completeness.hasBlob(key, blob)) this.#dependencies.catalog.uses.touch(blob.digest);
      else missing.push(blob);
    }
    return missing;
  }

  /** As {@link #blob}; an image is complete without attachments that its upstream no longer has. */
  async #blobUnlessGone(image: WantedImage, blob: WalkedBlob): Promise<boolean> {
    try {
      return await this.#blob(image, blob);
    } catch (error) {
      if (blob.attachment === undefined || !isNotFound(error)) throw error;
      const name = `${image.target.key}@${blob.attachment}`;
      this.events.push({ kind: 'left-out', image: image.name, name, reason: (error as Error).message });
      return false;
    }
  }

  /**
   * Fetches a blob once for all images of its repository.
   * @returns whether it had to be fetched, and was for this image: so that the images add up to the whole
   */
  #blob(image: WantedImage, blob: Descriptor): Promise<boolean> {
    const key = `${image.target.key} ${blob.digest}`;
    const known = this.#blobs.get(key);
    if (known) return known.then(() => false);
    const arrival = this.#arrival(image, blob);
    this.#blobs.set(key, arrival);
    return arrival;
  }

  async #arrival({ name, target }: WantedImage, blob: Descriptor): Promise<boolean> {
    const { mirror, catalog, now } = this.#dependencies;
    const { digest } = blob;
    const signal = this.#signal;
    const amount = this.#amounts.of(blob);
    this.#sayTotal();
    let saidAtMs = Number.NEGATIVE_INFINITY;
    let before = 0;
    const say = (isDone: boolean): void => {
      const { doneBytes, totalBytes } = amount;
      const event = { kind: 'blob', image: name, digest, doneBytes, totalBytes: totalBytes || null, isDone } as const;
      this.events.push(event, `blob ${name} ${digest}`);
      this.#sayTotal();
    };
    const onProgress = (doneBytes: number, totalBytes: number | undefined): void => {
      this.#amounts.set(amount, { doneBytes, totalBytes: totalBytes ?? amount.totalBytes });
      if (now() - saidAtMs < sayEveryMs) return;
      saidAtMs = now();
      say(false);
    };
    const isFetched = await this.#patiently(
      name,
      () => {
        before = amount.doneBytes;
        const { blobs, fills } = mirror;
        const arrival = { catalog, blobs, fills, completeness: this.#completeness };
        return this.#fills.run(() => bringBlob(arrival, { target, blob }, { signal, onProgress }), { signal });
      },
      { hasMoved: () => amount.doneBytes > before },
    );
    this.#amounts.set(amount, { ...amount, doneBytes: amount.totalBytes });
    // Another repository may have fetched it at the same time.
    const isCounted = isFetched && !this.#fetchedBlobs.has(amount);
    if (isCounted) this.#fetchedBlobs.add(amount);
    say(true);
    return isCounted;
  }

  /** Runs requests to upstreams, a limited number at a time. */
  #asking(image: string): <Value>(work: () => Promise<Value>) => Promise<Value> {
    const signal = this.#signal;
    return (work) => this.#patiently(image, () => this.#questions.run(work, { signal }));
  }

  #patiently<Value>(
    image: string,
    work: () => Promise<Value>,
    options: { hasMoved?: () => boolean } = {},
  ): Promise<Value> {
    const { wait } = this.#dependencies;
    return withPatience(work, {
      ...options,
      signal: this.#signal,
      longestPauseMs: this.#parameters.longestPauseMs ?? 15 * 60_000,
      onPause: ({ error, forMs }) => {
        const seconds = Math.ceil(forMs / 1000);
        this.events.push({ kind: 'waiting', image, seconds, reason: error.message }, `waiting ${image}`);
      },
      ...(wait && { wait }),
    });
  }

  /** Errors of an image are reported with it and end nothing else. */
  async #orFailed(image: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#signal.throwIfAborted();
      const failure = { image, error: error instanceof Error ? error.message : String(error) };
      this.#failures.push(failure);
      this.events.push({ kind: 'failed', ...failure });
    }
  }

  #sayTotal(): void {
    const { doneBytes, totalBytes } = this.#amounts;
    this.events.push({ kind: 'total', doneBytes, totalBytes, images: this.#images }, 'total');
  }
}
