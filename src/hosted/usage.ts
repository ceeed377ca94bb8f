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

  /** What the repository has is counted again when it is asked for. */
  changed(repository: string): void {
    this.#known.delete(repository);
  }
}
