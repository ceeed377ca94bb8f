import { LRUCache } from 'lru-cache';
import type { BlobHead, BlobReply } from '../mirror/blobs.ts';
import type { BlobBody } from '../mirror/body.ts';
import { readManifest } from '../oci/descriptor.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { upTo } from '../oci/lru-bound.ts';
import { hasListOfManifest } from '../oci/top-level-lists.ts';
import type { SignatureGate } from '../signatures/signature-gate.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Exchange } from './exchange.ts';
import type { HoldGate } from './hold-gate.ts';

/** Larger manifests are accepted by no client. */
const maxManifestBytes = 4 * 1024 * 1024;
/** Read first: of most blobs the first byte says that they are not manifests. */
const firstBytes = 4 * 1024;
const maxRemembered = 20_000;

export interface ManifestBlobsOptions {
  /** Whether a digest is known to be a manifest. */
  readonly isManifest: (digest: Digest) => boolean;
  readonly gate?: HoldGate | undefined;
  readonly signatures?: SignatureGate<Repository> | undefined;
}

/** A blob that may be served. */
export interface CheckedBlob {
  /** The blob to serve; disposing its body disposes of the one that was looked at. */
  readonly blob: BlobReply;
  /** A warning for the client. */
  readonly warning: string | undefined;
}

/**
 * Holds manifests to the same rules when a client asks for them as blobs: registries serve them there, too, and the cache
 * keeps both in one place.
 */
export class ManifestBlobs {
  readonly #options: ManifestBlobsOptions;
  /** Verified content that is no manifest. */
  readonly #others = new LRUCache<Digest, true>(upTo(maxRemembered));

  constructor(options: ManifestBlobsOptions) {
    this.#options = options;
  }

  /**
   * Makes sure that a blob may be served.
   * @throws RegistryError as for the same manifest; what reading the body throws. The body is then disposed of.
   */
  async check(exchange: Exchange, repository: Repository, blob: BlobReply): Promise<CheckedBlob> {
    if (!this.#isConcerned(repository) || this.#others.has(blob.digest)) return { blob, warning: undefined };
    try {
      const looked = this.#options.isManifest(blob.digest)
        ? { isManifest: true, body: blob.body }
        : await look(blob, exchange.signal);
      const served = { ...blob, body: looked.body };
      if (looked.isManifest) return { blob: served, warning: await this.#require(exchange, repository, blob) };
      // A blob that is still arriving has not been verified yet.
      if (blob.outcome === 'hit') this.#others.set(blob.digest, true);
      return { blob: served, warning: undefined };
    } catch (error) {
      await blob.body[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** As {@link check}, for the answer without a body. @returns what the client has to be warned of */
  async checkHead(exchange: Exchange, repository: Repository, { digest }: BlobHead): Promise<string | undefined> {
    if (!this.#isConcerned(repository) || !this.#options.isManifest(digest)) return undefined;
    return await this.#options.signatures?.check(repository, digest, exchange);
  }

  #isConcerned(repository: Repository): boolean {
    const { gate, signatures } = this.#options;
    return gate?.isOn === true || signatures?.policyOf(repository) !== undefined;
  }

  async #require(
    exchange: Exchange,
    repository: Repository,
    { digest, outcome }: BlobReply,
  ): Promise<string | undefined> {
    const { gate, signatures } = this.#options;
    gate?.require(exchange, { repository: repository.key, digest, isKnown: outcome === 'hit' });
    return await signatures?.check(repository, digest, exchange);
  }
}

/** Looks whether a blob is a manifest. @returns also a body that still gives all of it */
async function look(
  { body, size }: BlobReply,
  signal: AbortSignal,
): Promise<{ readonly isManifest: boolean; readonly body: BlobBody }> {
  if (size !== undefined && size > maxManifestBytes) return { isManifest: false, body };
  if (body.bytes !== undefined) return { isManifest: isManifest(body.bytes), body };
  const maxBytes = Math.min(size ?? Number.POSITIVE_INFINITY, maxManifestBytes + 1);
  let read = Buffer.alloc(0);
  let isWhole = false;
  while (!isWhole && read.length < maxBytes && mayBeObject(read)) {
    const piece = Buffer.allocUnsafe(Math.min(maxBytes - read.length, Math.max(firstBytes, read.length)));
    const length = await body.read(piece, read.length, signal);
    isWhole = length === 0;
    read = Buffer.concat([read, piece.subarray(0, length)]);
  }
  return { isManifest: read.length <= maxManifestBytes && isManifest(read), body: continued(read, body) };
}

/** Whether JSON that begins like this may be an object. */
function mayBeObject(bytes: Buffer): boolean {
  const first = bytes.find((byte) => byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d);
  return first === undefined || first === 0x7b;
}

function isManifest(bytes: Buffer): boolean {
  if (!mayBeObject(bytes)) return false;
  try {
    readManifest(bytes, '');
    return true;
  } catch (error) {
    // Bytes that are no manifest for this mirror may be one for a client.
    if (error instanceof RegistryError) return hasListOfManifest(bytes);
    throw error;
  }
}

/** A body whose first bytes have been read already. */
function continued(first: Buffer, body: BlobBody): BlobBody {
  return {
    bytes: undefined,
    read: (buffer, position, signal) =>
      position < first.length ? Promise.resolve(first.copy(buffer, 0, position)) : body.read(buffer, position, signal),
    get isOutdated() {
      return body.isOutdated ?? false;
    },
    peek: (position) => (position < first.length ? undefined : body.peek(position)),
    [Symbol.asyncDispose]: () => body[Symbol.asyncDispose](),
  };
}
