import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../oci/descriptor.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { isMissing, temporaryPrefix } from './durable-files.ts';
import type { RegistryParts } from './parts.ts';

/** How many blobs are removed at most before pushes to their repository go on. */
const blobsPerTurn = 20;
/** A file is written within seconds; an unfinished one of this age is left over, in milliseconds. */
const leftoverAgeMs = 3_600_000;
/** A file this much older than the start is left over too, in milliseconds: clocks of file systems are coarse. */
const startSlackMs = 2000;

export interface CollectorOptions extends RegistryParts {
  /** A blob that no manifest names stays for so long after its last use, in milliseconds; read each time. */
  readonly graceMs: () => number;
}

/** The result of a collection. */
export interface Collected {
  /** Blobs that no manifest of their repository named. */
  readonly blobs: number;
  /** Bytes of files that no repository linked. */
  readonly unlinkedBytes: number;
  /** Files that were never finished. */
  readonly leftovers: number;
  /** Repositories that keep everything, because one of their manifests cannot be read, and why. */
  readonly skipped: readonly { readonly repository: string; readonly error: string }[];
}

/**
 * Removes what nothing names: blobs of a repository that none of its manifests names, files that no repository links, and
 * files that a killed process has not finished. What a manifest names stays; a repository with a manifest that cannot
 * be read keeps everything.
 */
export class Collector {
  readonly #options: CollectorOptions;
  readonly #startedAtMs: number;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#startedAtMs = options.now();
  }

  /** @throws what `signal` aborts with; Error of the file system */
  async collect(signal: AbortSignal): Promise<Collected> {
    const { blobs: files, layout, repositories } = this.#options;
    const leftovers = await this.#removeLeftovers(layout.root, signal);
    let blobs = 0;
    const skipped: { repository: string; error: string }[] = [];
    for await (const repository of repositories.withBlobs()) {
      signal.throwIfAborted();
      try {
        blobs += await this.#collectRepository(repository, signal);
      } catch (error) {
        signal.throwIfAborted();
        skipped.push({ repository, error: String(error) });
      }
    }
    signal.throwIfAborted();
    return { blobs, unlinkedBytes: await files.sweep(files.all(), signal), leftovers, skipped };
  }

  async #collectRepository(repository: string, signal: AbortSignal): Promise<number> {
    const { blobs, repositories, locks, usage, graceMs, now } = this.#options;
    const usedBeforeMs = now() - graceMs();
    const old: Digest[] = [];
    for (const digest of await repositories.blobs(repository)) {
      const usedAtMs = await blobs.usedAtMs(repository, digest);
      if (usedAtMs !== undefined && usedAtMs < usedBeforeMs) old.push(digest);
    }
    if (old.length === 0) return 0;
    const named = new Named(this.#options, repository);
    // Most of the reading is done while pushes go on.
    await named.read(signal);
    const unnamed = old.filter((digest) => !named.has(digest));
    let removed = 0;
    for (let at = 0; at < unnamed.length; at += blobsPerTurn) {
      signal.throwIfAborted();
      using _ = await locks.take(repository);
      await named.read(signal);
      for (const digest of unnamed.slice(at, at + blobsPerTurn)) {
        if (!named.has(digest) && (await blobs.removeUnused(repository, digest, usedBeforeMs))) removed += 1;
      }
    }
    if (removed > 0) usage.changed(repository);
    return removed;
  }

  async #removeLeftovers(folder: string, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted();
    const beforeMs = Math.max(this.#startedAtMs - startSlackMs, this.#options.now() - leftoverAgeMs);
    let removed = 0;
    for (const entry of await readdir(folder, { withFileTypes: true }).catch(noEntries)) {
      const path = join(folder, entry.name);
      // The files of blobs are many, and no unfinished one is among them.
      const isOfBlobs = entry.name === '_blobs' || path === join(this.#options.layout.root, 'blobs');
      if (entry.isDirectory() && !isOfBlobs) removed += await this.#removeLeftovers(path, signal);
      if (!entry.isFile() || !entry.name.startsWith(temporaryPrefix)) continue;
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      if (mtimeMs >= beforeMs) continue;
      await rm(path, { force: true });
      removed += 1;
    }
    return removed;
  }
}

/** The digests that the manifests of a repository name, and their own. */
class Named {
  readonly #options: CollectorOptions;
  readonly #repository: string;
  readonly #read = new Set<Digest>();
  readonly #named = new Set<Digest>();

  constructor(options: CollectorOptions, repository: string) {
    this.#options = options;
    this.#repository = repository;
  }

  has(digest: Digest): boolean {
    return this.#named.has(digest);
  }

  /** Reads the manifests that have come since the last time. */
  async read(signal: AbortSignal): Promise<void> {
    const { layout, repositories } = this.#options;
    for (const digest of await repositories.manifests(this.#repository)) {
      if (this.#read.has(digest)) continue;
      signal.throwIfAborted();
      const record = await repositories.manifest(this.#repository, digest);
      if (record === undefined) continue;
      let bytes: Buffer;
      try {
        bytes = await readFile(layout.blobLink(this.#repository, digest));
      } catch (error) {
        // A client has deleted its bytes as a blob: it names nothing until it is pushed again.
        if (isMissing(error)) continue;
        throw error;
      }
      this.#read.add(digest);
      this.#named.add(digest);
      for (const name of namesOf(bytes, record.contentType)) this.#named.add(name);
    }
  }
}

/** Every digest in a manifest, also where this version does not look for one. @throws RegistryError MANIFEST_INVALID */
function namesOf(bytes: Buffer, contentType: string): Digest[] {
  const { blobs, manifests } = readManifest(bytes, contentType);
  const anywhere: readonly string[] = bytes.toString().match(/sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})/g) ?? [];
  return [...[...blobs, ...manifests].map(({ digest }) => digest), ...anywhere.filter(isDigest)];
}

function noEntries(error: unknown): [] {
  if (isMissing(error)) return [];
  throw error;
}
