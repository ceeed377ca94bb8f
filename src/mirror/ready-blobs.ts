import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { blobFact, rightFact } from '../oci/facts.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { smallBlobBytes } from '../store/files/blob-store.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Fills } from './fill/fills.ts';
import type { Standing } from './standing.ts';

export interface ReadyBlobsOptions {
  readonly catalog: Pick<Catalog, 'blobs' | 'grants'>;
  readonly fills: Pick<Fills, 'has'>;
  /** The content of a small blob from memory; `undefined` where it is not in memory. */
  readonly small: (digest: Digest) => Buffer | undefined;
  /** As `small`, from its file, as far as the system has that in memory. It is not verified. */
  readonly readNow: (digest: Digest) => Buffer | undefined;
  /** The file of a blob. */
  readonly pathOf: (digest: Digest) => string;
}

/** A stored blob that can be answered in this turn of the event loop. */
export interface ReadyBlob {
  readonly digest: Digest;
  readonly size: number;
  readonly contentType: string;
  readonly outcome: 'hit';
  /** Verified content of a small blob. Absent: it is in the file of its standing, which has to be as recorded. */
  readonly bytes: Buffer | undefined;
  readonly standing: Standing;
}

/** Stored blobs for which nothing has to be waited for, neither an upstream nor the disk. */
export class ReadyBlobs {
  readonly #options: ReadyBlobsOptions;

  constructor(options: ReadyBlobsOptions) {
    this.#options = options;
  }

  /** @returns `undefined` where anything is to be found out first, such as the right to read it or whether its file is right */
  get(repository: Repository, digest: Digest): ReadyBlob | undefined {
    const { catalog, fills, pathOf } = this.#options;
    const { key, upstream } = repository;
    const record = catalog.blobs.get(digest);
    if (record === undefined || !catalog.grants.isReadable(key, digest)) return undefined;
    if (fills.has(digest, upstream.name)) return undefined;
    const { size, modifiedAtMs, contentType } = record;
    const facts = [blobFact(digest), rightFact(key, digest)];
    const known = { digest, size, contentType, outcome: 'hit' as const };
    if (size > smallBlobBytes) {
      if (modifiedAtMs === undefined) return undefined;
      const file = { path: pathOf(digest), size, modifiedAtMs };
      return { ...known, bytes: undefined, standing: { digest, facts, file } };
    }
    const bytes = this.#verified(digest);
    return bytes?.length === size ? { ...known, bytes, standing: { digest, facts } } : undefined;
  }

  #verified(digest: Digest): Buffer | undefined {
    const { small, readNow } = this.#options;
    const kept = small(digest);
    if (kept !== undefined) return kept;
    const bytes = readNow(digest);
    // The application moves a wrong file to the quarantine.
    return bytes && digestOf(bytes, digestAlgorithm(digest)) === digest ? bytes : undefined;
  }
}
