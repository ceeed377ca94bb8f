import type { Digest } from '../../oci/digest.ts';
import type { ImageRecords } from '../catalog/image-records.ts';
import { Arrival, type ArrivalState, type ArrivingPart, type Part } from './arrival.ts';

export interface ArrivalsOptions {
  readonly images: Pick<ImageRecords, 'partsToCome' | 'parents' | 'namedLately'>;
  /** What all that is reserved may take together, in bytes; asked again each time. */
  readonly limitBytes: () => number;
  /** Whether a blob is being read or brought here. */
  readonly isInUse: (digest: Digest) => boolean;
}

/** An image with more parts than this is not reserved: nothing that is asked grows with what a manifest names. */
export const maxParts = 2000;
/** Most images that are known to be on their way; those that have been quiet for longest are forgotten first. */
const maxArrivals = 1000;
/** An image of which nothing was begun or stored for so long, and nothing is being read, is not on its way any more. */
const quietMs = 60_000;

/**
 * The images that are on their way to this disk, each with all that it consists of. Room for them is reserved whole, so
 * that an image that has been begun can be completed; what is reserved is never evicted. Keeps numbers only: see
 * `room.ts`.
 */
export class Arrivals {
  readonly #options: ArrivalsOptions;
  /** By manifest, those that have been quiet for longest first. */
  readonly #images = new Map<Digest, Arrival>();
  readonly #parts = new Map<Digest, Part>();
  /** Manifests that have been recorded and not been looked at yet. */
  readonly #recorded = new Set<Digest>();
  /** In the order in which they began to wait. */
  readonly #waiting = new Set<Arrival>();
  #heldBytes = 0;
  #comingBytes = 0;
  #lastingBytes = 0;

  constructor(options: ArrivalsOptions) {
    this.#options = options;
  }

  /** Bytes of what is stored of the images that are admitted, in all, each blob once. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Bytes that the images that are admitted have still to bring. */
  get comingBytes(): number {
    return this.#comingBytes;
  }

  /** A manifest has been recorded: its image may be on its way. */
  recorded(manifest: Digest): void {
    this.#recorded.add(manifest);
  }

