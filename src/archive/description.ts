import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { ArchiveError } from './archive-error.ts';
import { asObject, parseObject } from './archived-json.ts';

/** A file at the root of an archive that identifies the archive and its base. */
export const descriptionName = 'millpond.json';

/** A blob by its digest, with its size in bytes. */
export interface BlobSize {
  readonly digest: Digest;
  readonly size: number;
}

/** The description in an archive written by Millpond. */
export interface ArchiveDescription {
  /** Names the archive: the digest of all the rest. */
  readonly id: Digest;
  /** The archive that it builds upon. */
  readonly base: Digest | undefined;
  /** Blobs of its images that are not in it, but in the base or in what that builds upon. */
  readonly needs: readonly BlobSize[];
  /** The content that is here once it and its bases are imported: an archive since this one need not have it. */
  readonly complete: readonly Digest[];
}

/** @param parts `index`: the digest of its `index.json`; lists are sorted here */
export function writeDescription(parts: {
  readonly index: Digest;
  readonly base: Digest | undefined;
  readonly needs: readonly BlobSize[];
  readonly complete: readonly Digest[];
}): { readonly id: Digest; readonly bytes: Buffer } {
  const content = {
    version: 1,
    index: parts.index,
    ...(parts.base && { base: parts.base }),
    needs: parts.needs
      .map(({ digest, size }) => ({ digest, size }))
      .toSorted((one, other) => (one.digest < other.digest ? -1 : 1)),
    complete: parts.complete.toSorted(),
  };
  const id = digestOf(Buffer.from(JSON.stringify(content)));
  return { id, bytes: Buffer.from(JSON.stringify({ archive: id, ...content })) };
}

/** @throws ArchiveError if it was not written by Millpond or has been altered */
export function readDescription(bytes: Buffer, index: Digest): ArchiveDescription {
  const { archive, ...content } = parseObject(bytes, descriptionName);
  const { base, needs, complete } = content;
  if (typeof content['version'] === 'number' && content['version'] > 1) {
    throw new ArchiveError('a newer version of Millpond has made it');
  }
  const isWhole =
    archive === digestOf(Buffer.from(JSON.stringify(content))) &&
    content['index'] === index &&
    (base === undefined || isDigestText(base)) &&
    Array.isArray(needs) &&
    needs.every(isBlobSize) &&
    Array.isArray(complete) &&
    complete.every(isDigestText);
  if (!isWhole) throw new ArchiveError(`its ${descriptionName} or index.json has been altered`);
  return { id: archive as Digest, base, needs, complete };
}

function isDigestText(value: unknown): value is Digest {
  return typeof value === 'string' && isDigest(value);
}

function isBlobSize(value: unknown): value is BlobSize {
  const { digest, size } = asObject(value);
  return isDigestText(digest) && Number.isSafeInteger(size) && (size as number) >= 0;
}
