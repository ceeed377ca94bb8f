import { RegistryError } from '../../../oci/error.ts';
import { formatPlatform, type Platform, parsePlatform } from '../../../oci/platform.ts';
import { parseReference } from '../../../oci/reference.ts';
import { namedRepository } from '../../../upstream/repository.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import type { FetchChoice, WantedImages } from '../../protocol/fetch.ts';
import type { WantedImage } from './wanted-images.ts';

/** Which parts of an image are requested. */
export interface ImageChoice {
  /** None: all. */
  readonly platforms: readonly Platform[];
  readonly referrers: boolean;
}

/** Parses the selection. @throws RegistryError NAME_INVALID for an invalid platform */
export function readChoice({ platforms = [], referrers = true }: FetchChoice): ImageChoice {
  return { platforms: platforms.map(readPlatform), referrers };
}

/** The lines of a list grouped by repository; an invalid line stands by itself. */
export function byRepository<Line extends WantedImages>(lines: readonly Line[], upstreams: UpstreamTable): Line[][] {
  const keyOf = ({ image }: Line): string => {
    try {
      return namedRepository(upstreams, parseReference(image)).key;
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      return image;
    }
  };
  return [...Map.groupBy(lines, keyOf).values()];
}

/** Images, each once, with everything that is requested of it. */
export class ChosenImages {
  readonly #images = new Map<string, { readonly image: WantedImage; readonly choice: ImageChoice }>();

  /** Adds an image, or merges what is requested of it. */
  add(image: WantedImage, choice: ImageChoice): void {
    const known = this.#images.get(image.name);
    this.#images.set(image.name, { image, choice: known ? joined(known.choice, choice) : choice });
  }

  values(): Iterable<{ readonly image: WantedImage; readonly choice: ImageChoice }> {
    return this.#images.values();
  }
}

function joined(one: ImageChoice, other: ImageChoice): ImageChoice {
  const referrers = one.referrers || other.referrers;
  if (one.platforms.length === 0 || other.platforms.length === 0) return { platforms: [], referrers };
  const platforms = new Map([...one.platforms, ...other.platforms].map((each) => [formatPlatform(each), each]));
  return { platforms: [...platforms.values()], referrers };
}

function readPlatform(text: string): Platform {
  const platform = parsePlatform(text);
  if (platform) return platform;
  throw new RegistryError('bad-name', `"${text}" is not a platform such as linux/amd64 or linux/arm/v7`);
}

/** An object without the members that are `undefined`: spread over another one it replaces nothing with them. */
export function withoutUndefined<Part extends object>(part: Part): Part {
  return Object.fromEntries(Object.entries(part).filter(([, value]) => value !== undefined)) as Part;
}
