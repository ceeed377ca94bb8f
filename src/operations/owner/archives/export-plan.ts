import type { ExportedImage } from '../../../archive/archive-writer.ts';
import type { BlobSize } from '../../../archive/description.ts';
import { type ContainerParts, containerParts } from '../../../archive/docker-manifest.ts';
import { nothingSeen, type Seen } from '../../../mirror/completeness.ts';
import type { KeptManifest } from '../../../mirror/kept-manifests.ts';
import { type Descriptor, isElsewhere, readManifest } from '../../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import {
  chooseEntries,
  formatPlatform,
  indexEntries,
  isImage,
  isPlatform,
  type Platform,
} from '../../../oci/platform.ts';
import { subjectOfTag } from '../../../oci/subject-of-tag.ts';
import { parseTagSelector, selectTags } from '../../../oci/tag-selector.ts';
import type { ExportChoice, ExportEvent } from '../../protocol/export.ts';
import type { WantedImages } from '../../protocol/fetch.ts';
import type { ImageShelf } from './image-shelf.ts';

/** Maximum nesting of indexes, and of attachments to attachments. */
const maxDepth = 4;
const amd64: Platform = { os: 'linux', architecture: 'amd64', variant: undefined };

/** An image name, resolved. */
interface WantedName {
  /** The repository as its shelf names it. */
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
  readonly name: string;
}

export interface ExportPlannerOptions {
  readonly shelf: ImageShelf;
  /** Resolves a name as a person writes it. @throws RegistryError */
  readonly resolve: (text: string) => WantedName;
  /**
   * Makes sure that an image may be passed on; absent: each may.
   * @returns what its clients are warned of
   * @throws RegistryError
   */
  readonly requireSigned?: (repository: string, digest: Digest) => Promise<string | undefined>;
}

/** Determines what stored images consist of. Counts no use and contacts no upstream. */
export class ExportPlanner {
  readonly #shelf: ImageShelf;
  readonly #resolve: ExportPlannerOptions['resolve'];
  readonly #requireSigned: ExportPlannerOptions['requireSigned'];

  constructor({ shelf, resolve, requireSigned }: ExportPlannerOptions) {
    this.#shelf = shelf;
    this.#resolve = resolve;
    this.#requireSigned = requireSigned;
  }

  /**
   * The stored images of one line of a list: each with everything that belongs to it, followed by its attachments.
   * @throws RegistryError in one sentence if one is not stored, or not completely
   */
  async *images({ image, tags, limit }: WantedImages, choice: ExportChoice): AsyncGenerator<ExportEvent> {
    if (tags === undefined) {
      yield* this.#image(image, choice);
      return;
    }
    const { repository } = this.#resolve(image);
    const selectors = tags.map((text) => parseTagSelector(text)).filter((selector) => selector !== undefined);
    const named = selectors.filter(({ kind }) => kind === 'tag').map(({ text }) => text);
    const stored = (await this.#shelf.tags(repository)).filter((tag) => subjectOfTag(tag) === undefined);
    const chosen = selectTags([...named, ...stored], selectors, { limit });
    if (chosen.length === 0) throw this.#notHere(`${repository} with a tag that is ${tags.join(' or ')}`);
    for (const tag of chosen) yield* this.#image(`${repository}:${tag}`, choice);
  }

  async *#image(text: string, choice: ExportChoice): AsyncGenerator<ExportEvent> {
    const { repository, tag, digest, name } = this.#resolve(text);
    const found = digest ?? (await this.#shelf.tag(repository, tag ?? ''));
    if (found === undefined) throw this.#notHere(name);
    const image = await this.#collect(repository, found, { name, choice });
    const warning = await this.#requireSigned?.(repository, found);
    if (warning !== undefined) yield { kind: 'warned', name, warning };
    yield { kind: 'image', image };
    if (!choice.referrers) return;
    yield* this.#attachments(repository, image, { choice, seen: new Set([name]), depth: 0 });
  }

  async #collect(
    repository: string,
    digest: Digest,
    { name, choice }: { name: string; choice: ExportChoice },
  ): Promise<ExportedImage> {
    const manifest = await this.#shelf.manifest(repository, digest);
    if (manifest === undefined) throw this.#notHere(name);
    const closure = new Closure();
    await this.#walk(repository, manifest, { name, choice, closure, depth: 0 });
    const { mediaType } = readManifest(manifest.bytes, manifest.contentType);
    return {
      name,
      isAttachment: false,
      digest,
      mediaType,
      size: manifest.size,
      lacks: closure.lacks,
      absent: [...closure.absent],
      container: closure.container,
      manifests: [...closure.manifests.values()],
      blobs: [...closure.blobs.values()],
    };
  }

