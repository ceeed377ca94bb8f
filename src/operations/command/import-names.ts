import { ArchiveError } from '../../archive/archive-error.ts';
import type { ArchivedContent } from '../../archive/archived-content.ts';
import { type ArchivedImage, shownImage, type UnreadableImage } from '../../archive/found-images.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/error.ts';
import { parseReference } from '../../oci/reference.ts';
import type { NewImage } from '../protocol/import.ts';

/** An image of an archive with the name that it is to have here. */
export interface NamedArchivedImage extends NewImage {
  readonly isAttachment: boolean;
}

/** Images of an archive with their names, and those that cannot be given one. */
export interface NamedImages {
  readonly images: readonly NamedArchivedImage[];
  readonly refused: readonly (UnreadableImage & { readonly isAttachment: boolean })[];
}

/**
 * Gives every image of an archive a full name. One without a tag is called by its digest, and what refers to another
 * image goes into the repository of that.
 * @param override what to call it in place of what the archive says: of one image, or a repository for all of its tags.
 *   Attachments of an image go into that repository too
 * @throws ArchiveError where none has a name; RegistryError where `override` is no name
 */
export function nameImages(
  content: Pick<ArchivedContent, 'images' | 'unreadable' | 'links'>,
  override: string | undefined,
): NamedImages {
  const naming = new Naming(content, override);
  const images: NamedArchivedImage[] = [];
  const refused = content.unreadable.map((image) => ({ ...image, isAttachment: false }));
  for (const image of naming.entries) {
    const { digest, mediaType } = image;
    const isAttachment = naming.isAttachment(image);
    try {
      images.push({ name: naming.nameOf(image), digest, mediaType, isAttachment });
    } catch (error) {
      if (!(error instanceof ArchiveError || error instanceof RegistryError)) throw error;
      refused.push({ name: shownImage(image.name, digest), reason: error.message, isAttachment });
    }
  }
  if (images.length > 0) return { images, refused };
  const reasons = new Set(refused.map(({ reason }) => reason));
  throw new ArchiveError(reasons.size === 0 ? 'it has no images' : [...reasons].slice(0, 3).join('; '));
}

class Naming {
  /** Without what comes along with another entry anyway: tools list every manifest that they have written. */
  readonly entries: readonly ArchivedImage[];
  readonly #links: ArchivedContent['links'];
  readonly #override: ReturnType<typeof parseReference> | undefined;
  readonly #overrideText: string;
  readonly #isOne: boolean;
  /** The repository of a manifest, by the name of its image. */
  readonly #repositories = new Map<Digest, string>();

  constructor({ images, links }: Pick<ArchivedContent, 'images' | 'links'>, override: string | undefined) {
    this.#links = links;
    this.#override = override === undefined ? undefined : parseReference(override);
    this.#overrideText = override ?? '';
    const named = new Set(links.values().flatMap(({ manifests }) => manifests));
    this.entries = images.filter(({ name, digest }) => name.kind !== 'none' || !named.has(digest));
    const main = this.entries.filter((image) => !this.isAttachment(image));
    this.#isOne = new Set(main.map(({ digest }) => digest)).size === 1;
    for (const { name, digest } of main) {
      const repository = name.kind === 'full' ? repositoryOf(name.name) : undefined;
      if (repository !== undefined) this.#note(digest, repository);
    }
  }

  /** Notes the repository of a manifest and of those that it names, unless they have been seen in another one. */
  #note(root: Digest, repository: string): void {
    const left = [root];
    for (let digest = left.pop(); digest !== undefined; digest = left.pop()) {
      if (this.#repositories.has(digest)) continue;
      this.#repositories.set(digest, repository);
      for (const child of this.#links.get(digest)?.manifests ?? []) left.push(child);
    }
  }

  /** An attachment: marked as one by the archive, or with a subject and without its own tag. */
  isAttachment({ isAttachment, name, digest }: ArchivedImage): boolean {
    return isAttachment || (name.kind === 'none' && this.#links.get(digest)?.subject !== undefined);
  }

  /** @throws ArchiveError if it has no name, RegistryError if its name is invalid */
  nameOf(image: ArchivedImage): string {
    const { name, digest, suffix } = image;
    if (suffix !== undefined) return `${this.#repositoryFor(image)}:${this.#attachedTag(image, suffix)}`;
    if (this.isAttachment(image)) {
      if (name.kind === 'full' && this.#override === undefined) return name.name;
      const tag = name.kind === 'full' ? tagOf(name.name) : name.kind === 'tag' ? name.tag : undefined;
      return `${this.#repositoryFor(image)}${tag === undefined ? `@${digest}` : `:${tag}`}`;
    }
    if (this.#override !== undefined) return this.#givenName(image, this.#override);
    if (name.kind === 'full') return name.name;
    return `${this.#repositoryFor(image)}${name.kind === 'tag' ? `:${name.tag}` : `@${digest}`}`;
  }

  #givenName({ name, digest }: ArchivedImage, { tag, digest: given }: ReturnType<typeof parseReference>): string {
    const override = this.#overrideText;
    if (tag !== undefined || given !== undefined) {
      if (this.#isOne) return override;
      throw new ArchiveError(`it has several images: ${override} can only be the name of one`);
    }
    const own = name.kind === 'tag' ? name.tag : name.kind === 'full' ? tagOf(name.name) : undefined;
    if (own !== undefined) return `${override}:${own}`;
    return this.#isOne ? override : `${override}@${digest}`;
  }

  /** The repository of an image that does not say it itself. @throws ArchiveError */
  #repositoryFor({ name, digest }: ArchivedImage): string {
    if (this.#override !== undefined) return repositoryOf(this.#overrideText);
    if (name.kind === 'full') return repositoryOf(name.name);
    // A referrer of an image is in its repository, and so are referrers of that one.
    for (let at: Digest | undefined = digest, steps = 0; at !== undefined && steps < 8; steps += 1) {
      const repository = this.#repositories.get(at);
      if (repository !== undefined) return repository;
      at = this.#links.get(at)?.subject;
    }
    const all = new Set(this.#repositories.values());
    if (all.size === 1 && name.kind === 'none') return [...all][0]!;
    throw new ArchiveError(
      `it does not say of which repository ${shownImage(name, digest)} is: say it with --name, such as --name docker.io/library/nginx`,
    );
  }

  /** The tag under which cosign finds something: it is made of the digest of the image that has the same name. */
  #attachedTag({ name }: ArchivedImage, suffix: string): string {
    const called = JSON.stringify(name);
    const subjects = new Set(
      this.entries
        .filter((other) => !this.isAttachment(other) && (name.kind === 'none' || JSON.stringify(other.name) === called))
        .map(({ digest }) => digest),
    );
    const [subject] = subjects;
    if (subject === undefined || subjects.size > 1) {
      const which = subjects.size === 0 ? 'the image' : 'which of its images';
      throw new ArchiveError(`it does not say ${which} it belongs to`);
    }
    return `${digestAlgorithm(subject)}-${digestHex(subject)}${suffix}`;
  }
}

/** @throws RegistryError where it is no name of an image */
function repositoryOf(name: string): string {
  const { registry, repository } = parseReference(name);
  return registry === undefined ? repository : `${registry}/${repository}`;
}

function tagOf(name: string): string | undefined {
  const colon = name.lastIndexOf(':');
  return name.includes('@') || colon < name.lastIndexOf('/') || colon === -1 ? undefined : name.slice(colon + 1);
}
