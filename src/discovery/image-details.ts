import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import { artifactTypeOf } from '../oci/artifact-types.ts';
import { type Descriptor, isElsewhere, type ManifestLinks, readManifest } from '../oci/descriptor.ts';
import { formatPlatform, indexEntries } from '../oci/platform.ts';
import type { ManifestReference } from '../oci/request.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Layout } from '../store/files/layout.ts';
import { cachedImage } from './cached-image.ts';
import { hostedImage } from './hosted-image.ts';
import { readImageConfig } from './image-content.ts';
import type { ImagePlace } from './image-place.ts';
import type { Search } from './search/search.ts';

/** Most parts, platforms and referrers that are shown, and repositories that a layer is shared with. */
const maxShown = 200;
const maxSharers = 20;

export interface ImageDetailsOptions {
  readonly catalog: Catalog;
  readonly layout: Pick<Layout, 'blob'>;
  readonly hosted: HostedRegistry | undefined;
  readonly search: Search;
}

/** An image that is asked about. */
export interface AskedImage {
  readonly repository: { readonly key: string; readonly isHosted: boolean };
  readonly reference: ManifestReference;
  /** Whether the caller may know of another repository. */
  readonly mayRead: (repository: string) => boolean;
}

/** Says of an image all that is known here; no upstream is asked. */
export class ImageDetails {
  readonly #options: ImageDetailsOptions;

  constructor(options: ImageDetailsOptions) {
    this.#options = options;
  }

  /**
   * @returns a JSON document as docs/extensions/_millpond.md, "images", has it; `undefined` if the image is not stored
   * @throws Error of the file system
   */
  async of({ repository, reference, mayRead }: AskedImage): Promise<object | undefined> {
    const { hosted, search } = this.#options;
    const asked = { repository: repository.key, reference };
    const place =
      repository.isHosted && hosted ? await hostedImage(hosted, asked) : await cachedImage(this.#options, asked);
    if (place === undefined) return undefined;
    const { digest, contentType, bytes } = place;
    const links = readManifest(bytes, contentType);
    const config = configOf(links, bytes);
    const stored = config && (await place.blob(config.digest));
    const settings = stored && (await readImageConfig(stored.path));
    const tag = reference.kind === 'tag' ? reference.tag : null;
    const found = (await search.named(repository.key, digest)).find((entry) => tag === null || entry.tag === tag);
    const artifactType = links.artifactType === config?.mediaType ? null : (links.artifactType ?? null);
    const layers = links.blobs.filter((blob) => blob !== config);
    return {
      repository: repository.key,
      tag,
      digest,
      hosted: repository.isHosted,
      type: artifactTypeOf({
        mediaType: links.mediaType,
        artifactType: artifactType ?? undefined,
        configType: config?.mediaType,
        layerTypes: layers.map(({ mediaType }) => mediaType),
        annotations: links.annotations ?? {},
      }),
      artifactType,
      mediaType: links.mediaType,
      size: found?.sizeBytes ?? null,
      whole: await place.isWhole(digest, contentType),
      platforms: await platformsOf(place, settings?.platform ?? null),
      config: config ? { digest: config.digest, mediaType: config.mediaType, stored: stored !== undefined } : null,
      layers: await layersOf(place, layers, mayRead),
      history: settings?.history ?? [],
      referrers: (await place.referrers()).slice(0, maxShown),
      annotations: links.annotations ?? {},
      subject: links.subject?.digest ?? null,
      source: place.source,
      kept: place.kept,
      created: settings?.created ?? (found && found.createdAtMs > 0 ? shownTime(found.createdAtMs) : null),
      changed: shownTime(found?.changedAtMs),
      cached: shownTime(place.cachedAtMs),
      checked: shownTime(place.checkedAtMs),
      pulled: shownTime(found?.pulledAtMs),
      pulls: found?.pulls ?? 0,
    };
  }
}

function configOf({ blobs }: ManifestLinks, bytes: Buffer): Descriptor | undefined {
  const { config } = JSON.parse(bytes.toString()) as { readonly config?: { readonly digest?: unknown } | null };
  return blobs.find(({ digest }) => digest === config?.digest);
}

/** The images of an index, or the image itself. */
async function platformsOf(place: ImagePlace, own: string | null): Promise<object[]> {
  const { digest, contentType, bytes } = place;
  const entries = indexEntries(bytes, contentType).slice(0, maxShown);
  if (entries.length === 0)
    return own === null ? [] : [{ platform: own, digest, whole: await place.isWhole(digest, contentType) }];
  const shown: object[] = [];
  for (const entry of entries) {
    shown.push({
      platform: entry.platform === undefined || entry.platform.os === 'unknown' ? null : formatPlatform(entry.platform),
      digest: entry.digest,
      whole: await place.isWhole(entry.digest, entry.mediaType),
      ...(entry.attests !== undefined && { attests: entry.attests }),
    });
  }
  return shown;
}

async function layersOf(
  place: ImagePlace,
  layers: readonly Descriptor[],
  mayRead: (repository: string) => boolean,
): Promise<object[]> {
  const shown: object[] = [];
  for (const layer of layers.slice(0, maxShown)) {
    const { digest, mediaType, size } = layer;
    const stored = (await place.blob(digest)) !== undefined;
    const sharers = stored ? place.sharers(digest)?.filter(mayRead) : [];
    shown.push({
      digest,
      mediaType,
      size,
      stored,
      ...(isElsewhere(layer) && { elsewhere: true }),
      ...(sharers && { sharedWith: sharers.slice(0, maxSharers) }),
    });
  }
  return shown;
}

function shownTime(ms: number | undefined): string | null {
  return ms === undefined || ms === 0 ? null : new Date(ms).toISOString();
}
