import { RegistryError } from '../oci/error.ts';
import { Tally } from '../waiting/tally.ts';
import type { HostedBlobs } from './blobs.ts';
import type { HostedRepositories } from './repositories.ts';
import type { Uploads } from './uploads.ts';

/** A repository is counted again where it changes meanwhile, but not more often than this. */
const maxCounts = 4;

export interface UsageParts {
  readonly blobs: HostedBlobs;
  readonly repositories: HostedRepositories;
  /** Their bytes count as long as they have not ended. */
  readonly uploads: Pick<Uploads, 'bytes' | 'pendingBytes' | 'endAbandoned'>;
}

/** How many bytes each repository has, its blobs and manifests counted once each; counted once and kept in line. */
export class Usage {
  readonly #parts: UsageParts;
  readonly #known = new Map<string, number>();
  readonly #counting = new Map<string, Promise<void>>();
  /** Bytes of pushes that have been let in and are not counted yet. */
  readonly #reserved = new Tally();
  #generation = 0;

  constructor(parts: UsageParts) {
    this.#parts = parts;
  }

  /** Another number after each change of what repositories have. */
  get generation(): number {
    return this.#generation;
  }

  async bytes(repository: string): Promise<number> {
    for (;;) {
      const known = this.#known.get(repository);
      if (known !== undefined) return known;
      await this.#count(repository);
    }
  }

  /**
   * Sets room aside for so many bytes, so that pushes at the same time do not exceed the quota together. Dispose it once
   * {@link added} has been told, or the push has failed. @param wanted `quota`: `undefined`: any number of bytes
   * @throws RegistryError QUOTA_EXCEEDED (413); Error of the file system
   */
  async reserve(
    repository: string,
    { bytes, quota }: { readonly bytes: number; readonly quota: number | undefined },
  ): Promise<Disposable> {
    if (quota === undefined) return { [Symbol.dispose]: () => undefined };
    await this.claim(repository, { bytes, quota, take: () => this.#reserved.add(repository, bytes) });
    return { [Symbol.dispose]: () => this.#reserved.add(repository, -bytes) };
  }

  /**
   * Calls `take` in the turn in which so many bytes more fit into the quota. @param wanted `quota`: as for {@link reserve}
   * @throws RegistryError QUOTA_EXCEEDED (413); Error of the file system
   */
  async claim(
    repository: string,
    { bytes, quota, take }: { readonly bytes: number; readonly quota: number | undefined; readonly take: () => void },
  ): Promise<void> {
    if (quota === undefined) return take();
    const { uploads } = this.#parts;
    for (let isAgain = false; ; isAgain = true) {
      await uploads.bytes(repository);
      // No other push comes between this look and the reservation.
      while (!this.#known.has(repository)) await this.#count(repository);
      const used = this.#known.get(repository)! + this.#reserved.get(repository);
      const pending = uploads.pendingBytes(repository);
      if (used + pending + bytes <= quota) return take();
      // Uploads that have been left alone for long give way.
      if (isAgain || !(await uploads.endAbandoned(repository))) {
        throw exceeded(repository, { quota, used, pending, wanted: bytes });
      }
    }
  }

  /** A repository has so many bytes more than before. */
  added(repository: string, bytes: number): void {
    this.#generation += 1;
    const known = this.#known.get(repository);
    if (known !== undefined) this.#known.set(repository, known + bytes);
  }

  /** The bytes of the repository are counted again the next time. */
  changed(repository: string): void {
    this.#generation += 1;
    this.#known.delete(repository);
  }

  async #count(repository: string): Promise<void> {
    let counting = this.#counting.get(repository);
    if (counting === undefined) {
      counting = this.#countAll(repository).finally(() => this.#counting.delete(repository));
      this.#counting.set(repository, counting);
    }
    await counting;
  }

  async #countAll(repository: string): Promise<void> {
    const { blobs, repositories } = this.#parts;
    for (let attempt = 1; ; attempt += 1) {
      const generation = this.#generation;
      let bytes = 0;
      for (const digest of await repositories.blobs(repository)) {
        bytes += (await blobs.get(repository, digest))?.size ?? 0;
      }
      if (generation !== this.#generation && attempt < maxCounts) continue;
      this.#known.set(repository, bytes);
      return;
    }
  }
}

function exceeded(
  repository: string,
  detail: { readonly quota: number; readonly used: number; readonly pending: number; readonly wanted: number },
): RegistryError {
  const { quota, used, pending, wanted } = detail;
  const unfinished = pending === 0 ? '' : `, and unfinished uploads ${pending}`;
  const sentence = `${repository} may have ${quota} bytes and has ${used}${unfinished}; these are ${wanted} more`;
  return new RegistryError('quota-exceeded', sentence, { detail });
}