  /** Adds a manifest and everything it needs. @throws RegistryError if something is not stored */
  async #walk(
    repository: string,
    manifest: KeptManifest,
    { name, choice, closure, depth }: { name: string; choice: ExportChoice; closure: Closure; depth: number },
  ): Promise<void> {
    if (depth > maxDepth) throw new RegistryError('bad-manifest', `the indexes of ${name} are nested too deeply`);
    const { digest, size, bytes, contentType } = manifest;
    if (closure.manifests.has(digest)) return;
    closure.manifests.set(digest, { digest, size });
    const links = readManifest(bytes, contentType);
    const container = containerParts(links);
    if (container) closure.containers.set(digest, container);
    for (const blob of links.blobs) {
      if (isElsewhere(blob) && !choice.nondistributable) continue;
      if (!(await this.#shelf.hasBlob(repository, blob))) throw this.#lacking(name, blob.digest);
      closure.blobs.set(blob.digest, { digest: blob.digest, size: await this.#sizeOf(repository, blob) });
    }
    for (const child of await this.#children(repository, manifest, { name, choice, closure, depth })) {
      const found = await this.#shelf.manifest(repository, child);
      if (found === undefined) throw this.#lacking(name, child);
      await this.#walk(repository, found, { name, choice, closure, depth: depth + 1 });
    }
  }

  /** The requested manifests of an index. @throws RegistryError if one is not stored */
  async #children(
    repository: string,
    index: KeptManifest,
    { name, choice, closure, depth }: { name: string; choice: ExportChoice; closure: Closure; depth: number },
  ): Promise<Set<Digest>> {
    const { platforms, referrers } = choice;
    const all = indexEntries(index.bytes, index.contentType);
    const { entries, lacks } = chooseEntries(all, { platforms, attestations: referrers });
    // An index in an index may have nothing that is requested.
    if (depth === 0 && lacks.length > 0) {
      closure.lacks = lacks.map(formatPlatform);
      if (lacks.length === platforms.length) {
        throw new RegistryError('incomplete', `${name} is not made for ${closure.lacks.join(', ')}`);
      }
    }
    const children = new Set<Digest>();
    const absent = new Set<Digest>();
    for (const entry of entries) {
      if (isImage(entry) && isPlatform(entry.platform!, amd64)) closure.preferred ??= entry.digest;
      if (absent.has(entry.digest)) continue;
      if (await this.#shelf.isWhole(repository, entry, closure.seen)) {
        children.add(entry.digest);
        continue;
      }
      absent.add(entry.digest);
      if (!isImage(entry)) continue;
      // A platform that was not fetched has no manifest here; one with a manifest has lost something.
      const lost = await this.#firstLost(repository, entry, closure.seen);
      if (platforms.length > 0 || lost !== undefined) {
        throw this.#lacking(`${name} for ${formatPlatform(entry.platform!)}`, lost ?? entry.digest);
      }
    }
    for (const entry of entries) {
      // An attestation is included or excluded with its image.
      if (children.has(entry.digest) || (entry.attests !== undefined && !children.has(entry.attests))) continue;
      closure.absent.add(isImage(entry) ? formatPlatform(entry.platform!) : entry.digest);
    }
    if (children.size === 0 && entries.length > 0) throw this.#lacking(name, entries[0]!.digest);
    return children;
  }

  /** The first missing part of a stored manifest. */
  async #firstLost(repository: string, { digest }: Descriptor, seen: Seen): Promise<Digest | undefined> {
    const manifest = await this.#shelf.manifest(repository, digest);
    if (manifest === undefined) return undefined;
    for await (const part of this.#shelf.missing(repository, manifest, seen)) return part.digest;
    return undefined;
  }

  /** The attachments of an image or of one of its manifests: referrers, and cosign's tags. */
  async *#attachments(
    repository: string,
    image: ExportedImage,
    { choice, seen, depth }: { choice: ExportChoice; seen: Set<string>; depth: number },
  ): AsyncGenerator<ExportEvent> {
    if (depth > maxDepth) return;
    const everything = { ...choice, platforms: [] };
    for (const subject of image.manifests) {
      const found = [
        ...(await Promise.all(
          tagsOf(subject.digest).map(async (tag) => ({
            name: `${repository}:${tag}`,
            digest: await this.#shelf.tag(repository, tag),
          })),
        )),
        ...(await this.#shelf.referrers(repository, subject.digest)).map(({ digest }) => ({
          name: `${repository}@${digest}`,
          digest,
        })),
      ];
      for (const { name, digest } of found) {
        if (digest === undefined || seen.has(name)) continue;
        seen.add(name);
        const event = await this.#attachment(repository, digest, { name, choice: everything });
        yield event;
        if (event.kind !== 'image') continue;
        yield* this.#attachments(repository, event.image, { choice, seen, depth: depth + 1 });
      }
    }
  }

  /** An incomplete attachment is left out; its image is not. */
  async #attachment(
    repository: string,
    digest: Digest,
    options: { name: string; choice: ExportChoice },
  ): Promise<ExportEvent> {
    try {
      const image = await this.#collect(repository, digest, options);
      return { kind: 'image', image: { ...image, isAttachment: true } };
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      return { kind: 'left-out', name: options.name, reason: error.message };
    }
  }

  /** Manifests of Docker's first schema do not say it. */
  async #sizeOf(repository: string, { digest, size }: Descriptor): Promise<number> {
    return size >= 0 ? size : ((await this.#shelf.size(repository, digest)) ?? 0);
  }

  #notHere(name: string): RegistryError {
    const { place, advice } = this.#shelf;
    return new RegistryError('incomplete', `${name} is not ${place}: ${advice}`);
  }

  #lacking(name: string, digest: Digest): RegistryError {
    const { place, advice } = this.#shelf;
    return new RegistryError('incomplete', `${name} is not whole ${place}, it lacks ${digest}: ${advice}`);
  }
}

class Closure {
  lacks: readonly string[] = [];
  /** Entries of its indexes that are not stored. */
  readonly absent = new Set<string>();
  /** Those of them that run as containers, by manifest. */
  readonly containers = new Map<Digest, ContainerParts>();
  /** The manifest to use if there can be only one. */
  preferred: Digest | undefined;
  readonly manifests = new Map<Digest, BlobSize>();
  readonly blobs = new Map<Digest, BlobSize>();
  readonly seen = nothingSeen();

  get container(): ContainerParts | undefined {
    const preferred = this.preferred && this.containers.get(this.preferred);
    return preferred ?? [...this.containers.values()][0];
  }
}

/** The tags that attach something to a manifest: cosign's, and the referrers tag of the distribution-spec. */
function tagsOf(digest: Digest): string[] {
  const tag = `${digestAlgorithm(digest)}-${digestHex(digest).slice(0, 64)}`;
  return [tag, `${tag}.sig`, `${tag}.att`, `${tag}.sbom`];
}
