import { type Descriptor, readManifest } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { type Archive, blobName, documents, readDocuments } from './archive.ts';
import { ArchiveError, shownName } from './archive-error.ts';
import { type ArchiveDescription, type BlobSize, descriptionName, readDescription } from './description.ts';
import type { ArchivedImage, FoundImages, UnreadableImage } from './found-images.ts';
import { maxListBytes, maxManifestBytes, maxManifestsBytes } from './limits.ts';
import { readLists } from './listed-images.ts';
import { rootsOf } from './roots.ts';

/** Deepest nesting of manifests that is followed. */
const maxDepth = 8;

/** A blob that an archive has and its images name. */
export interface ArchivedBlob extends BlobSize {
  /** The file it is in, or the bytes themselves. */
  readonly from: string | Buffer;
}

/** The references of a manifest of an archive. */
export interface ArchivedLinks {
  /** Manifests that it names. */
  readonly manifests: readonly Digest[];
  /** Other blobs that it names and the archive has. */
  readonly blobs: readonly Digest[];
  readonly subject: Digest | undefined;
}

/** The content of an archive, as far as its images name it; anything else in it is ignored. */
export interface ArchivedContent {
  /** Names the archive: what it says about itself, or the digest of its list of images. */
  readonly id: Digest;
  readonly images: readonly ArchivedImage[];
  /** Images of which nothing can be read. */
  readonly unreadable: readonly UnreadableImage[];
  /** The description in an archive written by Millpond. */
  readonly description: ArchiveDescription | undefined;
  /** Configs and layers that it has. */
  readonly blobs: readonly ArchivedBlob[];
  /** Manifests that it has, verified. */
  readonly manifests: readonly ArchivedBlob[];
  /** The references of those manifests. */
  readonly links: ReadonlyMap<Digest, ArchivedLinks>;
  /** Content that is not as a manifest says: one sentence each. */
  readonly wrong: ReadonlyMap<Digest, string>;
  /** Those of them whose bytes are other ones than their digests say. */
  readonly damaged: ReadonlySet<Digest>;
}

/**
 * Reads what an archive has: OCI image layouts, archives in the form of `docker save`, or folders with one image each.
 * A fault of one image does not affect the others.
 * @throws ArchiveError where it can be read in no part
 */
export async function readContent(archive: Archive): Promise<ArchivedContent> {
  const lists = await readLists(archive, rootsOf(archive));
  const isLayout = archive.files.has('index.json');
  const written = isLayout ? await readDocuments(archive, [descriptionName], { maxBytes: maxListBytes }) : undefined;
  const bytes = written?.get(descriptionName);
  const description = bytes && readDescription(bytes, lists.digest);
  if (description) requireContents(archive, description);
  const { images, unreadable } = lists;
  const closure = await new Closure(archive, lists).read();
  return { id: description?.id ?? lists.digest, images, unreadable, description, ...closure };
}

/** @throws ArchiveError where an archive that builds upon no other one lacks something that it says is there with it */
function requireContents(archive: Archive, { base, complete }: ArchiveDescription): void {
  const lacking = base === undefined ? complete.filter((digest) => !archive.files.has(blobName(digest))) : [];
  if (lacking.length === 0) return;
  throw new ArchiveError(
    `it is not whole: it lacks ${lacking.length} of its ${complete.length} blobs, such as ${lacking[0]}`,
  );
}

type Link = Pick<Descriptor, 'digest' | 'size' | 'mediaType'>;

/** Follows the manifests of an archive, level by level, so that one that is compressed is gone through few times. */
class Closure {
  readonly #archive: Archive;
  readonly #lists: FoundImages;
  readonly #manifests = new Map<Digest, ArchivedBlob>();
  readonly #blobs = new Map<Digest, ArchivedBlob>();
  readonly #links = new Map<Digest, ArchivedLinks>();
  /** Manifests that cannot be used, with the reason. */
  readonly #wrong = new Map<Digest, string>();
  readonly #damaged = new Set<Digest>();
  /** Content that contradicts one manifest: others may be right about it. */
  readonly #doubts = new Map<Digest, string>();
  #manifestsBytes = 0;
  #next = new Map<Digest, Link>();

  constructor(archive: Archive, lists: FoundImages) {
    this.#archive = archive;
    this.#lists = lists;
  }

