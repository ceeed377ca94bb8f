import { type Digest, digestOf } from '../../src/oci/digest.ts';
import type { Arrivals } from '../../src/store/eviction/arrivals.ts';

export const digest = (name: string): Digest => digestOf(Buffer.from(name));

/** A part of an image; by itself neither stored nor pinned. */
export const part = (name: string, bytes: number, more: { isStored?: boolean; isPinned?: boolean } = {}) => ({
  digest: digest(name),
  bytes,
  isStored: false,
  isPinned: false,
  ...more,
});

export type PartOf = ReturnType<typeof part>;

/** What is held for images, and what is still to come of them. */
export const bytesOf = ({ heldBytes, comingBytes }: Arrivals) => [heldBytes, comingBytes];
