import type { Digest } from '../../oci/digest.ts';
import { subjectOfTag } from '../../oci/subject-of-tag.ts';
import type { Database } from './database.ts';
import type { GrantRecords } from './grant-records.ts';
import type { ImageGraph } from './image-graph.ts';
import type { ImagePart } from './image-parts.ts';
import type { ManifestRecords } from './manifest-records.ts';
import type { ManyParts } from './many-parts.ts';
import type { NameEntry } from './name-entry.ts';
import type { NameJournal } from './name-journal.ts';
import type { PinRecords } from './pin-records.ts';
import type { TagRecords } from './tag-records.ts';

/** An image as the catalog names it. */
export interface ImageName {
  /** `docker.io/library/nginx` */
  readonly repository: string;
  /** A tag, or a digest. */
  readonly reference: string;
}

/** The tags and manifests that are about to be removed: they are still stored, and hold nothing any more. */
export interface Leaving {
  /** Tags, as {@link tagName} writes them. */
  readonly tags: ReadonlySet<string>;
  readonly manifests: ReadonlySet<Digest>;
}

/** To find out whether a blob is shared, no more rows than this are read; beyond, it counts as shared. */
const maxHolders = 200;

export interface ImageRemovalOptions {
  readonly tags: TagRecords;
  readonly grants: GrantRecords;
  readonly manifests: ManifestRecords;
  readonly parts: ManyParts;
  readonly graph: ImageGraph;
  readonly pins: PinRecords;
  readonly journal: NameJournal;
  readonly now: () => number;
}

/** The parts that only one image needs, and the removal of images. */
export class ImageRemoval {
  readonly #database: Database;
  readonly #options: ImageRemovalOptions;

  constructor(database: Database, options: ImageRemovalOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** The manifests of a name: several if a tag has been requested with several `Accept` lists. */
  roots({ repository, reference }: ImageName): Digest[] {
    return this.#options.pins.meant(repository, reference);
  }

  /**
   * The stored parts of a manifest that are removed with it: no tag, pin or other manifest holds them.
   * @param name the removed name: this tag holds nothing, nor does a tag that only attaches something to it
   */
  own(manifest: Digest, name: ImageName, leaving: Leaving): ImagePart[] {
    const own = this.#options.graph.own(
      manifest,
      { repository: name.repository, isHere: true },
      (digest, parts) =>
        (digest !== name.reference && this.#options.pins.isPinnedDigest(digest)) ||
        this.#isTagged(digest, { root: manifest, name, parts, leaving }) ||
        // An image that is removed by its own name goes, even if it belongs to something that stays.
        this.#isNeeded(digest, { parts, leaving, isRoot: digest === manifest }),
    );
    return own.filter(({ isStored }) => isStored);
  }

  /** The names that the removal of a manifest would break in a repository: a tag that stands for it, an index that names it. */
  holders(manifest: Digest, repository: string): string[] {
    const tags = this.#options.tags.standingFor(manifest).filter((tag) => tag.repository === repository);
    if (tags.length > 0) return [...new Set(tags.map(({ tag }) => tagName(repository, tag)))];
    const indexes: string[] = [];
    this.#options.graph.isNamed(manifest, (index) => {
      if (this.#options.grants.mayRead(repository, index)) indexes.push(`${repository}@${index}`);
      return indexes.length > 0;
    });
    return indexes;
  }

