import { readFile } from 'node:fs/promises';
import { isElsewhere, type ManifestLinks, readManifest } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { bareMediaType } from '../oci/media-types.ts';
import { Locks } from '../waiting/locks.ts';
import { HostedBlobs } from './blobs.ts';
import { Collector } from './collector.ts';
import { isMissing } from './durable-files.ts';
import { type HostedLayout, hostedLayout } from './layout.ts';
import { descriptorsOf, fallbackTag, referrerOf } from './referrers.ts';
import { type HostedReferrer, HostedRepositories } from './repositories.ts';
import type { HostedRules } from './rules.ts';
import { Uploads } from './uploads.ts';
import { Usage } from './usage.ts';

export interface HostedRegistryOptions {
  /** The folder of hosted content. */
  readonly folder: string;
  /** Read each time: they may be changed while the mirror runs. */
  readonly rules: () => HostedRules;
  readonly maxBlobBytes: number;
  readonly maxManifestBytes: number;
  /** An upload session that nothing was sent to for so long is removed, in milliseconds. */
  readonly uploadExpiryMs: number;
  /** A blob that no manifest names stays for so long after its last use, in milliseconds; read each time. */
  readonly graceMs: () => number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** A manifest of a hosted repository, whole. */
export interface HostedManifestReply {
  readonly digest: Digest;
  /** As it was pushed with. */
  readonly contentType: string;
  readonly bytes: Buffer;
}

/** A manifest as a client pushes it. */
export interface PushedManifest {
  readonly bytes: Buffer;
  readonly contentType: string;
  /** The digest in the path; absent where there is a tag. */
  readonly digest?: Digest | undefined;
  /** The tag in the path and those of `?tag=`. */
  readonly tags: readonly string[];
}

/** What became of a pushed manifest. */
export interface PutManifest {
  readonly digest: Digest;
  readonly subject: Digest | undefined;
}

/**
 * The repositories that live here alone. What a method has answered survives a kill and a loss of power; what it has
 * refused has left nothing behind.
 */
export class HostedRegistry {
  readonly uploads: Uploads;
  readonly blobs: HostedBlobs;
  readonly repositories: HostedRepositories;
  readonly usage: Usage;
  readonly collector: Collector;
  readonly #options: HostedRegistryOptions;
  readonly #locks = new Locks();
  readonly layout: HostedLayout;

