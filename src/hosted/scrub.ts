import { createReadStream } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type Digest, digestAlgorithm, finishDigest, hasherFor } from '../oci/digest.ts';
import { isMissing } from './durable-files.ts';
import type { RegistryParts } from './parts.ts';

const pieceBytes = 1024 * 1024;

export interface HostedScrubOptions extends Pick<RegistryParts, 'layout' | 'blobs' | 'repositories' | 'usage'> {
  /** Most bytes read in a second; read each time. */
  readonly bytesPerSecond: () => number;
  /** Receives each file whose content does not match the digest in its name, with the repositories that had it. */
  readonly onDamage: (
    digest: Digest,
    event: { readonly repositories: readonly string[]; readonly error?: unknown },
  ) => void;
}

/** The result of a scrub. */
export interface HostedScrubbed {
  readonly blobs: number;
  readonly bytes: number;
  readonly damaged: number;
}

/**
 * Reads hosted content again. There is no other copy: what is damaged is set aside, so that no client gets a wrong byte
 * and the next push of it is taken.
 */
export class HostedScrub {
  readonly #options: HostedScrubOptions;

  constructor(options: HostedScrubOptions) {
    this.#options = options;
  }

  /** Reads all of it once. @throws what `signal` aborts with; Error of the file system */
  async run(signal: AbortSignal): Promise<HostedScrubbed> {
    const { blobs } = this.#options;
    let [count, bytes, damaged] = [0, 0, 0];
    for await (const digest of blobs.all()) {
      signal.throwIfAborted();
      const read = await this.#read(digest, signal);
      if (read === undefined) continue;
      count += 1;
      bytes += read.bytes;
      if (read.isRight) continue;
      damaged += 1;
      await this.#setAside(digest, read.error);
    }
    return { blobs: count, bytes, damaged };
  }

  /** @returns `undefined` where it has been deleted meanwhile */
  async #read(
    digest: Digest,
    signal: AbortSignal,
  ): Promise<{ readonly isRight: boolean; readonly bytes: number; readonly error?: unknown } | undefined> {
    const { layout, bytesPerSecond } = this.#options;
    const hash = hasherFor(digest);
    let bytes = 0;
    try {
      for await (const piece of createReadStream(layout.blob(digest), { highWaterMark: pieceBytes, signal })) {
        const { length } = piece as Buffer;
        hash.update(piece as Buffer);
        bytes += length;
        await delay((length / bytesPerSecond()) * 1000, undefined, { signal });
      }
    } catch (error) {
      signal.throwIfAborted();
      if (isMissing(error)) return undefined;
      // Too many open files, for example, say nothing about this one, which is the only copy.
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error;
      return { isRight: false, bytes, error };
    }
    return { isRight: finishDigest(digestAlgorithm(digest), hash) === digest, bytes };
  }

  async #setAside(digest: Digest, error: unknown): Promise<void> {
    const { blobs, repositories, usage, onDamage } = this.#options;
    const names: string[] = [];
    for await (const name of repositories.withBlobs()) names.push(name);
    const had = await blobs.setAside(digest, names);
    for (const name of had) usage.changed(name);
    onDamage(digest, { repositories: had, ...(error !== undefined && { error }) });
  }
}
