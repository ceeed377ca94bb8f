import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { SingleFlight } from '../../waiting/single-flight.ts';
import type { Catalog } from '../catalog/catalog.ts';
import { type BlobStore, DiskFault, type StoredBlob } from '../files/blob-store.ts';
import type { Verdict, Verification } from '../files/verification.ts';

/** Why a stored file is not served without a check. */
export type Doubt =
  /** Its size differs from its blob's. */
  | 'size'
  /** It has been written to since it was last verified. */
  | 'modified'
  /** It was never verified: it is left from a crash, or the catalog was lost. */
  | 'unverified';

export interface CustodyOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly check: Verification['check'];
  /** A stored blob had been altered and has been set aside. */
  readonly onAltered: (digest: Digest) => void;
}

/** Makes sure that what is served from disk is what was stored: files in doubt are read again first. */
export class Custody implements AsyncDisposable {
  readonly #options: CustodyOptions;
  readonly #looks = new SingleFlight<number | undefined>();
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: CustodyOptions) {
    this.#options = options;
  }

  /** Whether anything is wrong with a stored blob, as far as can be told without reading it. */
  doubt(digest: Digest, blob: StoredBlob): Doubt | undefined {
    // Small enough to have been hashed when it was opened.
    if (blob.modifiedAtMs === undefined) return undefined;
    const record = this.#options.catalog.blobs.get(digest);
    if (record?.modifiedAtMs === undefined) return 'unverified';
    if (record.size !== blob.size) return 'size';
    return record.modifiedAtMs === blob.modifiedAtMs ? undefined : 'modified';
  }

  /**
   * Verifies a blob in doubt, once for all concurrent callers. A wrong one is set aside.
   * @returns the modification time of the right file, in milliseconds; `undefined`: there is none
   * @throws DiskFault; the signal's reason
   */
  async look(digest: Digest, doubt: Doubt, waiting: { readonly signal: AbortSignal }): Promise<number | undefined> {
    return await this.#looks.run(digest, () => this.#tracked(this.#look(digest, doubt)), waiting);
  }

  /**
   * Acts on the result of a check: right and new content is recorded, wrong content set aside, missing content forgotten.
   * @returns whether the blob is stored and right
   * @throws DiskFault
   */
  async settle(verdict: Verdict): Promise<boolean> {
    const { store, catalog, onAltered } = this.#options;
    switch (verdict.kind) {
      case 'ok':
      case 'misrecorded':
        catalog.blobs.noteRight(verdict.digest, verdict);
        return true;
      case 'unrecorded': {
        const file = await store.stat(verdict.digest);
        if (file) catalog.blobs.adopt(verdict.digest, { ...file, modifiedAtMs: verdict.modifiedAtMs });
        return file !== undefined;
      }
      case 'altered':
      case 'truncated':
        try {
          await store.setAside(verdict.digest);
        } finally {
          // If it stays, it is no longer trusted: the next request reads it again.
          catalog.blobs.forget(verdict.digest);
        }
        onAltered(verdict.digest);
        return false;
      case 'missing':
        catalog.blobs.forget(verdict.digest);
        return false;
      case 'unreadable':
        throw new DiskFault('read a blob', Object.assign(new Error(verdict.code), { code: verdict.code }));
      case 'stray':
        return false;
      default:
        return verdict satisfies never;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new RegistryError('shutting-down', 'this mirror is shutting down'));
    await Promise.allSettled(this.#running);
  }

  async #look(digest: Digest, doubt: Doubt): Promise<number | undefined> {
    const { catalog, check } = this.#options;
    const recordedSize = catalog.blobs.get(digest)?.size;
    if (doubt === 'size' && recordedSize !== undefined) {
      // It need not be read to know that it is not what was stored.
      await this.settle({ kind: 'truncated', digest, size: -1, recordedSize });
      return undefined;
    }
    const verdict = await check(digest, recordedSize, { signal: this.#stop.signal });
    if (verdict === undefined || !(await this.settle(verdict))) return undefined;
    return 'modifiedAtMs' in verdict ? verdict.modifiedAtMs : undefined;
  }

  async #tracked<Value>(work: Promise<Value>): Promise<Value> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }
}