  constructor(options: HostedRegistryOptions) {
    const { folder, maxBlobBytes, uploadExpiryMs, now } = options;
    this.#options = options;
    this.layout = hostedLayout(folder);
    this.blobs = new HostedBlobs(this.layout, now);
    this.repositories = new HostedRepositories(this.layout);
    this.usage = new Usage({ blobs: this.blobs, repositories: this.repositories });
    const { layout, blobs, repositories, usage } = this;
    this.collector = new Collector({ ...options, layout, blobs, repositories, usage, locks: this.#locks });
    this.uploads = new Uploads({ layout: this.layout, maxBlobBytes, expiryMs: uploadExpiryMs, now });
  }

  /** Largest manifest, in bytes. */
  get maxManifestBytes(): number {
    return this.#options.maxManifestBytes;
  }

  get rules(): HostedRules {
    return this.#options.rules();
  }

  /**
   * Makes sure that so many bytes more fit into a repository.
   * @throws RegistryError QUOTA_EXCEEDED (413)
   */
  async requireRoom(repository: string, bytes: number): Promise<void> {
    const quota = this.rules.quota(repository);
    if (quota === undefined) return;
    const used = await this.usage.bytes(repository);
    if (used + bytes <= quota) return;
    throw new RegistryError(
      'quota-exceeded',
      `${repository} may have ${quota} bytes and has ${used}; these are ${bytes} more`,
      {
        detail: { quota, used, wanted: bytes },
      },
    );
  }

  /** Takes a blob that has arrived whole and right. @throws RegistryError QUOTA_EXCEEDED; Error of the file system */
  async adoptBlob(repository: string, digest: Digest, { path, size }: { path: string; size: number }): Promise<void> {
    if ((await this.blobs.get(repository, digest)) === undefined) await this.requireRoom(repository, size);
    await this.blobs.adopt(repository, digest, path);
    this.usage.changed(repository);
  }

  /** @returns `undefined` where the repository has no such manifest. @throws Error of the file system */
  async manifest(
    repository: string,
    reference: { tag: string } | { digest: Digest },
  ): Promise<HostedManifestReply | undefined> {
    const digest =
      'digest' in reference ? reference.digest : (await this.repositories.tag(repository, reference.tag))?.digest;
    if (digest === undefined) return undefined;
    const record = await this.repositories.manifest(repository, digest);
    if (record === undefined) return undefined;
    try {
      return {
        digest,
        contentType: record.contentType,
        bytes: await readFile(this.layout.blobLink(repository, digest)),
      };
    } catch (error) {
      // Deleted between the two looks.
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /**
   * Takes a manifest and lets its tags stand for it.
   * @throws RegistryError MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN, DIGEST_INVALID, SIZE_INVALID, UNSUPPORTED (415),
   *   DENIED for a tag that is immutable, QUOTA_EXCEEDED; Error of the file system
   */
  async putManifest(repository: string, pushed: PushedManifest): Promise<PutManifest> {
    const { bytes, contentType, tags } = pushed;
    const digest = digestOf(bytes, pushed.digest === undefined ? 'sha256' : digestAlgorithm(pushed.digest));
    if (pushed.digest !== undefined && digest !== pushed.digest) {
      throw new RegistryError('damaged', 'the bytes that were sent are not the manifest of that digest', {
        detail: { expected: pushed.digest, actual: digest },
      });
    }
    const links = this.#read(bytes, contentType);
    using _ = await this.#locks.take(repository);
    for (const tag of tags) await this.#requireMovable(repository, tag, digest);
    await this.#requireParts(repository, links);
    if ((await this.repositories.manifest(repository, digest)) === undefined) {
      await this.requireRoom(repository, bytes.length);
    }
    const { now } = this.#options;
    const subject = links.subject?.digest;
    await this.blobs.put(repository, digest, bytes);
    if (subject !== undefined)
      await this.repositories.putReferrer(repository, subject, referrerOf(digest, bytes, links));
    const record = { contentType: links.mediaType, size: bytes.length, pushedAtMs: now(), subject };
    await this.repositories.putManifest(repository, digest, record);
    for (const tag of tags) await this.repositories.putTag(repository, tag, { digest, movedAtMs: now() });
    this.usage.changed(repository);
    return { digest, subject };
  }

  /** Lets a tag stand for a manifest that is here. @throws RegistryError MANIFEST_UNKNOWN, DENIED */
  async putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    using _ = await this.#locks.take(repository);
    if ((await this.repositories.manifest(repository, digest)) === undefined) throw noManifest(repository, digest);
    await this.#requireMovable(repository, tag, digest);
    await this.repositories.putTag(repository, tag, { digest, movedAtMs: this.#options.now() });
  }

  /** Removes a tag and leaves its manifest. @throws RegistryError MANIFEST_UNKNOWN, DENIED */
  async deleteTag(repository: string, tag: string): Promise<void> {
    using _ = await this.#locks.take(repository);
    if (this.rules.isImmutable(tag) && (await this.repositories.tag(repository, tag)) !== undefined) throw fixed(tag);
    if (!(await this.repositories.removeTag(repository, tag))) throw noManifest(repository, tag);
  }

  /** Removes a manifest with the tags that stand for it. @throws RegistryError MANIFEST_UNKNOWN, DENIED */
  async deleteManifest(repository: string, digest: Digest): Promise<void> {
    using _ = await this.#locks.take(repository);
    const record = await this.repositories.manifest(repository, digest);
    if (record === undefined) throw noManifest(repository, digest);
    const tags = await this.#tagsOf(repository, digest);
    const kept = tags.find((tag) => this.rules.isImmutable(tag));
    if (kept !== undefined) throw fixed(kept);
    for (const tag of tags) await this.repositories.removeTag(repository, tag);
    // First what names it, then the bytes: killed in between, nothing names what is not there.
    await this.repositories.removeManifest(repository, digest);
    if (record.subject !== undefined) await this.repositories.removeReferrer(repository, record.subject, digest);
    await this.blobs.remove(repository, digest);
    this.usage.changed(repository);
  }

  /** Removes a blob from a repository. @throws RegistryError BLOB_UNKNOWN */
  async deleteBlob(repository: string, digest: Digest): Promise<void> {
    using _ = await this.#locks.take(repository);
    const wasThere = await this.blobs.remove(repository, digest);
    this.usage.changed(repository);
    if (!wasThere) {
      throw new RegistryError('not-found', `${repository} has no such blob`, { code: 'BLOB_UNKNOWN' });
    }
  }

  /**
   * The manifests that name a subject: those that were pushed with it, and those that a client has listed under the
   * fallback tag (distribution-spec, "Enabling the Referrers API").
   */
  async referrers(repository: string, subject: Digest): Promise<HostedReferrer[]> {
    const own: HostedReferrer[] = [];
    for (const referrer of await this.repositories.referrers(repository, subject)) {
      // Its manifest is written after it and removed before it: a kill in between leaves it alone.
      if ((await this.repositories.manifest(repository, referrer.digest)) !== undefined) own.push(referrer);
    }
    const fallback = await this.manifest(repository, { tag: fallbackTag(subject) });
    const listed = fallback === undefined ? [] : descriptorsOf(fallback.bytes);
    const known = new Set(own.map(({ digest }) => digest));
    return [...own, ...listed.filter(({ digest }) => !known.has(digest))];
  }

  #read(bytes: Buffer, contentType: string): ManifestLinks {
    const { maxManifestBytes } = this.#options;
    if (bytes.length > maxManifestBytes) {
      throw new RegistryError('manifest-too-large', `a manifest may have at most ${maxManifestBytes} bytes here`);
    }
    const bare = bareMediaType(contentType);
    const links = readManifest(bytes, bare === 'application/json' ? '' : contentType);
    if (bare !== '' && bare !== 'application/json' && bareMediaType(links.mediaType) !== bare) {
      throw new RegistryError('bad-manifest', `the manifest says it is "${links.mediaType}", the request "${bare}"`);
    }
    this.rules.requireTypes(links);
    return links;
  }

  async #requireMovable(repository: string, tag: string, digest: Digest): Promise<void> {
    if (!this.rules.isImmutable(tag)) return;
    const before = await this.repositories.tag(repository, tag);
    if (before !== undefined && before.digest !== digest) throw fixed(tag);
  }

  /** @throws RegistryError MANIFEST_BLOB_UNKNOWN, SIZE_INVALID */
  async #requireParts(repository: string, { blobs, manifests }: ManifestLinks): Promise<void> {
    for (const blob of blobs) {
      if (isElsewhere(blob)) continue;
      const found = await this.blobs.get(repository, blob.digest);
      if (found === undefined) throw missing(repository, blob.digest);
      if (blob.size >= 0 && found.size !== blob.size) {
        throw new RegistryError(
          'wrong-length',
          `the manifest gives ${blob.digest} ${blob.size} bytes; it has ${found.size}`,
          {
            detail: { digest: blob.digest, size: found.size },
          },
        );
      }
    }
    // What an index lists may be missing, the content of a manifest never.
    for (const { digest } of this.rules.sparseIndexes ? [] : manifests) {
      if ((await this.repositories.manifest(repository, digest)) === undefined) throw missing(repository, digest);
    }
  }

  async #tagsOf(repository: string, digest: Digest): Promise<string[]> {
    const found: string[] = [];
    for (const tag of await this.repositories.tags(repository)) {
      if ((await this.repositories.tag(repository, tag))?.digest === digest) found.push(tag);
    }
    return found;
  }
}

function noManifest(repository: string, reference: string): RegistryError {
  return new RegistryError('not-found', `${repository} has no manifest ${reference}`, { code: 'MANIFEST_UNKNOWN' });
}

function missing(repository: string, digest: Digest): RegistryError {
  return new RegistryError(
    'missing-part',
    `${repository} does not have ${digest}, which the manifest names: push it first`,
    {
      detail: { digest },
    },
  );
}

function fixed(tag: string): RegistryError {
  return new RegistryError('tag-immutable', `the tag ${tag} is immutable here: push under another tag`, {
    detail: { tag },
  });
}
