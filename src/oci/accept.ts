import { LRUCache } from 'lru-cache';
import { bareMediaType, manifestMediaTypes } from './media-types.ts';

/** Most types of one client that an upstream is asked for. */
const maxNamedTypes = 20;

/** Most types of one client that are read, and most characters: no real client sends more. */
const maxRanges = 100;
const maxCharacters = 8 * 1024;
/** Longer ones are read each time: what is remembered has to stay small. */
const maxRememberedCharacters = 2 * 1024;

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

  /** All types that a client's `Accept` names, where upstreams are not asked for every one in any case; else none. */
  beyond(accept: string, ours: readonly string[]): string[] {
    const named = [...this.#ranges(accept)]
      .filter(([type, takes]) => takes && isVendorType(type))
      .map(([type]) => type);
    const isMore = named.some((type) => !ours.includes(type));
    return isMore ? named.toSorted().slice(0, maxNamedTypes) : [];
  }

  #ranges(accept: string): ReadonlyMap<string, boolean> {
    let ranges = this.#read.get(accept);
    if (ranges === undefined) {
      ranges = readAccept(accept);
      if (accept.length <= maxRememberedCharacters) this.#read.set(accept, ranges);
    }
    return ranges;
  }
}

function readAccept(accept: string): Map<string, boolean> {
  const ranges = new Map<string, boolean>();
  for (const part of accept.slice(0, maxCharacters).split(',', maxRanges)) {
    const range = bareMediaType(part);
    if (range !== '') ranges.set(range, !/;\s*q=0(?:\.0*)?\s*(?:;|$)/i.test(part));
  }
  return ranges;
}

// A type without a vendor tree, such as application/json, names no manifest.
function isVendorType(type: string): boolean {
  return type.startsWith('application/vnd.') && type.length <= 200;
}