  /** A manifest was asked for: an image that was refused has another chance, unless something of it is under way. */
  used(manifest: Digest): void {
    const image = this.#images.get(manifest);
    if (image?.state !== 'refused') return;
    for (const { digest, isStored } of image.parts) if (!isStored && this.#options.isInUse(digest)) return;
    this.end(image);
    this.#recorded.add(manifest);
  }

  /** A blob is about to be brought here: its images are on their way, and ask for room. */
  begun(digest: Digest): void {
    this.#takeIn();
    if (!this.#parts.has(digest)) {
      for (const manifest of this.#options.images.namedLately(digest)) this.#expect(manifest);
    }
    for (const arrival of this.#parts.get(digest)?.arrivals ?? []) {
      this.#touch(arrival);
      if (arrival.state === 'expected') this.#ask(arrival);
    }
  }

  /** How far the image of a blob has come: of several, the one that has come farthest. `undefined`: none is known. */
  stateOf(digest: Digest): ArrivalState | undefined {
    const states = new Set([...(this.#parts.get(digest)?.arrivals ?? [])].map(({ state }) => state));
    return (['admitted', 'waiting', 'expected', 'refused'] as const).find((state) => states.has(state));
  }

  /** Whether a blob is part of an image that is on its way, or worked on. */
  holds(digest: Digest): boolean {
    this.#takeIn();
    for (const { state } of this.#parts.get(digest)?.arrivals ?? []) if (state !== 'refused') return true;
    return false;
  }

  /** The images of a blob that wait for room. */
  waitingFor(digest: Digest): Arrival[] {
    return [...(this.#parts.get(digest)?.arrivals ?? [])].filter(({ state }) => state === 'waiting');
  }

  /** A blob is counted among what is stored. An image that is complete has arrived. */
  stored(digest: Digest, bytes: number): void {
    const part = this.#parts.get(digest);
    if (part === undefined) return;
    this.#change(part, () => {
      part.bytes = bytes;
      part.isStored = true;
    });
    for (const arrival of part.arrivals) {
      this.#touch(arrival);
      if (arrival.manifest !== undefined && arrival.isComplete) this.end(arrival);
    }
  }

  /**
   * Something that is to be here at once, as far as there is room for it: an image for an operation, or a blob that no
   * manifest names. It stays until {@link end}.
   */
  reserve(parts: Iterable<ArrivingPart>, { isLasting = false } = {}): Arrival {
    const arrival = new Arrival(undefined, isLasting);
    for (const part of parts) this.#add(arrival, part);
    this.#ask(arrival);
    return arrival;
  }

  /** Admits what waits and fits, in its order; refuses what can never fit. */
  settle(): void {
    for (const arrival of this.#waiting) {
      if (this.#lacks(arrival) > 0) {
        // The next one waits for its turn: else a large image would wait for ever.
        if (this.#neverFits(arrival)) this.refuse(arrival);
        else break;
      } else {
        this.#admit(arrival);
      }
    }
  }

  /** There is no room for an image, nor will there be soon: it passes through. */
  refuse(arrival: Arrival): void {
    this.#waiting.delete(arrival);
    arrival.state = 'refused';
    arrival.decided.resolve();
  }

  /** Refuses what has waited for the shortest time: what it holds may be all that is left to be evicted. @returns whether anything waits */
  refuseLast(): boolean {
    const last = [...this.#waiting].at(-1);
    if (last !== undefined) this.refuse(last);
    return last !== undefined;
  }

  /** Forgets the images of which nothing has come for long. */
  forgetQuiet(): void {
    this.#takeIn();
    const sinceMs = performance.now() - quietMs;
    for (const arrival of this.#images.values()) {
      if (arrival.activeAtMs > sinceMs) break;
      const isMoving = [...arrival.parts].some(({ digest, isStored }) => !isStored && this.#options.isInUse(digest));
      if (isMoving) this.#touch(arrival);
      else this.end(arrival);
    }
  }

  /** It has arrived, or will not. */
  end(arrival: Arrival): void {
    const wasAdmitted = arrival.state === 'admitted';
    this.#waiting.delete(arrival);
    for (const part of arrival.parts) {
      if (wasAdmitted) this.#admitPart(part, arrival, -1);
      part.arrivals.delete(arrival);
      if (part.arrivals.size === 0) this.#parts.delete(part.digest);
    }
    if (arrival.manifest !== undefined) this.#images.delete(arrival.manifest);
    arrival.decided.resolve();
    this.settle();
  }

  /** Looks at the manifests that have been recorded. */
  #takeIn(): void {
    for (const manifest of this.#recorded) {
      this.#recorded.delete(manifest);
      this.#expect(manifest);
    }
  }

  #expect(manifest: Digest): void {
    if (this.#images.has(manifest)) return;
    const { images } = this.#options;
    const parts = images.partsToCome(manifest, maxParts + 1);
    if (parts.length > maxParts || parts.every(({ isStored }) => isStored)) return;
    const arrival = new Arrival(manifest);
    this.#images.set(manifest, arrival);
    for (const part of parts) this.#add(arrival, part);
    // Of no size that matters, and the image is not whole without them.
    for (const digest of [manifest, ...images.parents(manifest).slice(0, maxParts)]) {
      this.#add(arrival, { digest, bytes: 0, isStored: true });
    }
    const [quietest] = this.#images.values();
    if (this.#images.size > maxArrivals && quietest !== undefined) this.end(quietest);
  }

  #add(arrival: Arrival, { digest, bytes, isStored, isPinned = false }: ArrivingPart): void {
    const known = this.#parts.get(digest);
    const part = known ?? {
      digest,
      bytes: Math.max(0, bytes),
      isStored,
      isPinned,
      arrivals: new Set(),
      admitted: 0,
      lasting: 0,
    };
    if (known === undefined) this.#parts.set(digest, part);
    part.arrivals.add(arrival);
    arrival.parts.add(part);
  }

  #touch(arrival: Arrival): void {
    arrival.activeAtMs = performance.now();
    if (arrival.manifest === undefined || !this.#images.delete(arrival.manifest)) return;
    this.#images.set(arrival.manifest, arrival);
  }

  #ask(arrival: Arrival): void {
    arrival.state = 'waiting';
    this.#waiting.add(arrival);
    this.settle();
  }

  #admit(arrival: Arrival): void {
    this.#waiting.delete(arrival);
    arrival.state = 'admitted';
    for (const part of arrival.parts) this.#admitPart(part, arrival, 1);
    arrival.decided.resolve();
  }

  /** How many bytes are missing for an image to be admitted. */
  #lacks(arrival: Arrival): number {
    let bytes = 0;
    for (const part of arrival.parts) if (part.admitted === 0 && !part.isPinned) bytes += part.bytes;
    return this.#heldBytes + this.#comingBytes + bytes - this.#options.limitBytes();
  }

  #neverFits(arrival: Arrival): boolean {
    let bytes = 0;
    for (const part of arrival.parts) if (!part.isPinned && part.lasting === 0) bytes += part.bytes;
    return this.#lastingBytes + bytes > this.#options.limitBytes();
  }

  #admitPart(part: Part, { isLasting }: Arrival, by: 1 | -1): void {
    this.#change(part, () => {
      part.admitted += by;
      if (isLasting) part.lasting += by;
    });
  }

  /** Changes a part; what is held and what is to come are counted again. */
  #change(part: Part, change: () => void): void {
    this.#count(part, -1);
    change();
    this.#count(part, 1);
  }

  #count({ admitted, lasting, isPinned, isStored, bytes }: Part, sign: 1 | -1): void {
    if (admitted === 0 || isPinned) return;
    if (lasting > 0) this.#lastingBytes += sign * bytes;
    if (isStored) this.#heldBytes += sign * bytes;
    else this.#comingBytes += sign * bytes;
  }
}
