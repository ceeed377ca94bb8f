import { type Descriptor, readManifest } from '../../oci/descriptor.ts';
import { RegistryError } from '../../oci/error.ts';
import { imageConfigTypes } from '../../oci/media-types.ts';
import { indexEntries, isImage, isPlatform } from '../../oci/platform.ts';

/** The annotation of a manifest that says when its image was made (image-spec, "Pre-Defined Annotation Keys"). */
const createdAnnotation = 'org.opencontainers.image.created';
const amd64 = { os: 'linux', architecture: 'amd64', variant: undefined };
const maxDepth = 4;

/**
 * When an image was made, by its annotations or its config; of an index, when that of linux/amd64 was, or the first.
 * @param read the bytes of a manifest or config; `undefined` if they are not available
 * @returns milliseconds; `undefined` where nothing says it, and for the times near 1970 of builds that are to be repeatable
 */
export async function createdAt(
  image: Pick<Descriptor, 'digest' | 'mediaType'>,
  read: (part: Pick<Descriptor, 'digest' | 'mediaType'>) => Promise<Buffer | undefined>,
  depth = 0,
): Promise<number | undefined> {
  const bytes = await read(image);
  if (bytes === undefined || depth > maxDepth) return undefined;
  try {
    const { annotations, blobs, mediaType } = readManifest(bytes, image.mediaType);
    const annotated = timeOf(annotations?.[createdAnnotation]);
    if (annotated !== undefined) return annotated;
    const images = indexEntries(bytes, mediaType).filter(isImage);
    const child = images.find(({ platform }) => isPlatform(platform!, amd64)) ?? images[0];
    if (child) return await createdAt(child, read, depth + 1);
    const [config] = blobs;
    if (config === undefined || !imageConfigTypes.includes(config.mediaType)) return undefined;
    const said: unknown = JSON.parse((await read(config))?.toString('utf8') ?? 'null');
    return timeOf((said as { created?: unknown } | null)?.created);
  } catch (error) {
    if (error instanceof RegistryError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function timeOf(text: unknown): number | undefined {
  const ms = typeof text === 'string' ? Date.parse(text) : Number.NaN;
  return ms > 366 * 86_400_000 ? ms : undefined;
}
