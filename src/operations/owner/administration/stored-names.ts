import { type Digest, isDigest } from '../../../oci/digest.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { TagRow } from '../../../store/catalog/image-records.ts';
import { Turns } from '../../../waiting/turns.ts';
import { type ImageSelection, selects } from './image-names.ts';

/** A named image in the catalog. */
export interface StoredName {
  /** As the cache names it: `docker.io/library/nginx`. */
  readonly repository: string;
  /** A tag, or the digest of a manifest that no tag stands for. */
  readonly reference: string;
  readonly digest: Digest;
  /** Manifests of the tag for clients with an `Accept` list of their own. */
  readonly variants: readonly Digest[];
  /** When the upstream last confirmed the tag; `undefined` for a digest. */
  readonly checkedAtMs: number | undefined;
}

/** Rows read at a time. */
const pageSize = 200;

/**
 * The names of stored images that any of the selections includes: by repository and tag in order, then manifests without
 * a tag. Reads in steps: concurrent additions and removals may or may not be included.
 * @param selections empty: all
 * @throws the signal's reason
 */
export async function* storedNames(
  catalog: Catalog,
  selections: readonly ImageSelection[],
  signal: AbortSignal,
): AsyncGenerator<StoredName> {
  const turns = new Turns();
  for await (const repository of repositories(catalog, selections, { turns, signal })) {
    const { id, name } = repository;
    const meant = (reference: string): boolean =>
      selections.length === 0 || selections.some((selection) => selects(selection, name, reference));
    for await (const rows of tags(catalog, id, { turns, signal })) {
      const [first] = rows;
      if (first === undefined || !meant(first.tag)) continue;
      const variants = [...new Set(rows.map(({ digest }) => digest))].filter((digest) => digest !== first.digest);
      yield { repository: name, reference: first.tag, digest: first.digest, variants, checkedAtMs: first.checkedAtMs };
    }
    for await (const digest of untagged(catalog, id, { turns, signal })) {
      if (meant(digest)) yield { repository: name, reference: digest, digest, variants: [], checkedAtMs: undefined };
    }
  }
}

/** The stored images of one selection; a digest also selects an image that has tags. @throws the signal's reason */
export async function* findNames(
  catalog: Catalog,
  selection: ImageSelection,
  signal: AbortSignal,
): AsyncGenerator<StoredName> {
  if (selection.kind === 'pattern') {
    yield* storedNames(catalog, [selection], signal);
    return;
  }
  const { repository, reference } = selection;
  const [digest, ...variants] = catalog.removal.roots(selection);
  if (digest === undefined) return;
  if (isDigest(reference) && !(catalog.blobs.has(digest) && catalog.grants.mayRead(repository, digest))) return;
  const checkedAtMs = catalog.tags.get({ repository, tag: reference, variant: '' })?.checkedAtMs;
  yield { repository, reference, digest, variants, checkedAtMs };
}

interface Reading {
  readonly turns: Turns;
  readonly signal: AbortSignal;
}

async function* repositories(
  catalog: Catalog,
  selections: readonly ImageSelection[],
  { turns, signal }: Reading,
): AsyncGenerator<{ id: number; name: string }> {
  const prefixes = selections.map((selection) =>
    selection.kind === 'image' ? selection.repository : selection.prefix,
  );
  // Names that begin with the prefix are adjacent; the first of them may be the prefix itself.
  const begin = prefixes.toSorted()[0] ?? '';
  let after = begin === '' ? '' : begin.slice(0, -1);
  while (true) {
    const page = catalog.images.repositories({ after, limit: pageSize });
    for (const repository of page) {
      await turns.next(signal);
      after = repository.name;
      if (selections.length === 0 || selections.some((selection) => covers(selection, after))) yield repository;
      else if (prefixes.every((prefix) => after > prefix && !after.startsWith(prefix))) return;
    }
    if (page.length < pageSize) return;
  }
}

/** The rows of each tag together. */
async function* tags(catalog: Catalog, repository: number, { turns, signal }: Reading): AsyncGenerator<TagRow[]> {
  let rows: TagRow[] = [];
  let after = { tag: '', variant: '' };
  while (true) {
    const page = catalog.images.tags(repository, { after, limit: pageSize });
    for (const row of page) {
      await turns.next(signal);
      if (rows[0]?.tag !== row.tag && rows.length > 0) {
        yield rows;
        rows = [];
      }
      rows.push(row);
      after = row;
    }
    if (page.length < pageSize) break;
  }
  yield rows;
}

async function* untagged(catalog: Catalog, repository: number, { turns, signal }: Reading): AsyncGenerator<Digest> {
  let after: string | undefined = '';
  while (after !== undefined) {
    const page: { digests: Digest[]; next: string | undefined } = catalog.images.untagged(repository, {
      after,
      limit: pageSize,
    });
    await turns.next(signal);
    yield* page.digests;
    after = page.next;
  }
}

function covers(selection: ImageSelection, repository: string): boolean {
  return selection.kind === 'image' ? selection.repository === repository : selection.matchesRepository(repository);
}
