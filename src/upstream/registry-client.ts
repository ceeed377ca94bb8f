import type { Digest } from '../oci/digest.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import type { BlobHead, ManifestAnswer, ManifestHead, RequestOptions, UpstreamClient } from './client.ts';
import type { Endpoint } from './endpoint.ts';

type ManifestOptions = RequestOptions & { readonly accept: readonly string[] };

/**
 * The pull API over all URLs of an upstream, tried in order. Any failure moves on to the next URL. If one of them could
 * not answer, its error is thrown at the end: only if every URL gave a definite answer is the last one the upstream's
 * answer.
 */
export class RegistryClient implements UpstreamClient {
  readonly endpoints: readonly Endpoint[];

  constructor(endpoints: readonly Endpoint[]) {
    this.endpoints = endpoints;
  }

  headManifest(repository: string, reference: string, options: ManifestOptions): Promise<ManifestHead> {
    return this.#first((endpoint) => endpoint.headManifest(repository, reference, options), options);
  }

  getManifest(repository: string, reference: string, options: ManifestOptions): Promise<ManifestAnswer> {
    return this.#first((endpoint) => endpoint.getManifest(repository, reference, options), options);
  }

  headBlob(repository: string, digest: Digest, options: RequestOptions): Promise<BlobHead> {
    return this.#first((endpoint) => endpoint.headBlob(repository, digest, options), options);
  }

  listTags(repository: string, query: string, options: RequestOptions): Promise<ListingAnswer> {
    return this.#first((endpoint) => endpoint.listTags(repository, query, options), options);
  }

  listReferrers(
    repository: string,
    digest: Digest,
    query: string,
    options: RequestOptions,
  ): Promise<ListingAnswer | undefined> {
    return this.#first((endpoint) => endpoint.listReferrers(repository, digest, { ...options, query }), options);
  }

  async #first<T>(ask: (endpoint: Endpoint) => Promise<T>, { signal }: RequestOptions): Promise<T> {
    let transient: unknown;
    let definite: unknown;
    for (const endpoint of this.endpoints) {
      try {
        return await ask(endpoint);
      } catch (error) {
        if (signal.aborted || !(error instanceof RegistryError)) throw error;
        if (isTransient(error)) transient = error;
        else definite = error;
      }
    }
    throw transient ?? definite;
  }
}
