import { readFile } from 'node:fs/promises';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Report } from '../oci/report.ts';
import type { HostedChange } from './changes.ts';
import { isMissing } from './durable-files.ts';
import { readPushedManifest, requireParts } from './manifest-checks.ts';
import type { RegistryParts } from './parts.ts';
import { descriptorsOf, fallbackTag, referrerOf } from './referrers.ts';
import { immutableTag, noManifest } from './refusals.ts';
import type { HostedReferrer } from './repositories.ts';
import type { HostedRules } from './rules.ts';

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

/** The result of pushing a manifest. */
export interface PutManifest {
  readonly digest: Digest;
  readonly subject: Digest | undefined;
}

export interface HostedManifestsOptions extends RegistryParts {
  /** Read each time. */
  readonly rules: () => HostedRules;
  readonly maxManifestBytes: number;
  readonly report: Report<HostedChange>;
}

/** The manifests and tags of hosted repositories. */
export class HostedManifests {
  readonly #options: HostedManifestsOptions;

  constructor(options: HostedManifestsOptions) {
    this.#options = options;
  }

  /** @returns `undefined` where the repository has no such manifest. @throws Error of the file system */
  async get(
    repository: string,
    reference: { tag: string } | { digest: Digest },
  ): Promise<HostedManifestReply | undefined> {
    const { repositories, layout } = this.#options;
    const digest =
      'digest' in reference ? reference.digest : (await repositories.tag(repository, reference.tag))?.digest;
    if (digest === undefined) return undefined;
    const record = await repositories.manifest(repository, digest);
    if (record === undefined) return undefined;
    try {
      const bytes = await readFile(layout.blobLink(repository, digest));
      return { digest, contentType: record.contentType, bytes };
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
  async put(repository: string, pushed: PushedManifest): Promise<PutManifest> {
    const { repositories, blobs, usage, locks, now, report, maxManifestBytes } = this.#options;
    const { bytes, contentType, tags } = pushed;
    const digest = digestOf(bytes, pushed.digest === undefined ? 'sha256' : digestAlgorithm(pushed.digest));
    if (pushed.digest !== undefined && digest !== pushed.digest) {
      throw new RegistryError('damaged', 'the bytes that were sent are not the manifest of that digest', {
        detail: { expected: pushed.digest, actual: digest },
      });
    }
    const rules = this.#options.rules();
    const links = readPushedManifest(bytes, contentType, { rules, maxBytes: maxManifestBytes });
    using _ = await locks.take(repository);
    for (const tag of tags) await this.#requireMovable(repository, tag, digest);
    await requireParts(links, { ...this.#options, repository, rules });
    const isNew = (await repositories.manifest(repository, digest)) === undefined;
    using _room = await usage.reserve(repository, { bytes: isNew ? bytes.length : 0, quota: rules.quota(repository) });
    const subject = links.subject?.digest;
    if (await blobs.put(repository, digest, bytes)) usage.added(repository, bytes.length);
    if (subject !== undefined) await repositories.putReferrer(repository, subject, referrerOf(digest, bytes, links));
    const { mediaType, artifactType } = links;
    const size = bytes.length;
    await repositories.putManifest(repository, digest, { contentType: mediaType, size, pushedAtMs: now(), subject });
    if (isNew) report({ kind: 'pushed', repository, digest, mediaType, artifactType, size, subject, tags });
    for (const tag of tags) await this.#moveTag(repository, tag, digest);
    return { digest, subject };
  }

  /** Lets tags stand for a manifest that is here. @throws RegistryError MANIFEST_UNKNOWN, DENIED; Error of the file system */
  async tag(repository: string, digest: Digest, tags: readonly string[]): Promise<void> {
    using _ = await this.#options.locks.take(repository);
    if ((await this.#options.repositories.manifest(repository, digest)) === undefined) {
      throw noManifest(repository, digest);
    }
    for (const tag of tags) await this.#requireMovable(repository, tag, digest);
    for (const tag of tags) await this.#moveTag(repository, tag, digest);
  }

  /** Removes a tag and leaves its manifest. @throws RegistryError MANIFEST_UNKNOWN, DENIED; Error of the file system */
  async deleteTag(repository: string, tag: string): Promise<void> {
    const { locks, repositories } = this.#options;
    using _ = await locks.take(repository);
    const before = await repositories.tag(repository, tag);
    if (before === undefined) throw noManifest(repository, tag);
    if (this.#options.rules().isImmutable(tag)) throw immutableTag(tag);
    await this.#removeTag(repository, tag, before.digest);
  }

  /** Removes a manifest with the tags that stand for it. @throws RegistryError MANIFEST_UNKNOWN, DENIED; Error of the file system */
  async delete(repository: string, digest: Digest): Promise<void> {
    const { locks, repositories, blobs, usage, report } = this.#options;
    using _ = await locks.take(repository);
    const record = await repositories.manifest(repository, digest);
    if (record === undefined) throw noManifest(repository, digest);
    const rules = this.#options.rules();
    const tags = await this.#tagsOf(repository, digest);
    const kept = tags.find((tag) => rules.isImmutable(tag));
    if (kept !== undefined) throw immutableTag(kept);
    for (const tag of tags) await this.#removeTag(repository, tag, digest);
    // First what names it, then the bytes: killed in between, nothing names what is not there.
    await repositories.removeManifest(repository, digest);
    report({ kind: 'deleted', repository, digest });
    if (record.subject !== undefined) await repositories.removeReferrer(repository, record.subject, digest);
    await blobs.remove(repository, digest);
    usage.changed(repository);
  }

  /**
   * The manifests that name a subject: those that were pushed with it, and those that a client has listed under the
   * fallback tag (distribution-spec, "Enabling the Referrers API"). @throws Error of the file system
   */
  async referrers(repository: string, subject: Digest): Promise<HostedReferrer[]> {
    const { repositories } = this.#options;
    const own: HostedReferrer[] = [];
    for (const referrer of await repositories.referrers(repository, subject)) {
      // Its manifest is written after it and removed before it: a kill in between leaves it alone.
      if ((await repositories.manifest(repository, referrer.digest)) !== undefined) own.push(referrer);
    }
    const fallback = await this.get(repository, { tag: fallbackTag(subject) });
    const listed = fallback === undefined ? [] : descriptorsOf(fallback.bytes);
    const known = new Set(own.map(({ digest }) => digest));
    return [...own, ...listed.filter(({ digest }) => !known.has(digest))];
  }

  /** To be called with the lock. */
  async #moveTag(repository: string, tag: string, digest: Digest): Promise<void> {
    const { repositories, now, report } = this.#options;
    const before = (await repositories.tag(repository, tag))?.digest;
    await repositories.putTag(repository, tag, { digest, movedAtMs: now() });
    if (before !== digest) report({ kind: 'tagged', repository, tag, digest, before });
  }

  /** To be called with the lock. */
  async #removeTag(repository: string, tag: string, digest: Digest): Promise<void> {
    await this.#options.repositories.removeTag(repository, tag);
    this.#options.report({ kind: 'untagged', repository, tag, digest });
  }

  async #requireMovable(repository: string, tag: string, digest: Digest): Promise<void> {
    if (!this.#options.rules().isImmutable(tag)) return;
    const before = await this.#options.repositories.tag(repository, tag);
    if (before !== undefined && before.digest !== digest) throw immutableTag(tag);
  }

  async #tagsOf(repository: string, digest: Digest): Promise<string[]> {
    const { repositories } = this.#options;
    const found: string[] = [];
    for (const tag of await repositories.tags(repository)) {
      if ((await repositories.tag(repository, tag))?.digest === digest) found.push(tag);
    }
    return found;
  }
}
