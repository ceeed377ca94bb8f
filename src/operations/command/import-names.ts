import { ArchiveError, shownName } from '../../archive/archive-error.ts';
import type { ArchivedImage } from '../../archive/archived-images.ts';
import { parseReference } from '../../oci/reference.ts';
import type { NewImage } from '../protocol/import.ts';

/** An image of an archive with the name that it is to have here. */
export interface NamedArchivedImage extends NewImage {
  readonly isAttachment: boolean;
}

/**
 * Gives every image of an archive a full name.
 * @param override what to call it in place of what the archive says: of one image, or a repository for all of its tags.
 *   What goes with an image goes into that repository, too
 * @throws ArchiveError where one has none; RegistryError where `override` is no name
 */
export function nameImages(images: readonly ArchivedImage[], override: string | undefined): NamedArchivedImage[] {
  const main = images.filter(({ isAttachment }) => !isAttachment);
  if (main.length === 0 && images.length === 0) throw new ArchiveError('it has no images');
  const isOne = new Set(main.map(({ digest }) => digest)).size === 1;
  return images.map((image) => {
    const { digest, mediaType, isAttachment } = image;
    return { name: nameOf(image, { override, isOne }), digest, mediaType, isAttachment };
  });
}

function nameOf(image: ArchivedImage, { override, isOne }: { override: string | undefined; isOne: boolean }): string {
  if (override === undefined) return ownName(image);
  return image.isAttachment ? attachedName(image, override) : givenName(image, { override, isOne });
}

/** What goes with an image is found in the repository that the image is in, under its own tag or digest. */
function attachedName({ name, digest }: ArchivedImage, override: string): string {
  const { registry, repository } = parseReference(override);
  const tag = name.kind === 'full' ? tagOf(name.name) : undefined;
  const reference = tag === undefined ? `@${digest}` : `:${tag}`;
  return `${registry === undefined ? '' : `${registry}/`}${repository}${reference}`;
}

function ownName({ name, digest }: ArchivedImage): string {
  if (name.kind === 'full') return name.name;
  const what = name.kind === 'tag' ? shownName(name.tag) : `an image without a name (${digest})`;
  throw new ArchiveError(
    `it does not say of which repository ${what} is: say it with --name, such as --name docker.io/library/nginx`,
  );
}

function givenName({ name }: ArchivedImage, { override, isOne }: { override: string; isOne: boolean }): string {
  const { tag, digest } = parseReference(override);
  if (tag !== undefined || digest !== undefined) {
    if (isOne) return override;
    throw new ArchiveError(`it has several images: ${override} can only be the name of one`);
  }
  const own = name.kind === 'tag' ? name.tag : name.kind === 'full' ? tagOf(name.name) : undefined;
  if (own === undefined && !isOne) {
    throw new ArchiveError('it has several images without tags: they cannot all be called the same');
  }
  return own === undefined ? override : `${override}:${own}`;
}

function tagOf(name: string): string | undefined {
  const colon = name.lastIndexOf(':');
  return name.includes('@') || colon < name.lastIndexOf('/') || colon === -1 ? undefined : name.slice(colon + 1);
}
