import type { Listings } from '../../../mirror/listings.ts';
import type { Manifests } from '../../../mirror/manifests.ts';
import { hasReason, isNotFound, RegistryError } from '../../../oci/error.ts';
import { parseJson } from '../../../oci/json.ts';
import { parseReference } from '../../../oci/reference.ts';
import type { ManifestReference } from '../../../oci/request.ts';
import { subjectOfTag } from '../../../oci/subject-of-tag.ts';
import { parseTagSelector, selectTags, type TagSelector } from '../../../oci/tag-selector.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import { namedRepository, type Repository } from '../../../upstream/repository.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import { allOf } from '../../../waiting/slots.ts';
import type { WantedImages } from '../../protocol/fetch.ts';
import { confirmed } from './image-walk.ts';

/** Maximum tags that one repository may list, and maximum pages of them. */
const maxTags = 200_000;
const maxTagPages = 2_000;

/** One image of one upstream. */
export interface WantedImage {
  readonly target: Repository;
  readonly reference: ManifestReference;
  /** With upstream, repository, and tag or digest; the same for all spellings. */
  readonly name: string;
}

export interface ExpandOptions {
  readonly upstreams: UpstreamTable;
  readonly catalog: Catalog;
  readonly manifests: Manifests;
  readonly listings: Listings;
  readonly ask: <Value>(work: () => Promise<Value>) => Promise<Value>;
  readonly signal: AbortSignal;
  readonly now: () => number;
}

/**
 * The images that one line selects; asks the upstream for its tags only if the line has patterns or ranges.
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID, NAME_UNKNOWN, DENIED, MANIFEST_UNKNOWN if no tag matches, and what
 *   listing the tags throws
 */
export async function expandImages(wanted: WantedImages, options: ExpandOptions): Promise<WantedImage[]> {
  const named = parseReference(wanted.image);
  const { tag, digest } = named;
  const target = namedRepository(options.upstreams, named);
  const { key } = target;
  if (wanted.tags === undefined) {
    if (digest !== undefined) return [{ target, reference: { kind: 'digest', digest }, name: `${key}@${digest}` }];
    return [tagged(target, tag ?? 'latest')];
  }
  if (tag !== undefined || digest !== undefined) {
    throw new RegistryError('bad-name', `"${wanted.image}" has a tag or digest beside the list of its tags`);
  }
  const selectors = wanted.tags.map(readSelector);
  const written = selectors.filter(({ kind }) => kind === 'tag').map(({ text }) => text);
  const all = written.length === selectors.length ? [] : await listTags(target, options);
  // Attachments come with their image; counted as images, they would use up the limit.
  const listed = all.filter((one) => subjectOfTag(one) === undefined);
  const chosen = await chooseTags(target, { ...options, selectors, written, listed, limit: wanted.limit });
  if (chosen.length === 0) {
    throw new RegistryError('not-found', `none of the ${listed.length} tags of ${key} is ${wanted.tags.join(' or ')}`);
  }
  return chosen.map((one) => tagged(target, one));
}

interface TagChoice extends ExpandOptions {
  readonly selectors: readonly TagSelector[];
  /** Tags that are requested whether they are listed or not. */
  readonly written: readonly string[];
  /** Tags that the upstream lists. */
  readonly listed: readonly string[];
  readonly limit: number | undefined;
}

/**
 * The requested tags, newest first. A stored tag that is not listed is requested, and forgotten if it is gone, so that an
 * export of the same line, which can select only stored tags, selects the same ones.
 */
async function chooseTags(target: Repository, choice: TagChoice): Promise<string[]> {
  const { catalog, manifests, ask, signal, now, selectors, written, listed, limit } = choice;
  const tags = new Set([...written, ...listed]);
  const stored = catalog.tags.names(target.key).filter((tag) => subjectOfTag(tag) === undefined);
  const doubtful = new Set(stored.filter((tag) => !tags.has(tag)));
  const settle = async (tag: string): Promise<void> => {
    doubtful.delete(tag);
    const question = { accept: '', signal };
    try {
      await ask(async () => confirmed(target, await manifests.headByTag(target, tag, question), now));
      tags.add(tag);
    } catch (error) {
      // Some registries refuse what they do not have.
      if (!isNotFound(error) && !hasReason(error, 'denied')) throw error;
    }
  };
  while (true) {
    const chosen = selectTags([...tags, ...doubtful], selectors, { limit });
    const asked = chosen.filter((tag) => doubtful.has(tag));
    if (asked.length === 0) return chosen;
    await allOf(asked.map(settle));
  }
}

function tagged(target: Repository, tag: string): WantedImage {
  return { target, reference: { kind: 'tag', tag }, name: `${target.key}:${tag}` };
}

function readSelector(text: string): TagSelector {
  const selector = parseTagSelector(text);
  if (selector === undefined) throw new RegistryError('bad-name', `"${text}" is not a tag, pattern or version range`);
  return selector;
}

/** All tags, page by page (distribution-spec, "Listing Tags"). */
async function listTags(target: Repository, { listings, ask, signal, now }: ExpandOptions): Promise<string[]> {
  const queries = new Set<string>(['n=1000']);
  const tags: string[] = [];
  for (const query of queries) {
    const page = await ask(async () => confirmed(target, await listings.tags(target, query, { signal }), now));
    tags.push(...readTags(target, page.bytes));
    if (page.nextQuery !== undefined) queries.add(page.nextQuery);
    if (tags.length > maxTags || queries.size > maxTagPages) {
      throw new RegistryError('bad-name', `${target.key} has too many tags to choose from; name those that are wanted`);
    }
  }
  return tags;
}

/** Maximum tags on a page: more than fit its maximum bytes. */
const listLimits = { maxValues: 1_000_000, maxDepth: 100 };

function readTags({ upstream, key }: Repository, bytes: Buffer): string[] {
  try {
    // Some registries answer `null` if there are none.
    const { tags } = parseJson(bytes, listLimits) as { tags?: unknown };
    return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : [];
  } catch (error) {
    throw new RegistryError('bad-answer', `upstream ${upstream.name} sent something other than the tags of ${key}`, {
      cause: error,
    });
  }
}
