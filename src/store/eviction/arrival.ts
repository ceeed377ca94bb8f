import type { Digest } from '../../oci/digest.ts';

/** Something that an image consists of: `bytes` is what the manifest says, or what is stored. */
export interface ArrivingPart {
  readonly digest: Digest;
  readonly bytes: number;
  readonly isStored: boolean;
  readonly isPinned?: boolean;
}

/**
 * `expected`: its manifest is here, and nothing of it has been asked for; `waiting`: it is being fetched, and there is no
 * room for all of it yet; `admitted`: its room is reserved; `refused`: it passes through.
 */
export type ArrivalState = 'expected' | 'waiting' | 'admitted' | 'refused';

/** A blob of an image on its way. */
export interface Part {
  readonly digest: Digest;
  bytes: number;
  isStored: boolean;
  /** All its bytes have come: it is stored, or will be once it has room. */
  isReceived: boolean;
  /** It counts as pinned already. */
  readonly isPinned: boolean;
  readonly arrivals: Set<Arrival>;
  /** How many of them are admitted, how many of these last as long as an operation, and how many are still to be received. */
  admitted: number;
  lasting: number;
  arriving: number;
}

/** An image on its way, or what an operation works on. */
export class Arrival {
  readonly manifest: Digest | undefined;
  /** It ends with an operation, however long that takes, and not by itself. */
  readonly isLasting: boolean;
  readonly parts = new Set<Part>();
  state: ArrivalState = 'expected';
  /** Its place among the images of which all has been received. */
  receivedOrder: number | undefined;
  /** When the last of it was received, by the monotonic clock. */
  receivedAtMs: number | undefined;
  /** When something of it was last begun or stored, by the monotonic clock. */
  activeAtMs = performance.now();
  /** Settles when it is admitted, refused or over. */
  readonly decided = Promise.withResolvers<void>();

  constructor(manifest: Digest | undefined, isLasting = false) {
    this.manifest = manifest;
    this.isLasting = isLasting;
  }

  get isComplete(): boolean {
    for (const part of this.parts) if (!part.isStored) return false;
    return true;
  }

  get isReceived(): boolean {
    for (const part of this.parts) if (!part.isReceived) return false;
    return true;
  }
}