  async read(): Promise<Pick<ArchivedContent, 'manifests' | 'blobs' | 'links' | 'wrong' | 'damaged'>> {
    const { images, made } = this.#lists;
    for (const image of images) this.#follow(image);
    for (let depth = 0; this.#next.size > 0; depth += 1) {
      const level = this.#next;
      this.#next = new Map();
      const inFiles = new Map<string, Link>();
      for (const link of level.values()) {
        const bytes = made.get(link.digest);
        if (depth > maxDepth) this.#wrong.set(link.digest, 'its indexes are nested too deeply');
        else if (bytes) this.#take(link, bytes, bytes);
        else inFiles.set(this.#fileOf(link)!, link);
      }
      const maxTotalBytes = maxManifestsBytes - this.#manifestsBytes;
      for await (const [file, bytes] of documents(this.#archive, inFiles.keys(), {
        maxBytes: maxManifestBytes,
        maxTotalBytes,
      })) {
        this.#take(inFiles.get(file)!, file, bytes);
      }
    }
    return {
      manifests: [...this.#manifests.values()],
      blobs: [...this.#blobs.values()],
      links: this.#links,
      wrong: new Map([...this.#doubts, ...this.#wrong]),
      damaged: this.#damaged,
    };
  }

  /** Has a manifest read. What the archive does not have is of another platform, or in a base. */
  #follow(link: Link): void {
    const { digest } = link;
    if (this.#manifests.has(digest) || this.#wrong.has(digest) || this.#next.has(digest)) return;
    if (this.#lists.made.has(digest)) {
      this.#next.set(digest, link);
      return;
    }
    const file = this.#fileOf(link);
    if (file === undefined) return;
    const size = this.#archive.files.get(file)!;
    if (size <= maxManifestBytes) this.#next.set(digest, link);
    else this.#wrong.set(digest, `the manifest ${digest} has ${size} bytes, more than it may`);
  }

  #take({ digest, mediaType }: Link, from: string | Buffer, bytes: Buffer): void {
    const links = this.#readVerified(bytes, { digest, mediaType });
    if (links === undefined) return;
    this.#manifests.set(digest, { digest, size: bytes.length, from });
    this.#manifestsBytes += bytes.length;
    const { manifests, blobs, subject } = links;
    for (const link of manifests) this.#follow(link);
    const found: Digest[] = [];
    for (const blob of blobs) {
      const file = this.#fileOf(blob);
      if (file === undefined) continue;
      const known = this.#blobs.get(blob.digest) ?? {
        digest: blob.digest,
        size: this.#archive.files.get(file)!,
        from: file,
      };
      this.#blobs.set(known.digest, known);
      // However often a blob is named, its digest is held once.
      found.push(known.digest);
    }
    const named = manifests.map((link) => this.#next.get(link.digest)?.digest ?? link.digest);
    this.#links.set(digest, { manifests: named, blobs: found, subject: subject?.digest });
  }

  /** The file that a blob is in, unless that is found wrong. */
  #fileOf({ digest, size }: BlobSize): string | undefined {
    if (this.#wrong.has(digest)) return undefined;
    const named = this.#lists.files.get(digest) ?? blobName(digest);
    const file = this.#archive.resolve(named);
    const found = file === undefined ? undefined : this.#archive.files.get(file);
    const why = this.#archive.unreadable.get(named);
    if (why !== undefined) this.#wrong.set(digest, `${shownName(named)} in it ${why}`);
    else if (found !== undefined && size >= 0 && found !== size) {
      this.#doubts.set(digest, `a manifest in it gives ${digest} ${size} bytes, and it has ${found}`);
    } else return file;
    return undefined;
  }

  #readVerified(bytes: Buffer, { digest, mediaType }: { digest: Digest; mediaType: string }) {
    if (digestOf(bytes, digestAlgorithm(digest)) !== digest) {
      this.#damaged.add(digest);
      this.#wrong.set(digest, `the bytes of the manifest ${digest} are other ones than its digest says`);
      return undefined;
    }
    try {
      return readManifest(bytes, mediaType);
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      this.#wrong.set(digest, `what it has as the manifest ${digest} is none`);
      return undefined;
    }
  }
}