  /**
   * The stored parts of a manifest that no other image needs, regardless of pins.
   * @param all its stored parts @param name the image's own
   */
  unshared(manifest: Digest, name: ImageName, all: readonly ImagePart[]): ImagePart[] {
    const leaving: Leaving = { tags: new Set(), manifests: new Set() };
    const own = this.#options.graph.own(
      manifest,
      { repository: name.repository, isHere: true, all },
      (digest, parts) =>
        this.#isTagged(digest, { root: manifest, name, parts, leaving }) ||
        this.#isNeeded(digest, { parts, leaving, isRoot: digest === manifest }),
    );
    return own.filter(({ isStored }) => isStored);
  }

  /**
   * Forgets an image by one of its names, and everything that only it needs: tags, rights, and what its manifests name.
   * The caller removes the blobs, which no image needs any more.
   * @returns these blobs
   * @throws Error if the catalog cannot be written; nothing has changed then
   */
  forget(name: ImageName): ImagePart[] {
    const { manifests, parts: manyParts, graph, pins, journal } = this.#options;
    manyParts.disturb();
    const roots = this.roots(name);
    const entries: NameEntry[] = [];
    const gone = new Map<Digest, ImagePart>();
    this.#database.writeNow(() => {
      const parts = roots.map((root) => graph.parts(root, name.repository, { isHere: true }));
      for (const root of roots) {
        const leaving: Leaving = { tags: new Set(), manifests: new Set(gone.keys()) };
        const own = this.own(root, name, leaving);
        entries.push(...this.#revoke(name, root));
        for (const part of own) gone.set(part.digest, part);
      }
      entries.push(...this.#forgetTags(name, gone));
      // A manifest that stays may have been pinned by this name only; its parts are known for a moment longer.
      for (const [index, root] of roots.entries()) pins.release(root, name.repository, parts[index]);
      for (const { digest, isManifest } of gone.values()) if (isManifest) manifests.forget(digest);
    });
    for (const entry of entries) journal.add(entry);
    return [...gone.values()];
  }

  #forgetTags(name: ImageName, gone: ReadonlyMap<Digest, ImagePart>): NameEntry[] {
    const { tags, now } = this.#options;
    const attached = [...gone.keys()].flatMap((digest) =>
      this.#options.tags.standingFor(digest).filter(({ tag }) => subjectOfTag(tag) !== undefined),
    );
    return [{ repository: name.repository, tag: name.reference }, ...attached].flatMap(({ repository, tag }) =>
      tags
        .eraseAll(repository, tag)
        .map((variant): NameEntry => ({ kind: 'tag gone', repository, tag, variant, atMs: now() })),
    );
  }

  /** Revokes the repository's right to what it has from this image only. */
  #revoke(name: ImageName, root: Digest): NameEntry[] {
    const { graph, grants, pins } = this.#options;
    const { repository } = name;
    const none: Leaving = { tags: new Set(), manifests: new Set() };
    const own = graph.own(
      root,
      { repository, isHere: false },
      (digest, all) =>
        (digest !== name.reference && pins.isPinnedByName(repository, digest)) ||
        this.#isTagged(digest, { root, name, parts: all, leaving: none, within: repository }) ||
        this.#isNeeded(digest, { parts: all, leaving: none, isRoot: digest === root, within: repository }),
    );
    for (const { digest } of own) grants.revoke(repository, digest);
    return own.map(({ digest }) => ({ kind: 'right gone', repository, digest }));
  }

  /** Whether a tag stands for a digest, except the removed tag and tags that attach it to something here. */
  #isTagged(
    digest: Digest,
    of: {
      readonly root: Digest;
      readonly name: ImageName;
      readonly parts: ReadonlyMap<Digest, ImagePart>;
      readonly leaving: Leaving;
      readonly within?: string;
    },
  ): boolean {
    // Tags stand for manifests, so layers need no check.
    if (digest !== of.root && of.parts.get(digest)?.isManifest !== true) return false;
    return this.#options.tags.standingFor(digest).some(({ repository, tag }) => {
      if (of.within !== undefined && repository !== of.within) return false;
      if (repository === of.name.repository && tag === of.name.reference) return false;
      const subject = subjectOfTag(tag);
      const isAttached = subject !== undefined && subject !== digest && of.parts.has(subject);
      return !(isAttached && repository === of.name.repository) && !of.leaving.tags.has(tagName(repository, tag));
    });
  }

  /** Whether a stored manifest outside the parts names a digest, or has it attached. */
  #isNeeded(
    digest: Digest,
    of: {
      readonly parts: ReadonlyMap<Digest, ImagePart>;
      readonly leaving: Leaving;
      readonly isRoot: boolean;
      readonly within?: string;
    },
  ): boolean {
    const { graph, grants } = this.#options;
    let looked = 0;
    const isWanted = (manifest: Digest): boolean => {
      looked += 1;
      if (looked > maxHolders) return true;
      if (of.parts.has(manifest) || of.leaving.manifests.has(manifest)) return false;
      return of.within === undefined || grants.mayRead(of.within, manifest);
    };
    return of.isRoot ? graph.isNamed(digest, isWanted) : graph.isNeeded(digest, isWanted);
  }
}

/** A tag of a repository as one text. */
function tagName(repository: string, tag: string): string {
  return `${repository}:${tag}`;
}
