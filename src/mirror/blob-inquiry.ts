import { randomInt } from 'node:crypto';
import type { Digest } from '../oci/digest.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import { type StoredBlob, smallBlobBytes } from '../store/files/blob-store.ts';
import type { BlobAnswer } from '../upstream/client.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Inquiry } from './content.ts';
import type { MirrorParts } from './parts.ts';

/** How many places of a stored blob an upstream has to show, and the bytes of each. */
const samples = 4;
const sampleBytes = 4096;

/** The headers of a blob at an upstream. */
export interface UpstreamBlob {
  /** Bytes; `undefined` where the upstream does not tell. */
  readonly size: number | undefined;
  readonly contentType: string;
}

export type BlobInquiryOptions = Pick<MirrorParts, 'store' | 'catalog'>;

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

  /**
   * By its end and a few places in it, which only chance decides; a small one whole. The end of compressed content depends on
   * all of it, and chance would hardly ever choose it.
   */
  async compare(repository: Repository, digest: Digest, signal: AbortSignal): Promise<boolean | undefined> {
    await using stored = await this.#options.store.open(digest);
    if (stored === undefined) return undefined;
    const { size } = stored;
    if (size <= smallBlobBytes) return await isSame(await open(repository, digest, { signal }), { stored, end: size });
    const compareAt = async (offset: number): Promise<boolean | undefined> => {
      const end = offset + sampleBytes;
      const answer = await open(repository, digest, { offset, end, signal });
      if (answer.start === offset && answer.end === end) return await isSame(answer, { stored, end });
      answer.body.destroy();
      return undefined;
    };
    // Whether it gives parts at all is seen by the first one.
    const last = size - sampleBytes;
    const first = await compareAt(last);
    if (first !== true) return first;
    const places = Array.from({ length: samples - 1 }, () => randomInt(0, last + 1));
    const others = await Promise.all(places.map(compareAt));
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
