import { type Digest, isDigest } from '../oci/digest.ts';
import type { ListingAnswer } from '../oci/listing.ts';

/** Which repository is meant, as the cache names it, and how the asking replica reaches its upstream. */
interface Through {
  readonly through: string;
  readonly access: string;
}

/** A question of one replica to another about what an upstream has said; all values travel in a query string. */
export type ReplicaQuestion = Through &
  (
    | { readonly kind: 'tag'; readonly tag: string; readonly variant: string }
    | { readonly kind: 'right'; readonly digest: string }
    | { readonly kind: 'list'; readonly name: string }
  );

/** A tag as an upstream confirmed it, and how long ago. */
export interface LentTag {
  readonly digest: Digest;
  readonly contentType: string;
  readonly size: number;
  readonly ageMs: number;
}

/** Another replica's word that the upstream has confirmed a digest in a repository. */
export interface LentRight {
  /** Bytes; `undefined` if not known. */
  readonly size: number | undefined;
  readonly contentType: string;
  /** Whether the upstream has also shown that it has these bytes. */
  readonly isShown: boolean;
}

/** A list as an upstream gave it, and how long ago. */
export interface LentList {
  readonly answer: ListingAnswer;
  readonly ageMs: number;
}

/** Reads a question from a query string. @returns `undefined` if it is none */
export function readQuestion(query: string): ReplicaQuestion | undefined {
  const { kind, through, access, tag, variant, digest, name } = Object.fromEntries(new URLSearchParams(query));
  if (through === undefined || access === undefined) return undefined;
  if (kind === 'tag' && tag !== undefined && variant !== undefined) return { kind, through, access, tag, variant };
  if (kind === 'right' && digest !== undefined && isDigest(digest)) return { kind, through, access, digest };
  if (kind === 'list' && name !== undefined) return { kind, through, access, name };
  return undefined;
}

/** @returns `undefined` if another replica's answer is not one about a tag */
export function readLentTag(answer: unknown): LentTag | undefined {
  const { digest, contentType, size, ageMs } = membersOf(answer);
  if (typeof digest !== 'string' || !isDigest(digest) || typeof contentType !== 'string') return undefined;
  if (!isCount(size) || !isCount(ageMs)) return undefined;
  return { digest, contentType, size, ageMs };
}

/** @returns `undefined` if another replica's answer is not one about a right */
export function readLentRight(answer: unknown): LentRight | undefined {
  const { size, contentType, isShown } = membersOf(answer);
  if (typeof contentType !== 'string' || typeof isShown !== 'boolean') return undefined;
  return { size: isCount(size) ? size : undefined, contentType, isShown };
}

/** @returns `undefined` if another replica's answer is not a list */
export function readLentList(answer: unknown): LentList | undefined {
  const { body, contentType, nextQuery, filtersApplied, ageMs } = membersOf(answer);
  if (typeof body !== 'string' || typeof contentType !== 'string' || !isCount(ageMs)) return undefined;
  const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  return {
    answer: {
      bytes: Buffer.from(body),
      contentType,
      nextQuery: textOf(nextQuery),
      filtersApplied: textOf(filtersApplied),
    },
    ageMs,
  };
}

function membersOf(answer: unknown): Readonly<Record<string, unknown>> {
  return typeof answer === 'object' && answer !== null ? (answer as Record<string, unknown>) : {};
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
