import { type Archive, readDocuments } from '../../archive/archive.ts';
import { ArchiveError } from '../../archive/archive-error.ts';
import type { ArchivedContent } from '../../archive/archived-content.ts';
import type { UnreadableImage } from '../../archive/found-images.ts';
import { maxManifestBytes } from '../../archive/limits.ts';
import type { Digest } from '../../oci/digest.ts';
import { createdAt } from '../protocol/created-at.ts';
import type { ImageChange, KnownName } from '../protocol/import.ts';
import { noInput } from '../protocol/operation.ts';
import { firstOf } from './asking.ts';
import { type NamedArchivedImage, nameImages } from './import-names.ts';
import type { ImportRun } from './sending.ts';

/** An image of an archive that is to be taken in, under the name that the cache has for it. */
export interface ChosenImage extends NamedArchivedImage {
  readonly change: ImageChange;
  /** The digest that the name stands for before; `null`: none. */
  readonly before: Digest | null;
}

interface Candidate {
  readonly image: NamedArchivedImage;
  readonly known: KnownName;
}

type Refused = UnreadableImage & { readonly isAttachment: boolean };

/**
 * The images of an archive by their names in the cache, and those that cannot be taken in.
 * @throws ArchiveError if there is none that can; what the operations throw
 */
export async function chooseImages(
  from: { readonly archive: Archive; readonly content: ArchivedContent; readonly override: string | undefined },
  { operations, signal }: ImportRun,
): Promise<{ readonly images: ChosenImage[]; readonly refused: Refused[] }> {
  const { content } = from;
  const named = nameImages(content, from.override);
  const refused: Refused[] = [...named.refused];
  const asked = named.images.map(({ name, digest, mediaType }) => ({ name, digest, mediaType }));
  const known = await firstOf(operations.importNames({ images: asked }, { signal, input: noInput() }));
  const byName = new Map<string, Candidate[]>();
  for (const [at, image] of named.images.entries()) {
    const answer = known[at]!;
    if ('refused' in answer) {
      refused.push({ name: image.name, reason: answer.refused, isAttachment: image.isAttachment });
      continue;
    }
    const candidates = byName.get(answer.name);
    if (candidates) candidates.push({ image, known: answer });
    else byName.set(answer.name, [{ image, known: answer }]);
  }
  const blobs = new Map([...content.manifests, ...content.blobs].map((blob) => [blob.digest, blob.from]));
  const images: ChosenImage[] = [];
  for (const [name, candidates] of byName) {
    const { isAttachment } = candidates[0]!.image;
    const chosen = oneOf(candidates, content);
    if (chosen === undefined) {
      const digests = [...new Set(candidates.map(({ image }) => image.digest))];
      const reason = `it has ${digests.length} images by this name and does not say which is meant: ${digests.join(', ')}`;
      refused.push({ name, reason, isAttachment });
      continue;
    }
    const change = await changeOf(chosen, { archive: from.archive, blobs });
    images.push({ ...chosen.image, name, change, before: chosen.known.now });
  }
  if (images.length > 0) return { images, refused };
  const reasons = [...new Set(refused.map(({ reason }) => reason))];
  throw new ArchiveError(reasons.length === 1 ? reasons[0]! : reasons.slice(0, 3).join('; '));
}

/** The one image of a name; of an index and manifests that it names, the index. @returns `undefined` where there are several */
function oneOf(candidates: readonly Candidate[], { links }: ArchivedContent): Candidate | undefined {
  return candidates.find(({ image }) => {
    const parts = new Set<string>([image.digest, ...(links.get(image.digest)?.manifests ?? [])]);
    return candidates.every((other) => parts.has(other.image.digest));
  });
}

/** Which of two images is the older one, where the cache cannot tell. */
async function changeOf(
  { image, known }: Candidate,
  { archive, blobs }: { readonly archive: Archive; readonly blobs: ReadonlyMap<Digest, string | Buffer> },
): Promise<ImageChange> {
  if (known.change !== 'moved' || known.createdAtMs === null) return known.change;
  const created = await createdAt(image, async ({ digest }) => {
    const from = blobs.get(digest);
    if (typeof from !== 'string') return from;
    if (!archive.isNear(from) || (archive.files.get(from) ?? 0) > maxManifestBytes) return undefined;
    return (await readDocuments(archive, [from], { maxBytes: maxManifestBytes })).get(from);
  });
  if (created === undefined || created === known.createdAtMs) return 'moved';
  return created < known.createdAtMs ? 'older' : 'newer';
}
