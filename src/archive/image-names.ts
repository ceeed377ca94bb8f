import { isTag, looksLikeHost } from '../oci/reference.ts';

/** Annotations that say which image a descriptor of `index.json` stands for (image-spec, "Pre-Defined Annotation Keys"). */
export const refNameAnnotation = 'org.opencontainers.image.ref.name';
/** The same as containerd and Docker write it: always the full name. */
export const imageNameAnnotation = 'io.containerd.image.name';
/**
 * An attachment of an image, such as a signature: `registry/repository:tag` or `registry/repository@digest`. A private
 * name, so that other programs do not take it for an image.
 */
export const attachmentAnnotation = 'io.millpond.attachment';

/** The kind of an entry: cosign and hauler give an image and its signatures one name, and tell them apart by this. */
export const kindAnnotation = 'kind';

/** The name of an image in an archive. */
export type ArchivedName =
  /** `registry/repository`, with a tag or a digest. */
  | { readonly kind: 'full'; readonly name: string }
  | { readonly kind: 'tag'; readonly tag: string }
  | { readonly kind: 'none' };

/** The name in the annotations of a descriptor in `index.json`. */
export function nameIn(annotations: Readonly<Record<string, unknown>>): ArchivedName {
  const full = annotations[imageNameAnnotation];
  if (typeof full === 'string' && full.includes('/')) return { kind: 'full', name: full };
  const reference = annotations[refNameAnnotation];
  if (typeof reference !== 'string' || reference === '') return { kind: 'none' };
  const first = reference.split('/', 1)[0] ?? '';
  if (reference.includes('/') && looksLikeHost(first)) return { kind: 'full', name: reference };
  if (isTag(reference)) return { kind: 'tag', tag: reference };
  // `nginx:1.27` and `library/nginx:1.27` say no registry.
  const colon = reference.lastIndexOf(':');
  const tag = reference.slice(colon + 1);
  return colon !== -1 && isTag(tag) ? { kind: 'tag', tag } : { kind: 'none' };
}

/** Whether a tag attaches something to a manifest: those of cosign, and the referrers tag of the distribution-spec. */
export function isAttachmentTag(name: ArchivedName): boolean {
  const tag =
    name.kind === 'tag' ? name.tag : name.kind === 'full' ? name.name.slice(name.name.lastIndexOf(':') + 1) : '';
  return /^sha(?:256|512)-[0-9a-f]{64,128}(?:\.[a-z]+)?$/.test(tag);
}

/** A name as `docker save` writes it: without a registry it is of Docker Hub. */
export function dockerName(repoTag: string): string {
  const slash = repoTag.indexOf('/');
  if (slash !== -1 && looksLikeHost(repoTag.slice(0, slash))) return repoTag;
  return slash === -1 ? `docker.io/library/${repoTag}` : `docker.io/${repoTag}`;
}
