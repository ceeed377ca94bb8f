import { RegistryError } from '../oci/error.ts';
import type { HostedBlobs } from './blobs.ts';
import type { HostedRepositories } from './repositories.ts';

/** How many bytes each repository has, its blobs and manifests counted once each; remembered until something changes. */
export class Usage {
  readonly #parts: { readonly blobs: HostedBlobs; readonly repositories: HostedRepositories };
  readonly #known = new Map<string, number>();

  constructor(parts: { readonly blobs: HostedBlobs; readonly repositories: HostedRepositories }) {
    this.#parts = parts;
  }

  async bytes(repository: string): Promise<number> {
    const known = this.#known.get(repository);
    if (known !== undefined) return known;
    const { blobs, repositories } = this.#parts;
    let bytes = 0;
    for (const digest of await repositories.blobs(repository))
      bytes += (await blobs.get(repository, digest))?.size ?? 0;
    this.#known.set(repository, bytes);
    return bytes;
  }

  /**
   * Makes sure that so many bytes more fit into a repository. @param wanted `quota`: `undefined`: any number of bytes
   * @throws RegistryError QUOTA_EXCEEDED (413); Error of the file system
   */
  async requireRoom(
    repository: string,
    { bytes, quota }: { readonly bytes: number; readonly quota: number | undefined },
  ): Promise<void> {
    if (quota === undefined) return;
    const used = await this.bytes(repository);
    if (used + bytes <= quota) return;
    throw new RegistryError(
      'quota-exceeded',
      `${repository} may have ${quota} bytes and has ${used}; these are ${bytes} more`,
      { detail: { quota, used, wanted: bytes } },
    );
  }

  /** The bytes of the repository are counted again the next time. */
  changed(repository: string): void {
    this.#known.delete(repository);
  }
}
