import { once } from 'node:events';
import type { BlobSize } from '../../../archive/description.ts';
import type { Digest } from '../../../oci/digest.ts';
import { isTransient, RegistryError } from '../../../oci/error.ts';
import { marksOf } from '../../../store/eviction-policy.ts';
import { findRepository, type Repository } from '../../../upstream/repository.ts';
import type { ImportRoom, KnownName, NewImage, RefusedImage } from '../../protocol/import.ts';
import type { Operations } from '../../protocol/operations.ts';
import type { OwnedCache } from '../cache/owned-cache.ts';
import { ExportPlanner } from './export-plan.ts';
import { HostedImports } from './hosted-imports.ts';
import { CachedShelf, HostedShelf } from './image-shelf.ts';
import { Imports } from './imports.ts';
import { type HostedHere, hostedName, namedImage } from './named-images.ts';

type ExportOperations = Pick<Operations, 'exportImages' | 'exportHold'>;
type ImportOperations = Pick<
  Operations,
  'importNames' | 'importHold' | 'importRoom' | 'importBlob' | 'importDelivered' | 'importImages'
>;

/** The operations of `export` on a cache that this process owns. */
export function exportOperations(cache: OwnedCache, hosted: HostedHere): ExportOperations {
  const { store } = cache;
  return {
    exportImages({ image, tags, limit, ...choice }, { signal }) {
      return plannerFor(image, { cache, hosted, signal }).images({ image, tags, limit }, choice);
    },
    async *exportHold({ blobs }, { signal }) {
      using _ = await store.hold(blobs.map(({ digest }) => digest));
      const hostedBlobs = hosted.registry?.blobs;
      const lacking: Digest[] = [];
      for (const digest of await importsOf(cache).lacking(blobs)) {
        if ((await hostedBlobs?.size(digest, undefined)) === undefined) lacking.push(digest);
      }
      yield { lacking };
      if (!signal.aborted) await once(signal, 'abort');
    },
  };
}

/** The operations of `import` on a cache that this process owns. */
export function importOperations(cache: OwnedCache, hosted: HostedHere): ImportOperations {
  const { store, catalog, layout } = cache;
  const hostedImports = new HostedImports({ store, catalog, layout });
  const imports = () => importsOf(cache);
  return {
    async *importNames({ images }) {
      const known: (KnownName | RefusedImage)[] = [];
      for (const image of images) known.push(await knownName(image, { imports: imports(), hostedImports, hosted }));
      yield known;
    },
    async *importHold({ blobs, archive }, { signal }) {
      using _ = await store.hold(blobs.map(({ digest }) => digest));
      const lacking = new Set(await imports().lacking(blobs));
      const coming = blobs.filter(({ digest }) => lacking.has(digest));
      using room = await reserve(coming, cache, signal);
      const undelivered = imports().undelivered(blobs, archive);
      yield { lacking: [...lacking], undelivered, isReserved: coming.length === 0 || room !== undefined };
      if (!signal.aborted) await once(signal, 'abort');
    },
    async *importRoom({ bytes }) {
      yield roomFor(bytes, cache);
    },
    async *importBlob({ digest, size, name }, { input, signal }) {
      try {
        const repository = repositoryFor(name, { cache, hosted });
        yield { isTaken: await imports().receive({ digest, size }, { repository, body: input, signal }) };
      } catch (error) {
        if (!(error instanceof RegistryError) || error.reason !== 'damaged') throw error;
        yield { isTaken: false, wrong: error.message };
      }
    },
    async *importDelivered({ digests, archive, base }) {
      await imports().deliver(digests, { archive, base });
      yield { archive };
    },
    async *importImages({ images, archive }, { signal }) {
      const faultsBefore = cache.catalogFaults;
      const cached: NewImage[] = [];
      for (const image of images) {
        const name = hostedName(hosted, image.name);
        if (name) yield await hostedImports.adopt(name, image, { archive, signal });
        else cached.push(image);
      }
      for await (const adopted of imports().adopt(cached, { archive, signal })) {
        // A read waits for what is to be written.
        catalog.blobs.usage();
        if (cache.catalogFaults > faultsBefore) throw new Error('the catalog of the cache cannot be written');
        yield adopted;
      }
    },
  };
}

/** The imports into a cache, as its upstreams are now. */
function importsOf({ store, catalog, mirror, upstreams, now }: OwnedCache): Imports {
  return new Imports({ store, catalog, fills: mirror.fills, upstreams: upstreams.table, now });
}

interface Places {
  readonly cache: OwnedCache;
  readonly hosted: HostedHere;
}

/** @throws RegistryError where another replica has the image */
function plannerFor(
  image: string,
  { cache, hosted, signal }: Places & { readonly signal: AbortSignal },
): ExportPlanner {
  const registry = hostedName(hosted, image)?.registry;
  if (registry) {
    return new ExportPlanner({ shelf: new HostedShelf(registry), resolve: (text) => hostedName(hosted, text)! });
  }
  const { table } = cache.upstreams;
  return new ExportPlanner({
    shelf: new CachedShelf(cache),
    resolve(text) {
      const { repository, ...named } = namedImage(table, text);
      return { ...named, repository: repository.key };
    },
    async requireSigned(key, digest) {
      const repository = findRepository(table, key);
      return repository && (await cache.signatures.ofStored(repository, digest, { signal }));
    },
  });
}

/** Looks up the image that is stored under a name. */
async function knownName(
  image: NewImage,
  {
    imports,
    hostedImports,
    hosted,
  }: { readonly imports: Imports; readonly hostedImports: HostedImports; readonly hosted: HostedHere },
): Promise<KnownName | RefusedImage> {
  try {
    const name = hostedName(hosted, image.name);
    if (name) return await hostedImports.known(name, image);
  } catch (error) {
    if (!(error instanceof RegistryError) || isTransient(error)) throw error;
    return { name: image.name, refused: error.message };
  }
  const [known] = await Array.fromAsync(imports.known([image]));
  return known!;
}

/** The repository that the bytes of a blob are counted for. */
function repositoryFor(name: string, { cache, hosted }: Places): Repository {
  const { table } = cache.upstreams;
  const named = hostedName(hosted, name);
  if (named === undefined) return namedImage(table, name).repository;
  const [upstream] = table;
  if (upstream === undefined) throw new RegistryError('not-allowed', 'no upstream is configured');
  // No repository of an upstream has this key, so that the upstream's get no right to the bytes.
  return { upstream, name: named.repository, key: named.repository };
}

/** Reserves room for blobs that are to come. @returns `undefined` where there is none, or nothing comes */
async function reserve(
  blobs: readonly BlobSize[],
  { room }: OwnedCache,
  signal: AbortSignal,
): Promise<Disposable | undefined> {
  if (blobs.length === 0) return undefined;
  return await room.reserve(
    blobs.map(({ digest, size }) => ({ digest, bytes: size, isStored: false })),
    signal,
  );
}

function roomFor(bytes: number, { catalog, config }: OwnedCache): ImportRoom {
  const { maxSizeBytes } = config.cache;
  const { pinnedBytes } = catalog.blobs.usage();
  // Offline nothing is evicted, whatever comes.
  const isEnough = config.offline || pinnedBytes + bytes <= marksOf(maxSizeBytes).high;
  return { isEnough, pinnedBytes, maxSizeBytes };
}
