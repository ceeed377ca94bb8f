import type { ManifestLinks } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/error.ts';
import { matchesGlob, repositoryGlob } from '../oci/glob.ts';
import { bareMediaType, dockerSchema1, dockerSchema1Signed, manifestMediaTypes } from '../oci/media-types.ts';

export interface HostedRulesOptions {
  /** Patterns of the repositories that live here alone and take pushes. */
  readonly repositories: readonly string[];
  /** Patterns of tags that are never moved or deleted. */
  readonly immutableTags: readonly string[];
  /** Types of manifests, configs and artifacts that may be pushed; empty: all. */
  readonly mediaTypes: readonly string[];
  /** Whether an index may list manifests that its repository does not have. */
  readonly sparseIndexes: boolean;
  /** Uploads that one client may have at a time. Default: any number. */
  readonly maxUploads?: number | undefined;
  /** The origin that uploads go to; absent: where they were begun. */
  readonly uploadUrl?: string | undefined;
  /** Bytes that a repository may have, by the first pattern that fits it; none fits: any number. */
  readonly quotas: readonly { readonly pattern: string; readonly bytes: number }[];
}

/** The rules for hosted repositories. */
export class HostedRules {
  readonly #options: HostedRulesOptions;
  readonly #isHosted: readonly ((name: string) => boolean)[];
  readonly #quotas: readonly { readonly fits: (name: string) => boolean; readonly bytes: number }[];

  constructor(options: HostedRulesOptions) {
    this.#options = options;
    this.#isHosted = options.repositories.map(repositoryGlob);
    this.#quotas = options.quotas.map(({ pattern, bytes }) => ({ fits: repositoryGlob(pattern), bytes }));
  }

  /** Whether a repository lives here alone. */
  isHosted(repository: string): boolean {
    return this.#isHosted.some((fits) => fits(repository));
  }

  /** Whether a pattern names repositories below a prefix, such as `registry.ours/`. */
  hasBelow(prefix: string): boolean {
    return this.#options.repositories.some((pattern) => pattern.startsWith(prefix));
  }

  /** Whether a tag stays where it is once it is there. What belongs to another manifest, such as a signature, is not fixed. */
  isImmutable(tag: string): boolean {
    return (
      !/^sha(?:256|512)-[0-9a-f]{32,}/.test(tag) && this.#options.immutableTags.some((glob) => matchesGlob(glob, tag))
    );
  }

  /** Whether an index may list manifests that its repository does not have. */
  get sparseIndexes(): boolean {
    return this.#options.sparseIndexes;
  }

  /** Uploads that one client may have at a time. */
  get maxUploads(): number {
    return this.#options.maxUploads ?? Number.POSITIVE_INFINITY;
  }

  /** The beginning of the `Location` of an upload: an origin, or nothing. */
  get uploadOrigin(): string {
    return this.#options.uploadUrl ?? '';
  }

  /** Bytes that a repository may have; `undefined`: any number. */
  quota(repository: string): number | undefined {
    return this.#quotas.find(({ fits }) => fits(repository))?.bytes;
  }

  /** @throws RegistryError UNSUPPORTED (415) naming the type that may not be pushed */
  requireTypes({ mediaType, blobs, artifactType }: ManifestLinks): void {
    const bare = bareMediaType(mediaType);
    if (!manifestMediaTypes.includes(bare) || bare === dockerSchema1 || bare === dockerSchema1Signed)
      throw refused(bare);
    const { mediaTypes } = this.#options;
    if (mediaTypes.length === 0) return;
    const config = blobs[0]?.mediaType;
    for (const type of [bare, artifactType, config]) {
      if (type !== undefined && type !== '' && !mediaTypes.includes(type)) throw refused(type);
    }
  }
}

function refused(type: string): RegistryError {
  return new RegistryError(
    'unsupported-type',
    `manifests with the media type "${type.slice(0, 200)}" are not accepted here`,
    {
      detail: { mediaType: type.slice(0, 200) },
    },
  );
}
