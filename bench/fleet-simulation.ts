// The time that many replicas take for one image over one slow line to the upstream, in one process: real fills, routes,
// leases, trees, disks and Redis; the sockets between the replicas, and to the upstream, are lines of a set rate.
//   node bench/fleet-simulation.ts [REPLICAS,…] [LAYERS] [KIB_PER_LAYER] [KIB_PER_SECOND] [PEER_FACTOR]
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PeerFailure } from '../src/coordination/peer-failure.ts';
import type { PeerAccess, PeerAnswer } from '../src/coordination/peers.ts';
import { Seal } from '../src/coordination/seal.ts';
import { SharedCoordinator } from '../src/coordination/shared.ts';
import { Slabs } from '../src/memory/slabs.ts';
import { Fills } from '../src/mirror/fill/fills.ts';
import type { Source } from '../src/mirror/fill/sources.ts';
import { PeerService } from '../src/mirror/sharing/peer-service.ts';
import { routeOf } from '../src/mirror/sharing/shared-route.ts';
import { type Digest, digestOf } from '../src/oci/digest.ts';
import { octetStream } from '../src/oci/media-types.ts';
import { Replicas } from '../src/replicas/replicas.ts';
import { Catalog } from '../src/store/catalog/catalog.ts';
import { DiskStore } from '../src/store/files/disk-store.ts';
import { layoutOf, prepareLayout } from '../src/store/files/layout.ts';
import { repositoryOf } from '../src/upstream/repository.ts';
import type { Upstream } from '../src/upstream/upstream.ts';
import { startRedis } from '../test/support/redis.ts';
import { createThrottle, type Throttle } from '../test/support/throttle.ts';

const [counts = '1,8,100', layers = '10', layerKib = '256', lineKib = '256', peerFactor = '25'] = process.argv.slice(2);
const lineBytesPerSecond = Number(lineKib) * 1024;
/** 50 MB/s to the upstream and 10 Gb/s between replicas are a factor of 25. */
const peerBytesPerSecond = lineBytesPerSecond * Number(peerFactor);

/** Bytes that come at a time: so slow a line would bring so few that a thousand replicas had nothing else to do than wake up. */
const chunkOf = (line: Throttle): number => Math.max(1024, line.chunkBytes);

interface Node {
  readonly coordinator: SharedCoordinator;
  readonly fills: Fills;
  readonly service: PeerService;
  /** What it can send to others. */
  readonly line: Throttle;
}

/** Only its names and the way in which it is reached are asked for. */
const upstream = { name: 'sim', fingerprint: () => Promise.resolve('one way') } as unknown as Upstream;
const repository = repositoryOf(upstream, 'app');
/** One for all: each node by itself would keep 16 MiB of them. */
const slabs = new Slabs();
let sentByUpstream = 0;
const alone = { seconds: 0 };
for (const count of counts.split(',').map(Number)) {
  const { seconds, gets, bytes } = await simulate(count);
  alone.seconds ||= seconds;
  const size = Number(layers) * Number(layerKib) * 1024;
  console.log(
    `${count} replicas: ${seconds.toFixed(1)} s, ${(seconds / alone.seconds).toFixed(2)} × the first; upstream: ${gets} requests, ${(bytes / size).toFixed(2)} × the image`,
  );
}

