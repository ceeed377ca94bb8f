import { type Completeness, nothingSeen, type Seen } from '../../../mirror/completeness.ts';
import type { KeptManifest, KeptManifests } from '../../../mirror/kept-manifests.ts';
import { type Descriptor, isElsewhere, manifestLimits, readManifest } from '../../../oci/descriptor.ts';
import type { Digest } from '../../../oci/digest.ts';
import { parseJson } from '../../../oci/json.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { StoredImage, StoredPlatform } from '../../protocol/explain.ts';

export interface InventoryOptions {
  readonly kept: KeptManifests;
  readonly catalog: Catalog;
  readonly completeness: Completeness;
}

interface Within {
  readonly images: Map<Digest, StoredImage | undefined>;
  readonly seen: Seen;
}

/** Examines what is stored, without counting a use. */
export class Inventory {
  readonly #options: InventoryOptions;

  constructor(options: InventoryOptions) {
    this.#options = options;
  }

  /** The stored parts of a manifest, as seen from a repository; `undefined`: none. @param repository the cache's name */
  async image(repository: string, digest: Digest): Promise<StoredImage | undefined> {
    return await this.#image(repository, digest, { images: new Map(), seen: nothingSeen() });
  }

  /** @param within `images`: manifests examined already, each once */
  async #image(repository: string, digest: Digest, within: Within): Promise<StoredImage | undefined> {
    const { images } = within;
    if (!images.has(digest)) images.set(digest, await this.#look(repository, digest, within));
    return images.get(digest);
  }

  async #look(repository: string, digest: Digest, { images, seen }: Within): Promise<StoredImage | undefined> {
    const { kept, catalog, completeness } = this.#options;
    const manifest = await kept.peek(digest);
    if (manifest === undefined) return undefined;
    const links = readManifest(manifest.bytes, manifest.contentType);
    const totals = { blobs: 0, storedBytes: 0, missingBlobs: 0, missingBytes: 0 };
    const missing: Digest[] = [];
    for (const blob of links.blobs.filter((descriptor) => !isElsewhere(descriptor))) {
      const bytes = Math.max(0, blob.size);
      totals.blobs += 1;
      if (await completeness.hasBlob(repository, blob)) {
        totals.storedBytes += bytes;
      } else {
        totals.missingBlobs += 1;
        totals.missingBytes += bytes;
        missing.push(blob.digest);
      }
    }
    const platforms: StoredPlatform[] = [];
    const below = { images, seen: { ...seen, depth: seen.depth + 1 } };
    for (const child of seen.depth < 4 ? links.manifests : []) {
      const image = await this.#image(repository, child.digest, below);
      if (image) for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += image[key];
      platforms.push(platformOf(child, { image, platform: platformName(manifest, child) }));
    }
    return {
      digest,
      mediaType: links.mediaType,
      size: manifest.size,
      readable: catalog.grants.mayRead(repository, digest),
      whole: await completeness.isWhole(repository, { digest }, seen),
      ...totals,
      missing,
      platforms,
    };
  }
}

function platformOf(
  { digest }: Descriptor,
  { image, platform }: { image: StoredImage | undefined; platform: string | null },
): StoredPlatform {
  const { whole = false, missingBlobs = 0, missingBytes = 0 } = image ?? {};
  return { digest, platform, stored: image !== undefined, whole, missingBlobs, missingBytes };
}

/** The platform of an index's entry as clients write it (image-spec, "Image Index": `platform`). */
function platformName({ bytes }: KeptManifest, { digest }: Descriptor): string | null {
  const { manifests } = parseJson(bytes, manifestLimits) as {
    manifests?: ({ digest?: unknown; platform?: unknown } | null)[] | null;
  };
  const entry = manifests?.find((candidate) => candidate?.digest === digest);
  const { os, architecture, variant } = (entry?.platform ?? {}) as Record<string, unknown>;
  const parts = [os, architecture, variant].filter((part) => typeof part === 'string' && part !== '');
  return parts.length === 0 ? null : parts.join('/');
}
