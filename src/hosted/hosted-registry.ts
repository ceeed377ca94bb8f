import type { Digest } from '../oci/digest.ts';
import { isNotFound } from '../oci/error.ts';
import type { Report } from '../oci/report.ts';
import { Locks } from '../waiting/locks.ts';
import { HostedBlobs } from './blobs.ts';
import type { HostedChange } from './changes.ts';
import { Collector } from './collector.ts';
import { type HostedLayout, hostedLayout } from './layout.ts';
import { HostedManifests } from './manifests.ts';
import { noBlob } from './refusals.ts';
import { HostedRepositories } from './repositories.ts';
import type { HostedRules } from './rules.ts';
import { type Arrived, Uploads } from './uploads.ts';
import { Usage } from './usage.ts';

export interface HostedRegistryOptions {
  /** The folder of hosted content. */
  readonly folder: string;
  /** Read each time: they may be changed while the mirror runs. */
  readonly rules: () => HostedRules;
  readonly maxBlobBytes: number;
  readonly maxManifestBytes: number;
  /** An upload session that nothing was sent to for so long is removed, in milliseconds. */
  readonly uploadExpiryMs: number;
  /** A blob that no manifest names stays for so long after its last use, in milliseconds; read each time. */
  readonly graceMs: () => number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Default: none. */
  readonly report?: Report<HostedChange>;
}

/**
 * The repositories that live here alone. What a method has answered survives a kill and a loss of power; what it has
 * refused has left nothing behind.
 */
export class HostedRegistry {
  readonly layout: HostedLayout;
  readonly uploads: Uploads;
  readonly blobs: HostedBlobs;
  readonly repositories: HostedRepositories;
  readonly manifests: HostedManifests;
  readonly usage: Usage;
  readonly collector: Collector;
  readonly #options: HostedRegistryOptions;
  readonly #locks = new Locks();
  readonly #report: Report<HostedChange>;

  constructor(options: HostedRegistryOptions) {
    const { folder, maxBlobBytes, uploadExpiryMs, now, report = () => undefined } = options;
    this.#options = options;
    this.#report = report;
    this.layout = hostedLayout(folder);
    this.blobs = new HostedBlobs(this.layout, now);
    this.repositories = new HostedRepositories(this.layout);
    this.uploads = new Uploads({
      layout: this.layout,
      maxBlobBytes,
      expiryMs: uploadExpiryMs,
      now,
      maxPerCaller: () => this.rules.maxUploads,
      claim: (name, bytes, take) => this.usage.claim(name, { bytes, quota: this.rules.quota(name), take }),
    });
    const { layout, blobs, repositories, uploads } = this;
    this.usage = new Usage({ blobs, repositories, uploads });
    const { usage } = this;
    const common = { ...options, layout, blobs, repositories, usage, locks: this.#locks, report };
    this.manifests = new HostedManifests(common);
    this.collector = new Collector(common);
  }

  /** Largest manifest, in bytes. */
  get maxManifestBytes(): number {
    return this.#options.maxManifestBytes;
  }

  get rules(): HostedRules {
    return this.#options.rules();
  }

  /** Takes a blob that has arrived whole and right. @throws RegistryError QUOTA_EXCEEDED; Error of the file system */
  async adoptBlob(repository: string, digest: Digest, { path, size, release }: Arrived): Promise<void> {
    await this.#add(repository, { digest, size, release }, () => this.blobs.adopt(repository, digest, path));
  }

  /**
   * Takes a copy of a file outside of hosted storage that has been verified.
   * @throws RegistryError QUOTA_EXCEEDED; Error of the file system
   */
  async copyBlob(repository: string, digest: Digest, { path, size }: Arrived): Promise<void> {
    await this.#add(repository, { digest, size }, () => this.blobs.copy(repository, digest, path));
  }

  /**
   * Gives a repository a blob that another one has, without its bytes.
   * @param options `from`: the repository to take it from, or any; `mayPull`: whether the caller may read a repository;
   *   absent: all of them
   * @returns whether the repository has it now; not here and not allowed look the same
   * @throws RegistryError QUOTA_EXCEEDED; Error of the file system
   */
  async mountBlob(
    repository: string,
    digest: Digest,
    {
      from,
      mayPull,
    }: { readonly from: string | undefined; readonly mayPull?: ((name: string) => boolean) | undefined },
  ): Promise<boolean> {
    if (await this.blobs.renew(repository, digest)) return true;
    const source = mayPull === undefined ? from : await this.#readableSource(digest, { from, mayPull });
    if (mayPull !== undefined && source === undefined) return false;
    if (source !== undefined && !this.rules.isHosted(source)) return false;
    const size = await this.blobs.size(digest, source);
    if (size === undefined) return false;
    const added = await this.#add(repository, { digest, size }, () => this.blobs.mount(repository, digest, source));
    return added !== undefined;
  }

  /** Removes a blob from a repository; a manifest with its tags. @throws RegistryError BLOB_UNKNOWN, DENIED for a tag that is immutable */
  async deleteBlob(repository: string, digest: Digest): Promise<void> {
    try {
      // A manifest that tags or referrers name cannot be left without its bytes.
      return await this.manifests.delete(repository, digest);
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
    using _ = await this.#locks.take(repository);
    const wasThere = await this.blobs.remove(repository, digest);
    this.usage.changed(repository);
    if (!wasThere) throw noBlob(repository);
    this.#report({ kind: 'blob-deleted', repository, digest });
  }

  async #reserve(repository: string, bytes: number): Promise<Disposable> {
    return await this.usage.reserve(repository, { bytes, quota: this.rules.quota(repository) });
  }

  /** Counts what is added to a repository. @param add whether it was added, or `undefined` where it cannot be */
  async #add<Added extends boolean | undefined>(
    repository: string,
    {
      digest,
      size,
      release,
    }: { readonly digest: Digest; readonly size: number; readonly release?: (() => void) | undefined },
    add: () => Promise<Added>,
  ): Promise<Added> {
    const isHere = (await this.blobs.get(repository, digest)) !== undefined;
    // The bytes of an upload are counted already.
    using _ = await this.#reserve(repository, isHere || release !== undefined ? 0 : size);
    const added = await add();
    if (added === true) this.usage.added(repository, size);
    release?.();
    return added;
  }

  async #readableSource(
    digest: Digest,
    { from, mayPull }: { readonly from: string | undefined; readonly mayPull: (name: string) => boolean },
  ): Promise<string | undefined> {
    if (from !== undefined) return mayPull(from) ? from : undefined;
    if ((await this.blobs.size(digest, undefined)) === undefined) return undefined;
    for await (const name of this.repositories.withBlobs()) {
      if (mayPull(name) && (await this.blobs.size(digest, name)) !== undefined) return name;
    }
    return undefined;
  }
}
