import type { Digest } from '../oci/digest.ts';
import { shownName } from './archive-error.ts';
import type { ArchivedName } from './image-names.ts';

/** Something that an archive has at its top: an image, or what belongs to one. */
export interface ArchivedImage {
  readonly name: ArchivedName;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  /** Whether it belongs to an image, as a signature does. */
  readonly isAttachment: boolean;
  /** Of what belongs to the image of the same name: what cosign adds to the tag that is made of its digest. */
  readonly suffix?: '.sig' | '.att' | '.sbom' | undefined;
}

/** An image that cannot be read, by what it is called, and why in one sentence. */
export interface UnreadableImage {
  readonly name: string;
  readonly reason: string;
}

/** The images of a list. */
export interface FoundImages {
  readonly images: readonly ArchivedImage[];
  readonly unreadable: readonly UnreadableImage[];
  /** Manifests that are not in the archive, made from what it says. */
  readonly made: ReadonlyMap<Digest, Buffer>;
  /** Files that are not called as in an image layout at the archive's top. */
  readonly files: ReadonlyMap<Digest, string>;
}

/** The name to show for an image of an archive. */
export function shownImage(name: ArchivedName, digest: Digest): string {
  if (name.kind === 'full') return name.name;
  return name.kind === 'tag' ? shownName(name.tag) : `an image without a name (${digest})`;
}
