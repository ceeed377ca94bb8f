import { randomInt } from 'node:crypto';
import type { Digest } from '../oci/digest.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { type BlobStore, type StoredBlob, smallBlobBytes } from '../store/files/blob-store.ts';
import type { BlobAnswer } from '../upstream/client.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Inquiry } from './content.ts';

/** How many places of a stored blob an upstream has to show, and the bytes of each. */
const samples = 4;
const sampleBytes = 4096;

/** What an upstream tells about a blob. */
export interface UpstreamBlob {
  /** Bytes; `undefined` where the upstream does not tell. */
  readonly size: number | undefined;
  readonly contentType: string;
}

export interface BlobInquiryOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
}

/** Asks upstreams about blobs. */
export class BlobInquiry implements Inquiry<UpstreamBlob> {
  readonly #options: BlobInquiryOptions;

  constructor(options: BlobInquiryOptions) {
    this.#options = options;
  }

  async ask(repository: Repository, digest: Digest, signal: AbortSignal): Promise<UpstreamBlob> {
    const { key, name, upstream } = repository;
    const { size, contentType } = await upstream.client.headBlob(name, digest, { signal });
    return { size: this.#options.catalog.grants.expectedSize(key, digest) ?? size, contentType };
  }

  vouched({ size, contentType }: UpstreamBlob): UpstreamBlob {
    return { size, contentType };
  }

  /** By a few places in it, which only chance decides; a small one whole. */
  async compare(repository: Repository, digest: Digest, signal: AbortSignal): Promise<boolean | undefined> {
    await using stored = await this.#options.store.open(digest);
    if (stored === undefined) return undefined;
    const { size } = stored;
    if (size <= smallBlobBytes) return await isSame(await open(repository, digest, { signal }), { stored, end: size });
    const compareSample = async (): Promise<boolean | undefined> => {
      const offset = randomInt(0, size - sampleBytes + 1);
      const end = offset + sampleBytes;
      const answer = await open(repository, digest, { offset, end, signal });
      if (answer.start === offset && answer.end === end) return await isSame(answer, { stored, end });
      answer.body.destroy();
      return undefined;
    };
    // Whether it gives parts at all is seen by the first one.
    const first = await compareSample();
    if (first !== true) return first;
    const others = await Promise.all(Array.from({ length: samples - 1 }, compareSample));
    return others.includes(false) ? false : others.includes(undefined) ? undefined : true;
  }
}

/** Begins to read a blob at the first URL that gives it. @throws RegistryError what the last definite one said */
async function open(
  { upstream, name }: Repository,
  digest: Digest,
  options: { offset?: number; end?: number; signal: AbortSignal },
): Promise<BlobAnswer> {
  let transient: unknown;
  let definite: unknown;
  for (const endpoint of upstream.client.endpoints) {
    try {
      return await endpoint.openBlob(name, digest, options);
    } catch (error) {
      if (options.signal.aborted || !(error instanceof RegistryError)) throw error;
      if (isTransient(error)) transient = error;
      else definite = error;
    }
  }
  throw transient ?? definite;
}

/** Whether an answer has exactly the stored bytes from where it begins up to `end`. */
async function isSame(
  { start, body }: BlobAnswer,
  { stored, end }: { stored: StoredBlob; end: number },
): Promise<boolean> {
  try {
    let position = start;
    for await (const chunk of body) {
      if (position + chunk.length > end) return false;
      const own = Buffer.allocUnsafe(chunk.length);
      for (let read = 0; read < own.length; ) read += await stored.read(own.subarray(read), position + read);
      if (!own.equals(chunk)) return false;
      position += chunk.length;
    }
    return position === end;
  } finally {
    body.destroy();
  }
}
