import { setTimeout as delay } from 'node:timers/promises';
import type { Digest } from '../oci/digest.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import type { BlobHead, ManifestAnswer, ManifestHead, RequestOptions, UpstreamClient } from './client.ts';
import type { Endpoint } from './endpoint.ts';
import { Refusal } from './passage.ts';
import { secondTryIn } from './second-try.ts';

type ManifestOptions = RequestOptions & { readonly accept: readonly string[] };
type HeadOptions = Parameters<UpstreamClient['headManifest']>[2];
/** @param isAgain whether the URL has been asked before, and failed */
type Question<Value> = (endpoint: Endpoint, isAgain: boolean) => Promise<Value>;

/**
 * The pull API over all URLs of an upstream, tried in order. Any failure moves on to the next URL; what may be over at once is
 * worth a second try, when all have failed. If one of them could not answer, its error is thrown at the end: only if every URL
 * gave a definite answer is the last one the upstream's answer.
 */
export class RegistryClient implements UpstreamClient {
  readonly endpoints: readonly Endpoint[];

  constructor(endpoints: readonly Endpoint[]) {
    this.endpoints = endpoints;
  }

  headManifest(repository: string, reference: string, options: HeadOptions): Promise<ManifestHead> {
    const { hasSubstitute, signal } = options;
    const ask: Question<ManifestHead> = (endpoint, isAgain) =>
      endpoint[isAgain ? 'headByGet' : 'headManifest'](repository, reference, options);
    return this.#first(ask, { signal, isWanted: async () => (await hasSubstitute?.()) !== true });
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

  /** @param options `isWanted`: whether a second try is worth the time; absent: it is */
  async #first<Value>(
    ask: Question<Value>,
    { signal, isWanted }: RequestOptions & { readonly isWanted?: () => Promise<boolean> },
  ): Promise<Value> {
    const failures = new Map<Endpoint, RegistryError>();
    let round: readonly Endpoint[] = this.endpoints;
    for (const isAgain of [false, true]) {
      for (const endpoint of round) {
        try {
          return await ask(endpoint, isAgain);
        } catch (error) {
          if (signal.aborted || !(error instanceof RegistryError)) throw error;
          // It was asked a moment ago, and what it said then says more.
          if (!isAgain || !(error instanceof Refusal)) failures.set(endpoint, error);
        }
      }
      if (isAgain) break;
      round = round.filter((endpoint) => secondTryIn(failures.get(endpoint)) !== undefined);
      if (round.length === 0 || (await isWanted?.()) === false) break;
      const waitMs = Math.min(...round.map((endpoint) => secondTryIn(failures.get(endpoint))!));
      await delay(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
    const errors = [...failures.values()];
    throw errors.findLast(isTransient) ?? errors.at(-1)!;
  }
}
