import { crc32 } from 'node:zlib';
import { type Digest, isDigest } from '../../oci/digest.ts';

/** Something about the blobs on this disk that they do not say themselves. Repositories as the cache names them. */
export type NameEntry =
  /** A repository has a manifest: its bytes say what else the repository may read. */
  | { readonly kind: 'manifest'; readonly repository: string; readonly digest: Digest; readonly contentType: string }
  | {
      readonly kind: 'tag';
      readonly repository: string;
      readonly tag: string;
      readonly variant: string;
      readonly digest: Digest;
      readonly contentType: string;
      readonly size: number;
      readonly checkedAtMs: number;
    }
  | {
      readonly kind: 'tag gone';
      readonly repository: string;
      readonly tag: string;
      readonly variant: string;
      readonly atMs: number;
    }
  /** A right that no manifest here gives; `size` as the repository's manifest said, -1: none did. */
  | { readonly kind: 'grant'; readonly repository: string; readonly digest: Digest; readonly size: number }
  /** A repository may read something no more: an operator has removed the image. */
  | { readonly kind: 'right gone'; readonly repository: string; readonly digest: Digest }
  /** The `Content-Type` of a blob that came with an unusual one. */
  | { readonly kind: 'type'; readonly digest: Digest; readonly contentType: string }
  /** An upstream has shown that it has a blob's bytes, where others claim to have them too. */
  | { readonly kind: 'shown'; readonly digest: Digest; readonly upstream: string }
  | { readonly kind: 'pin'; readonly repository: string; readonly reference: string; readonly atMs: number }
  | { readonly kind: 'unpin'; readonly repository: string; readonly reference: string };

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => Number.isFinite(value);
const digest: Check = (value) => typeof value === 'string' && isDigest(value);

const members: Readonly<Record<NameEntry['kind'], Readonly<Record<string, Check>>>> = {
  manifest: { repository: text, digest, contentType: text },
  tag: { repository: text, tag: text, variant: text, digest, contentType: text, size: number, checkedAtMs: number },
  'tag gone': { repository: text, tag: text, variant: text, atMs: number },
  grant: { repository: text, digest, size: number },
  'right gone': { repository: text, digest },
  type: { digest, contentType: text },
  shown: { digest, upstream: text },
  pin: { repository: text, reference: text, atMs: number },
  unpin: { repository: text, reference: text },
};

const memberNames = ['kind', ...new Set(Object.values(members).flatMap((checks) => Object.keys(checks)))];

/** An entry as a line: a checksum, a space, JSON with the members above and no others, a line end. */
export function lineOf(entry: NameEntry): string {
  const json = JSON.stringify(entry, memberNames);
  return `${checksum(json)} ${json}\n`;
}

/** Reads a line without its end; `undefined` for anything that is not exactly what {@link lineOf} has written. */
export function entryOf(line: string): NameEntry | undefined {
  const json = line.slice(9);
  // A flipped bit could turn the name of a repository into that of another one, and give it a right.
  if (line[8] !== ' ' || line.slice(0, 8) !== checksum(json)) return undefined;
  try {
    const entry = JSON.parse(json) as Record<string, unknown>;
    const kind = String(entry['kind']) as NameEntry['kind'];
    const isRight =
      Object.hasOwn(members, kind) && Object.entries(members[kind]).every(([name, check]) => check(entry[name]));
    return isRight ? (entry as unknown as NameEntry) : undefined;
  } catch {
    return undefined;
  }
}

/** The first line of a journal, which no entry is: when it begins, in milliseconds since 1970. */
export function beginningOf(begunAtMs: number): string {
  const json = JSON.stringify({ begunAtMs });
  return `${checksum(json)} ${json}\n`;
}

/** Reads the first line of a journal without its end; 0: it does not say when the journal begins. */
export function begunAtMsOf(line: string): number {
  const json = line.slice(9);
  if (line[8] !== ' ' || line.slice(0, 8) !== checksum(json)) return 0;
  try {
    const { begunAtMs } = JSON.parse(json) as Record<string, unknown>;
    return typeof begunAtMs === 'number' ? begunAtMs : 0;
  } catch {
    return 0;
  }
}

function checksum(json: string): string {
  return crc32(json).toString(16).padStart(8, '0');
}
