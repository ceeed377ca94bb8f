import { LRUCache } from 'lru-cache';
import { bareMediaType, manifestMediaTypes } from '../oci/media-types.ts';

/** Reads what clients say they accept; each client says the same with every request, so that it is read once. */
export class AcceptReader {
  readonly #read = new LRUCache<string, ReadonlyMap<string, boolean>>({ max: 500 });

  /**
   * Whether a client that sent these `Accept` headers takes a media type. No header, and ranges with an asterisk, take
   * all (RFC 9110, 12.5.1); a weight of 0 refuses.
   */
  takes(contentType: string, accept: string): boolean {
    const ranges = this.#ranges(accept);
    if (ranges.size === 0) return true;
    const mediaType = bareMediaType(contentType);
    const exact = ranges.get(mediaType);
    if (exact !== undefined) return exact;
    return ranges.get(`${mediaType.split('/', 1)[0]}/*`) ?? ranges.get('*/*') ?? false;
  }

  /** The manifest types that a client's `Accept` names, in a fixed order: what its variant of a tag is asked for with. */
  variant(accept: string): string[] {
    const ranges = this.#ranges(accept);
    return manifestMediaTypes.filter((type) => ranges.get(type) === true).toSorted();
  }

  #ranges(accept: string): ReadonlyMap<string, boolean> {
    let ranges = this.#read.get(accept);
    if (ranges === undefined) {
      ranges = readAccept(accept);
      this.#read.set(accept, ranges);
    }
    return ranges;
  }
}

function readAccept(accept: string): Map<string, boolean> {
  const ranges = new Map<string, boolean>();
  for (const part of accept.split(',')) {
    const range = bareMediaType(part);
    if (range !== '') ranges.set(range, !/;\s*q=0(?:\.0*)?\s*(?:;|$)/i.test(part));
  }
  return ranges;
}