async function simulate(count: number): Promise<{ seconds: number; gets: number; bytes: number }> {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis({ args: ['--maxclients', '10000'] }));
  const folder = await mkdtemp(join(tmpdir(), 'millpond-simulation-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const nodes = new Map<string, Node>();
  for (let index = 0; index < count; index += 1) await addNode(index);
  for (const { coordinator } of nodes.values()) {
    while (coordinator.replicas.length !== count - 1) await delay(20);
  }
  const blobs = Array.from({ length: Number(layers) }, (_, index) => {
    const bytes = Buffer.alloc(Number(layerKib) * 1024, `layer ${index} of ${count} `);
    return { bytes, digest: digestOf(bytes) };
  });
  const upstreamLine = createThrottle(lineBytesPerSecond);
  sentByUpstream = 0;
  let gets = 0;
  const startedMs = performance.now();
  await Promise.all(
    [...nodes.values()].map(async ({ fills }) => {
      await Promise.all(
        blobs.map(async ({ bytes, digest }) => {
          const source = upstreamSource(bytes, upstreamLine, () => (gets += 1));
          const joiner = { repository, sources: [source], expectedSize: bytes.length };
          await fills.bring(digest, joiner, { signal: new AbortController().signal });
        }),
      );
    }),
  );
  return { seconds: (performance.now() - startedMs) / 1000, gets, bytes: sentByUpstream };

  async function addNode(index: number): Promise<void> {
    const coordinator = stack.use(
      new SharedCoordinator({
        location: {
          kind: 'single',
          host: '127.0.0.1',
          port: redis.port,
          db: 0,
          tls: false,
          username: undefined,
          password: undefined,
        },
        keyPrefix: 'sim:',
        seal: new Seal(Buffer.from('the secret of a simulation')),
        report: () => undefined,
        // One process is a thousand replicas: it is late for what each of them would not have to wait for.
        deadlineMs: 30_000,
        beatMs: Math.max(1_000, 20 * count),
      }),
    );
    const layout = layoutOf(join(folder, String(index)));
    await prepareLayout(layout);
    const catalog = stack.use(await Catalog.open({ path: ':memory:', now: Date.now, onFault: () => undefined }));
    const store = new DiskStore({ layout, memoryBytes: 0 });
    const replicas = new Replicas({ coordinator, peers: peersOf(nodes), copies: undefined });
    const fills = stack.use(
      new Fills({
        store,
        limits: { maxBlobBytes: Number.POSITIVE_INFINITY, maxFills: 64 },
        slabs,
        route: (digest, sources, fill) => routeOf(replicas, { digest, sources, ...fill }),
        onStored: (digest, blob) => catalog.blobs.record(digest, blob),
        isLeftoverOf: () => true,
        report(event) {
          if (event.kind === 'disk-fault') throw event.error;
        },
      }),
    );
    const service = new PeerService({
      store,
      catalog,
      fills,
      coordinator,
      repository: () => repository,
      requireShown: () => Promise.resolve(false),
      offline: false,
      onDiskFault: () => undefined,
    });
    coordinator.join(`http://node-${index}.test`, { id: `node-${index}` });
    nodes.set(coordinator.self, { coordinator, fills, service, line: createThrottle(peerBytesPerSecond) });
  }
}

function upstreamSource(bytes: Buffer, line: Throttle, onGet: () => void): Source {
  return {
    id: 'upstream',
    upstream: 'sim',
    repository: 'sim/app',
    connections: 1,
    open: async (_digest, { offset, signal }) => {
      onGet();
      const body = paced(line, signal, async function* read() {
        for (let position = offset; position < bytes.length; position += chunkOf(line)) {
          const chunk = bytes.subarray(position, position + chunkOf(line));
          sentByUpstream += chunk.length;
          yield await Promise.resolve(Buffer.from(chunk));
        }
      });
      return await Promise.resolve({
        size: bytes.length,
        start: offset,
        end: bytes.length,
        contentType: octetStream,
        body,
      });
    },
  };
}

/** The other replicas over lines instead of sockets. */
function peersOf(nodes: ReadonlyMap<string, Node>): PeerAccess {
  return {
    avoid: () => undefined,
    isAvoided: () => false,
    isSlow: () => false,
    askToCopy: () => Promise.resolve(),
    ask: () => Promise.resolve(undefined),
    async open(replica, digest: Digest, { want, offset, signal }): Promise<PeerAnswer> {
      const node = nodes.get(replica.id)!;
      const blob = await node.service.open(digest, {
        want,
        offset,
        through: repository.key,
        access: 'one way',
        signal,
      });
      if (!blob) throw new PeerFailure(replica.id, 'absent', { sentence: 'not there' });
      const body = paced(node.line, signal, async function* read() {
        await using _body: AsyncDisposable = blob.body;
        const buffer = Buffer.allocUnsafe(chunkOf(node.line));
        for (let position = offset; position < blob.size!; ) {
          const count = await blob.body.read(buffer, position, signal);
          position += count;
          yield Buffer.from(buffer.subarray(0, count));
        }
      });
      return { size: blob.size, start: offset, end: blob.size, contentType: blob.contentType, body };
    },
  };
}

function paced(line: Throttle, signal: AbortSignal, read: () => AsyncGenerator<Buffer>): PeerAnswer['body'] {
  const chunks = read();
  return {
    async *[Symbol.asyncIterator]() {
      for await (const chunk of chunks) {
        await line.take(chunk.length, { signal });
        yield chunk;
      }
    },
    destroy: () => void chunks.return(undefined),
  };
}
