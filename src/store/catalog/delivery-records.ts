import type { Digest } from '../../oci/digest.ts';
import type { Database } from './database.ts';

/** Which archives have delivered the bytes of which blobs; forgotten with the blob. */
export class DeliveryRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Whether an archive, or its base, has delivered a blob. */
  has(archive: Digest, digest: Digest): boolean {
    const row = this.#database.get('SELECT 1 FROM deliveries WHERE digest = ? AND archive = ?', digest, archive);
    return row !== undefined;
  }

  /** Records what an archive has delivered. */
  record(archive: Digest, digests: readonly Digest[]): void {
    this.#database.write(() => {
      for (const digest of digests) {
        this.#database.run('INSERT OR IGNORE INTO deliveries VALUES (?, ?)', digest, archive);
      }
    });
  }
}
