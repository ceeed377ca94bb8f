import { once } from 'node:events';
import { Readable } from 'node:stream';
import type { Coordinator } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import type { BlobBody } from '../../src/mirror/body.ts';
import { Mirror, type MirrorOptions } from '../../src/mirror/mirror.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import { Replicas } from '../../src/replicas/replicas.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { Records } from '../store/records.ts';
import { MemoryStore } from '../support/memory-store.ts';

export const down = new RegistryError('unreachable', 'down');
export const absent = new RegistryError('not-found', 'not here');
export const denied = new RegistryError('denied', 'not for you');
export const waiting = { signal: new AbortController().signal };

export interface ScriptedBlob {
  readonly bytes: Buffer;
  readonly digest: Digest;
}

/** A blob of a name; larger than those that are kept in memory, unless its size says otherwise. */
export function blobOf(name: string, size = 100_000): ScriptedBlob {
  const bytes = Buffer.alloc(size, `${name} `);
  return { bytes, digest: digestOf(bytes) };
}

/** All bytes that a body gives; disposes of it. */
export async function contentOf(body: BlobBody): Promise<Buffer> {
  await using _ = body;
  const chunks: Buffer[] = [];
  for (let position = 0; ; ) {
    const buffer = Buffer.alloc(64 * 1024);
    const count = await body.read(buffer, position, waiting.signal);
    if (count === 0) return Buffer.concat(chunks);
    chunks.push(buffer.subarray(0, count));
    position += count;
  }
}

interface Asked {
  readonly offset?: number;
  readonly end?: number;
  readonly signal: AbortSignal;
}

/** An upstream that has some blobs. */
export function scriptedUpstream(name = 'docker.io', { answerMs = 60_000 } = {}) {
  const asked: string[] = [];
  const state = {
    blobs: [] as ScriptedBlob[],
    /** What it says instead, to a HEAD and to a GET. */
    head: undefined as Error | undefined,
    get: undefined as Error | undefined,
    ignoresRange: false,
    /** Its bodies stop in the middle until this resolves. */
    gate: undefined as Promise<unknown> | undefined,
  };
  const find = (digest: Digest): ScriptedBlob => {
    const found = state.blobs.find((blob) => blob.digest === digest);
    if (found === undefined) throw absent;
    return found;
  };
  async function* body(bytes: Buffer, signal: AbortSignal): AsyncGenerator<Buffer> {
    const half = bytes.length >> 1;
    yield bytes.subarray(0, half);
    if (state.gate && !signal.aborted) await Promise.race([state.gate, once(signal, 'abort')]);
    signal.throwIfAborted();
    yield bytes.subarray(half);
  }
  const endpoint = {
    url: `https://${name}`,
    openBlob: async (_: string, digest: Digest, { offset = 0, end, signal }: Asked) => {
      asked.push(`GET ${offset}-${end ?? ''}`);
      if (state.get) throw state.get;
      const { bytes } = find(digest);
      const start = state.ignoresRange ? 0 : offset;
      const last = state.ignoresRange ? bytes.length : Math.min(end ?? bytes.length, bytes.length);
      const place = { size: bytes.length, start, end: last, contentType: 'a/b' };
      return await Promise.resolve({ ...place, body: Readable.from(body(bytes.subarray(start, last), signal)) });
    },
  };
  const upstream = {
    name,
    answerMs,
    maxConnections: 4,
    connectionsPerBlob: 1,
    freshness: { negativeTtlMs: 0, tagTtlMs: 10_000, staleIfErrorMs: 50_000 },
    fingerprint: async () => await Promise.resolve('one way'),
    isAvailableFor: () => true,
    isSparing: false,
    rateLimit: undefined,
    client: {
      endpoints: [endpoint],
      getManifest: async (_: string, digest: Digest) => {
        asked.push('GET manifest');
        return await Promise.resolve({ bytes: find(digest).bytes, contentType: ociManifest, digest });
      },
      listTags: async () => {
        asked.push('tags');
        const bytes = Buffer.from('{"name":"library/app","tags":["v1"]}');
        const whole = { nextQuery: undefined, filtersApplied: undefined };
        return await Promise.resolve({ bytes, contentType: 'application/json', ...whole });
      },
      headBlob: async (_: string, digest: Digest) => {
        asked.push('HEAD');
        if (state.head) throw state.head;
        return await Promise.resolve({ size: find(digest).bytes.length, contentType: 'a/b' });
      },
    },
  } as unknown as Upstream;
  return { state, asked, repository: (of = 'library/app'): Repository => repositoryOf(upstream, of) };
}

export interface MirrorScript {
  readonly offline?: boolean;
  readonly coordinator?: Coordinator;
  readonly store?: MemoryStore;
  readonly limits?: Partial<MirrorOptions['limits']>;
  readonly check?: MirrorOptions['check'];
  readonly find?: MirrorOptions['repository'];
}

/** A mirror over a store and a catalog in memory. */
export async function scriptedMirror({
  offline = false,
  coordinator = new SoloCoordinator(),
  store = new MemoryStore(),
  limits = {},
  check = () => Promise.reject(new Error('nothing is checked here')),
  find = () => undefined,
}: MirrorScript = {}) {
  const records = await Records.open();
  const reported: { kind: string }[] = [];
  const changed: string[] = [];
  const mirror = new Mirror({
    store,
    catalog: records.catalog,
    offline,
    now: () => records.nowMs,
    report: (event) => {
      if (event.kind !== 'received') reported.push(event);
    },
    replicas: new Replicas({ coordinator, peers: undefined, copies: undefined }),
    changes: { changed: (fact) => changed.push(fact), changedAll: () => undefined, count: () => 0 },
    limits: { maxFills: 4, maxBlobBytes: 10_000_000, ...limits },
    check,
    repository: find,
  });
  return {
    records,
    catalog: records.catalog,
    store,
    reported,
    changed,
    mirror,
    blobs: mirror.blobs,
    [Symbol.asyncDispose]: async () => {
      await mirror[Symbol.asyncDispose]();
      records[Symbol.dispose]();
    },
  };
}
