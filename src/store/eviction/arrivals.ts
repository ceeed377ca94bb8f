import type { Digest } from '../../oci/digest.ts';
import type { ImageRecords } from '../catalog/image-records.ts';
import { Arrival, type ArrivalState, type ArrivingPart, type Part } from './arrival.ts';
import { Reservations } from './reservations.ts';

export interface ArrivalsOptions {
  readonly images: Pick<ImageRecords, 'partsToCome' | 'parents' | 'namedLately'>;
  /** The limit of all reservations together, in bytes; read each time. */
  readonly limitBytes: () => number;
  /** Whether a blob is being read or brought here. */
  readonly isInUse: (digest: Digest) => boolean;
  /** All of an image is stored. `receivedAgoMs`: how long ago the last of it was received. */
  readonly onArrived?: (digests: readonly Digest[], receivedAgoMs: number) => void;
}

/** An image with more parts than this is not reserved: nothing that is asked grows with what a manifest names. */
export const maxParts = 2000;
/** Most images that are known to be on their way; those that have been quiet for longest are forgotten first. */
const maxArrivals = 1000;
/** An image that loses its room when it has been received may keep this share of its bytes: its config. */
const mostStoredShare = 0.02;
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
  readonly #reservations: Reservations;

  constructor(options: ArrivalsOptions) {
    this.#options = options;
    this.#reservations = new Reservations(options.limitBytes);
  }

  /** Bytes of what is stored of the images that are admitted, in all, each blob once. */
  get heldBytes(): number {
    return this.#reservations.bytes.held;
  }

  /** Bytes that the images that are admitted have still to bring. */
  get comingBytes(): number {
    return this.#reservations.bytes.coming;
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
    const part = this.#parts.get(digest);
    // It was received before, and had no room then.
    if (part?.isStored === false) part.isReceived = false;
    if (part === undefined) {
      for (const manifest of this.#options.images.namedLately(digest)) this.#expect(manifest);
    }
    for (const arrival of this.#parts.get(digest)?.arrivals ?? []) {
      this.#touch(arrival);
      if (arrival.state === 'expected') this.#reservations.ask(arrival);
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

  /**
   * All bytes of a blob have come. An image of which all has come is not on its way any more: it gives way to those that
   * are, and to those received after it.
   */
  received(digest: Digest): void {
    const part = this.#parts.get(digest);
    if (part === undefined || part.isReceived) return;
    part.isReceived = true;
    for (const arrival of part.arrivals) {
      if (arrival.manifest !== undefined && arrival.isReceived) this.#reservations.received(arrival);
    }
    this.settle();
  }

  /**
   * The images that can do without room, those that were received first at the head: they wait for it, or have it, and
   * next to nothing of them is stored yet.
   */
  refusable(): Arrival[] {
    const found: Arrival[] = [];
    for (const arrival of this.#images.values()) {
      const hasRoom = arrival.state === 'admitted' && arrival.receivedOrder !== undefined;
      if (arrival.state === 'waiting' || (hasRoom && storedShare(arrival) <= mostStoredShare)) found.push(arrival);
    }
    const order = ({ receivedOrder = Number.MAX_SAFE_INTEGER }: Arrival): number => receivedOrder;
    return found.toSorted((one, other) => order(one) - order(other));
  }

  /** A blob is counted among what is stored. An image that is complete has arrived. */
  stored(digest: Digest, bytes: number): void {
    this.received(digest);
    const part = this.#parts.get(digest);
    if (part === undefined) return;
    this.#reservations.bytes.change(part, () => {
      part.bytes = bytes;
      part.isStored = true;
    });
    for (const arrival of part.arrivals) {
      this.#touch(arrival);
      if (arrival.manifest === undefined || !arrival.isComplete) continue;
      const receivedAgoMs = performance.now() - (arrival.receivedAtMs ?? performance.now());
      this.#options.onArrived?.(
        [...arrival.parts].map((one) => one.digest),
        receivedAgoMs,
      );
      this.end(arrival);
    }
  }

  /**
   * Something that is to be here at once, as far as there is room for it: an image for an operation, or a blob that no
   * manifest names. It stays until {@link end}.
   */
  reserve(parts: Iterable<ArrivingPart>, { isLasting = false } = {}): Arrival {
    const arrival = new Arrival(undefined, isLasting);
    for (const part of parts) this.#add(arrival, part);
    this.#reservations.ask(arrival);
    return arrival;
  }

  /** Admits what waits and fits, in its order; refuses what can never fit. */
  settle(): void {
    this.#reservations.settle();
  }

  /** There is no room for an image, nor will there be soon: it passes through. */
  refuse(arrival: Arrival): void {
    this.#reservations.refuse(arrival);
  }

  /** Refuses what has waited for the shortest time: what it holds may be all that is left to be evicted. @returns whether anything waits */
  refuseLast(): boolean {
    return this.#reservations.refuseLast();
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
    this.#reservations.end(arrival);
    for (const part of arrival.parts) {
      part.arrivals.delete(arrival);
      if (part.arrivals.size === 0) this.#parts.delete(part.digest);
    }
    if (arrival.manifest !== undefined) this.#images.delete(arrival.manifest);
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
    const parts = images.partsToCome(manifest, maxParts);
    if (parts.every(({ isStored }) => isStored)) return;
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
      isReceived: isStored,
      isPinned,
      arrivals: new Set(),
      admitted: 0,
      lasting: 0,
      arriving: 0,
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
}

/** How much of an image is stored that no other image on its way consists of. */
function storedShare({ parts }: Arrival): number {
  let [stored, all] = [0, 0];
  for (const { bytes, isStored, arrivals } of parts) {
    if (arrivals.size > 1) continue;
    all += bytes;
    if (isStored) stored += bytes;
  }
  return all === 0 ? 1 : stored / all;
}
