import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import { type BlobStore, DiskFault, type StoredBlob } from '../../store/files/blob-store.ts';
import type { Verdict, Verification } from '../../store/files/verification.ts';
import { SingleFlight } from '../../waiting/single-flight.ts';

/** Why a stored file is not given out as it is. */
export type Doubt =
  /** It has another size than its blob. */
  | 'size'
  /** Something has written to it since it was last known to be right. */
  | 'modified'
  /** Nobody is known to have read it: it came here by a crash, or the catalog was lost. */
  | 'unverified';

export interface CustodyOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly check: Verification['check'];
  /** A stored blob had been altered, and has been set aside. */
  readonly onAltered: (digest: Digest) => void;
}

/** Sees to it that what is given out from this disk is what was stored: what is in doubt is read again first. */
export class Custody implements AsyncDisposable {
  readonly #options: CustodyOptions;
  readonly #looks = new SingleFlight<number | undefined>();
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: CustodyOptions) {
    this.#options = options;
  }

  /** Whether there is anything wrong with a stored blob, as far as can be told without reading it. */
  doubt(digest: Digest, blob: StoredBlob): Doubt | undefined {
    // Small enough to have been hashed as it was opened.
    if (blob.modifiedAtMs === undefined) return undefined;
    const record = this.#options.catalog.blobs.get(digest);
    if (record?.modifiedAtMs === undefined) return 'unverified';
    if (record.size !== blob.size) return 'size';
    return record.modifiedAtMs === blob.modifiedAtMs ? undefined : 'modified';
  }

  /**
   * Finds out whether a blob in doubt is right after all, once for all who ask. What is wrong is set aside.
   * @returns the time of the file that is right, in milliseconds; `undefined`: there is none
   * @throws DiskFault; the signal's reason
   */
  async look(digest: Digest, doubt: Doubt, waiting: { readonly signal: AbortSignal }): Promise<number | undefined> {
    return await this.#looks.run(digest, () => this.#tracked(this.#look(digest, doubt)), waiting);
  }

  /**
   * Acts upon what a look has found: what is right and new is recorded, what is wrong set aside, what is gone forgotten.
   * @returns whether the blob is here and right
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
          // Where it stays, it is trusted no more: whoever asks for it has it read again.
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
