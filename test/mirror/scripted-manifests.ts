import type { Coordinator } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { Manifests, type ManifestsOptions } from '../../src/mirror/manifests.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { manifestAccept, ociManifest } from '../../src/oci/media-types.ts';
import { Replicas } from '../../src/replicas/replicas.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Freshness, Upstream } from '../../src/upstream/upstream.ts';
import { Records } from '../store/records.ts';
import { MemoryStore } from '../support/memory-store.ts';

export const down = new RegistryError('unreachable', 'down');
export const absent = new RegistryError('not-found', 'not here');
export const denied = new RegistryError('denied', 'not for you');

/** An image with one layer, of a name. */
export function imageOf(name: string, { type = ociManifest }: { type?: string } = {}) {
  const content = Buffer.from(`layer of ${name}`);
  const layer = { mediaType: 'a/b', digest: digestOf(content), size: content.length };
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: type, layers: [layer] }));
  return { bytes, contentType: type, digest: digestOf(bytes), size: bytes.length, layer: { ...layer, content } };
}

export type ScriptedImage = ReturnType<typeof imageOf>;

/** What the upstream answers a GET with. */
type Answer = Pick<ScriptedImage, 'bytes' | 'contentType'> & {
  readonly digest: Digest | undefined;
  readonly age?: { readonly seconds: number; readonly isStale: boolean };
};

interface Asked {
  readonly accept: readonly string[];
  readonly signal: AbortSignal;
}

export interface ManifestsScript {
  readonly offline?: boolean;
  readonly times?: Partial<Freshness>;
  readonly coordinator?: Coordinator;
  readonly answerMs?: number;
  /** Whether other replicas have what is not here. */
  readonly isWithOthers?: boolean;
}

/** The manifests of a repository, over an upstream and other replicas that the test writes. */
export async function scriptedManifests({
  offline = false,
  times = {},
  coordinator = new SoloCoordinator(),
  answerMs = 60_000,
  isWithOthers = false,
}: ManifestsScript = {}) {
  const records = await Records.open();
  const store = new MemoryStore();
  const asked: string[] = [];
  const reported: object[] = [];
  const gone: Digest[] = [];
  const state = {
    head: (_reference: string, _accept: readonly string[], _signal: AbortSignal): object | Promise<object> => {
      throw absent;
    },
    get: (_reference: string, _accept: readonly string[], _signal: AbortSignal): Answer | Promise<Answer> => {
      throw absent;
    },
    isAvailable: true,
    isSparing: false,
    rateLimit: undefined as object | undefined,
    /** What other replicas know of a tag, and of a right. */
    lent: undefined as object | undefined,
    right: undefined as object | undefined,
  };
  const asking = (accept: readonly string[]): string => (accept === manifestAccept ? '' : ` as ${accept.join()}`);
  const upstream = {
    name: 'docker.io',
    answerMs,
    freshness: { negativeTtlMs: 0, tagTtlMs: 10_000, staleIfErrorMs: 50_000, ...times },
    fingerprint: async () => await Promise.resolve('one way'),
    isAvailableFor: () => state.isAvailable,
    get isSparing() {
      return state.isSparing;
    },
    get rateLimit() {
      return state.rateLimit;
    },
    client: {
      getManifest: async (_: string, reference: string, { accept, signal }: Asked) => {
        asked.push(`GET ${reference}${asking(accept)}`);
        return await state.get(reference, accept, signal);
      },
      headManifest: async (_: string, reference: string, { accept, signal }: Asked) => {
        asked.push(`HEAD ${reference}${asking(accept)}`);
        return await state.head(reference, accept, signal);
      },
    },
  };
  const repository: Repository = repositoryOf(upstream as unknown as Upstream, 'library/app');
  const options = {
    catalog: records.catalog,
    store,
    offline,
    now: () => records.nowMs,
    report: (event: object) => reported.push(event),
    questions: {
      right: async () => await Promise.resolve(state.right),
      tag: async () => await Promise.resolve(state.lent),
    },
    replicas: Object.assign(new Replicas({ coordinator, peers: undefined, copies: undefined }), {
      have: async () => await Promise.resolve(isWithOthers),
    }),
    gone: {
      note: (_: Repository, digest: Digest) => void gone.push(digest),
      isDoubtful: (_: string, { digest }: { digest: Digest }) => gone.includes(digest),
    },
  };
  const manifests = new Manifests(options as unknown as ManifestsOptions);
  const { signal } = new AbortController();
  return {
    records,
    catalog: records.catalog,
    store,
    asked,
    reported,
    gone,
    state,
    repository,
    manifests,
    /** The upstream has these tags, and what they stand for by digest. */
    serve: (tags: Readonly<Record<string, ScriptedImage>>) => {
      const find = (reference: string): ScriptedImage => {
        const found = tags[reference] ?? Object.values(tags).find(({ digest }) => digest === reference);
        if (found === undefined) throw absent;
        return found;
      };
      state.get = find;
      state.head = (reference) => {
        const { digest, contentType, size } = find(reference);
        return { digest, contentType, size };
      };
    },
    /** The layer of an image is stored, so that the image is whole. */
    keepLayer: async ({ layer }: ScriptedImage) => {
      await store.put(layer.digest, layer.content);
      const { size, mediaType: contentType } = layer;
      records.catalog.blobs.record(layer.digest, { size, contentType, shownBy: 'docker.io' });
    },
    get: async (tag: string, { accept = '', ...more }: { accept?: string; canFallBack?: boolean } = {}) =>
      await manifests.byTag(repository, tag, { accept, signal, ...more }),
    head: async (tag: string, { accept = '', ...more }: { accept?: string; canFallBack?: boolean } = {}) =>
      await manifests.headByTag(repository, tag, { accept, signal, ...more }),
    /** What is recorded of a tag. */
    tagged: (tag: string, variant = '') => records.catalog.tags.get({ repository: repository.key, tag, variant }),
    [Symbol.asyncDispose]: async () => {
      await manifests[Symbol.asyncDispose]();
      records[Symbol.dispose]();
    },
  };
}
