import { bareMediaType, manifestMediaTypes } from '../oci/media-types.ts';

/**
 * Whether a client that sent these `Accept` headers takes a media type. No header, and ranges with an asterisk, take all
 * (RFC 9110, 12.5.1); a weight of 0 refuses.
 */
export function isAcceptable(contentType: string, accept: string): boolean {
  if (accept === '') return true;
  // Most clients name the type as it is.
  const mediaType = bareMediaType(contentType);
  const ranges = readAccept(accept);
  if (ranges.size === 0) return true;
  const exact = ranges.get(mediaType);
  if (exact !== undefined) return exact;
  return ranges.get(`${mediaType.split('/', 1)[0]}/*`) ?? ranges.get('*/*') ?? false;
}

/** The manifest types that a client's `Accept` names, in a fixed order: what its variant of a tag is asked for with. */
export function acceptVariant(accept: string): string[] {
  const ranges = readAccept(accept);
  return manifestMediaTypes.filter((type) => ranges.get(type) === true).toSorted();
}

function readAccept(accept: string): Map<string, boolean> {
  const ranges = new Map<string, boolean>();
  for (const part of accept.split(',')) {
    const range = bareMediaType(part);
    if (range !== '') ranges.set(range, !/;\s*q=0(?:\.0*)?\s*(?:;|$)/i.test(part));
  }
  return ranges;
}
