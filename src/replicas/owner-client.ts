import { askOwner, type OwnerAnswer } from '../coordination/owner-answer.ts';
import type { OwnerLink } from '../coordination/owner-link.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { ListingAnswer } from '../oci/listing.ts';
import { octetStream } from '../oci/media-types.ts';
import { readContentRange } from '../oci/range.ts';
import type {
  BlobAnswer,
  BlobEndpoint,
  BlobHead,
  ManifestAnswer,
  ManifestHead,
  RequestOptions,
  UpstreamClient,
} from '../upstream/client.ts';
import { nextQuery } from '../upstream/link.ts';

/** Largest list, in bytes. */
const maxListBytes = 16 * 1024 * 1024;

/** The pull API of the replica that keeps the hosted repositories. */
export class OwnerClient implements UpstreamClient {
  readonly endpoints: readonly BlobEndpoint[];
  readonly #link: OwnerLink;
  readonly #maxManifestBytes: number;

  constructor(link: OwnerLink, { maxManifestBytes }: { readonly maxManifestBytes: number }) {
    this.#link = link;
    this.#maxManifestBytes = maxManifestBytes;
    this.endpoints = [{ url: link.address, openBlob: (...asked) => this.#openBlob(...asked) }];
  }

  async headManifest(repository: string, reference: string, { signal }: RequestOptions): Promise<ManifestHead> {
    const { headers, body } = await askOwner(this.#link, ['HEAD', `/v2/${repository}/manifests/${reference}`], {
      signal,
    });
    body.destroy();
    const size = Number(headers['content-length']);
    return { digest: digestIn(headers), contentType: headers['content-type'] ?? '', size };
  }

  async getManifest(repository: string, reference: string, { signal }: RequestOptions): Promise<ManifestAnswer> {
    const { headers, read } = await askOwner(this.#link, ['GET', `/v2/${repository}/manifests/${reference}`], {
      signal,
    });
    const bytes = await read(this.#maxManifestBytes);
    if (bytes === undefined) throw odd('gave a manifest that is too large');
    return { bytes, digest: digestIn(headers), contentType: headers['content-type'] ?? '' };
  }

  async headBlob(repository: string, digest: Digest, { signal }: RequestOptions): Promise<BlobHead> {
    const { headers, body } = await askOwner(this.#link, ['HEAD', `/v2/${repository}/blobs/${digest}`], { signal });
    body.destroy();
    return { size: Number(headers['content-length']), contentType: headers['content-type'] ?? octetStream };
  }

  async listTags(repository: string, query: string, { signal }: RequestOptions): Promise<ListingAnswer> {
    return await this.#list(`/v2/${repository}/tags/list`, query, { signal });
  }

  async listReferrers(
    repository: string,
    digest: Digest,
    query: string,
    { signal }: RequestOptions,
  ): Promise<ListingAnswer> {
    return await this.#list(`/v2/${repository}/referrers/${digest}`, query, { signal });
  }

  async #openBlob(
    repository: string,
    digest: Digest,
    { offset = 0, end, signal }: RequestOptions & { readonly offset?: number; readonly end?: number },
  ): Promise<BlobAnswer> {
    const isPart = offset > 0 || end !== undefined;
    const range = isPart ? `bytes=${offset}-${end === undefined ? '' : end - 1}` : undefined;
    const { status, headers, body } = await askOwner(this.#link, ['GET', `/v2/${repository}/blobs/${digest}`], {
      range,
      signal,
    });
    const contentType = headers['content-type'] ?? octetStream;
    if (status === 200) {
      const size = Number(headers['content-length']);
      return { size, start: 0, end: size, contentType, body };
    }
    const window = readContentRange(headers['content-range']);
    if (window !== undefined) {
      return { size: window.size, start: window.range.start, end: window.range.end, contentType, body };
    }
    body.destroy();
    throw odd(`answered ${status} to a range`);
  }

  async #list(path: string, query: string, { signal }: RequestOptions): Promise<ListingAnswer> {
    const { headers, read } = await askOwner(this.#link, ['GET', query === '' ? path : `${path}?${query}`], { signal });
    const bytes = await read(maxListBytes);
    if (bytes === undefined) throw odd('gave a list that is too large');
    const link = headers['link'];
    const next = nextQuery(link === undefined ? undefined : String(link));
    const filters = headers['oci-filters-applied'];
    const filtersApplied = filters === undefined ? undefined : String(filters);
    return { bytes, contentType: headers['content-type'] ?? 'application/json', nextQuery: next, filtersApplied };
  }
}

function digestIn(headers: OwnerAnswer['headers']): Digest | undefined {
  const digest = String(headers['docker-content-digest'] ?? '');
  return isDigest(digest) ? digest : undefined;
}

function odd(what: string): RegistryError {
  return new RegistryError('bad-answer', `the owner of the hosted repositories ${what}`);
}
