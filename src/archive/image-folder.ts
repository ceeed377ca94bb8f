import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { isTag, looksLikeHost } from '../oci/reference.ts';
import { asObject, parseJson } from './archived-json.ts';
import type { FoundImages } from './found-images.ts';
import type { ArchivedName } from './image-names.ts';

/**
 * Reads a folder with one image, as skopeo's `dir:` makes it: `manifest.json` is the image's own manifest, blobs are
 * called by the hexadecimal part of their digests, and the manifests that an index names `<hex>.manifest.json`.
 * @param prefix of the folder within the archive
 * @param names of all files in it
 * @param manifest its `manifest.json`
 * @throws ArchiveError
 */
export function readImageFolder(
  manifest: Buffer,
  { prefix, names }: { readonly prefix: string; readonly names: readonly string[] },
): FoundImages {
  const { mediaType } = asObject(parseJson(manifest, `${prefix}manifest.json`));
  const digest = digestOf(manifest);
  const files = new Map<Digest, string>([[digest, `${prefix}manifest.json`]]);
  for (const name of names) {
    const [, hex = ''] = /^([0-9a-f]+)(?:\.manifest\.json)?$/.exec(name.slice(prefix.length)) ?? [];
    for (const named of [`sha256:${hex}`, `sha512:${hex}`]) if (isDigest(named)) files.set(named, name);
  }
  const image = {
    name: nameOf(prefix),
    digest,
    // A manifest without a media type is recognized by its form when it is read.
    mediaType: typeof mediaType === 'string' ? mediaType : '',
    size: manifest.length,
    isAttachment: false,
  };
  return { images: [image], unreadable: [], made: new Map(), files };
}

/** The image that a folder of `skopeo sync` is called after: `registry/repository:tag`, or without the registry. */
function nameOf(prefix: string): ArchivedName {
  const parts = prefix.split('/').slice(0, -1);
  const host = parts.findIndex((part, at) => at < parts.length - 1 && looksLikeHost(part));
  if (host !== -1) return { kind: 'full', name: parts.slice(host).join('/') };
  const last = parts.at(-1) ?? '';
  const tag = last.slice(last.lastIndexOf(':') + 1);
  return last.includes(':') && !last.includes('@') && isTag(tag) ? { kind: 'tag', tag } : { kind: 'none' };
}
