import { createHash } from 'node:crypto';
import type { Digest } from '../oci/digest.ts';

/**
 * The replicas that keep a blob, best first: those with the highest hash of blob and replica (rendezvous hashing). When a
 * replica joins or leaves, only its share moves.
 * @param copies how many; all replicas if there are no more
 */
export function ownersOf(digest: Digest, replicas: readonly string[], copies: number): string[] {
  return replicas
    .map((id) => ({ id, weight: createHash('sha256').update(`${digest} ${id}`).digest().readUIntBE(0, 6) }))
    .toSorted((one, other) => other.weight - one.weight || (one.id < other.id ? -1 : 1))
    .slice(0, copies)
    .map(({ id }) => id);
}
