// What a start, a hit and the memory cost with many blobs: node bench/growth.ts [BLOBS…]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Catalog } from '../src/store/catalog/catalog.ts';
import { type EvictionEvent, Evictor } from '../src/store/eviction/evictor.ts';
import { DiskStore } from '../src/store/files/disk-store.ts';
import { layoutOf } from '../src/store/files/layout.ts';
import { type LargeCache, makeLargeCache } from '../test/support/large-cache.ts';
import { loadPathsWithWrk, pullEach } from './load.ts';
import { ensurePrerequisites } from './prerequisites.ts';
import { freePort, Program, serverCore } from './program.ts';
import { pathOf } from './stage.ts';
import { median } from './statistics.ts';
import { startUpstream, type Upstream } from './upstream-process.ts';

const command = fileURLToPath(new URL('../bin/millpond', import.meta.url));
const rounds = 5;
const secondsPerRound = 3;
/** Blobs out of all that are asked for in a round. */
const blobsPerRound = 20_000;
const startsPerCache = 3;
/** Cold blobs of 1 MiB that are pulled while hits are measured, in a round. */
const fillsPerRound = 150;
const fillBytes = 1024 * 1024;
/** What is stored beside the many blobs of a cache that evicts, in MiB: those that are pulled go again. */
const roomMebibytes = 64;

interface Site extends AsyncDisposable {
  readonly origin: string;
  readonly program: Program;
  /** From the start of the program to its first answer to a pull. */
  readonly firstAnswerMs: number;
  /** Time of the processor that this took, which what else the machine does changes little. */
  readonly firstAnswerCpuSeconds: number;
}

interface Latencies {
  readonly p50: number;
  readonly p99: number;
}

ensurePrerequisites();
const counts = process.argv.slice(2).map(Number);
if (counts.some((count) => !Number.isSafeInteger(count) || count < 0))
  throw new Error('usage: node bench/growth.ts [BLOBS…]');
const directory = await mkdtemp(join(tmpdir(), 'millpond-growth-'));
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
try {
  const empty = await prepare(0);
  for (const count of counts.length > 0 ? counts : [1_000, 100_000, 1_000_000]) {
    const full = await prepare(count);
    console.table([await measure(empty, full, count)]);
    await rm(full.directory, { recursive: true, force: true });
  }
} finally {
  agent.destroy();
  await rm(directory, { recursive: true, force: true });
}

interface Prepared {
  readonly directory: string;
  readonly cache: LargeCache;
}

/** A cache of so many blobs, beside the few hot images that all of them have. */
async function prepare(blobs: number): Promise<Prepared> {
  const startMs = performance.now();
  const own = join(directory, String(blobs));
  await mkdir(own);
  const cache = await makeLargeCache({
    directory: join(own, 'data'),
    blobs,
    hotImages: 100,
    hotSizes: [2_000, 20_000, 100_000],
  });
  // Otherwise the first start waits until the system has written all that.
  await once(spawn('sync'), 'exit');
  console.log(`${blobs} blobs made in ${((performance.now() - startMs) / 1000).toFixed(0)} s`);
  return { directory: own, cache };
}

async function measure(empty: Prepared, full: Prepared, count: number) {
  const startsMs: number[] = [];
  const startsCpu: number[] = [];
  for (let start = 0; start < startsPerCache; start += 1) {
    await using site = await startSite(full);
    startsMs.push(site.firstAnswerMs);
    startsCpu.push(site.firstAnswerCpuSeconds);
  }
  const beside = await besideFills(empty, full, count);
  await using few = await startSite(empty);
  await using many = await startSite(full);
  const startBytes = many.program.peakMemoryBytes();
  const hits: { few: Latencies[]; many: Latencies[]; any: Latencies[] } = { few: [], many: [], any: [] };
  const anyPath = (index: number) =>
    count === 0 ? full.cache.hot[0]! : full.cache.cold((index * 7919) % full.cache.coldBlobs);
  const { hot } = full.cache;
  for (let round = 0; round < rounds; round += 1) {
    // One after the other, so that what else the machine does meets both.
    hits.few.push(await latencies(few, hot));
    hits.many.push(await latencies(many, hot));
  }
  // After all of the others: it leaves much to be written to the catalog behind it, which a hit of the small cache never meets.
  for (let round = 0; round < rounds; round += 1) {
    const any = Array.from({ length: blobsPerRound }, (_, index) => anyPath(round * blobsPerRound + index));
    hits.any.push(await latencies(many, any));
  }
  // The first round is the warm-up.
  const of = (latency: readonly Latencies[], name: keyof Latencies) =>
    median(latency.slice(1).map((each) => each[name]));
  const peakBytes = many.program.peakMemoryBytes();
  const listMs = await list(full.directory);
  const peakWithListBytes = many.program.peakMemoryBytes();
  await many[Symbol.asyncDispose]();
  const eviction = await evict(full.directory);
  return {
    blobs: count,
    'first answer ms': Math.round(Math.max(...startsMs)),
    'first answer, empty, ms': Math.round(few.firstAnswerMs),
    'CPU s': median(startsCpu),
    'CPU s, empty': few.firstAnswerCpuSeconds,
    'RSS at start MB': Math.round(startBytes / 1e6),
    'peak RSS MB': Math.round(peakBytes / 1e6),
    'RSS, empty, MB': Math.round(few.program.peakMemoryBytes() / 1e6),
    'hit p50 µs': of(hits.many, 'p50'),
    'hit p99 µs': of(hits.many, 'p99'),
    'p99, empty, µs': of(hits.few, 'p99'),
    'p99 / empty': Number((of(hits.many, 'p99') / of(hits.few, 'p99')).toFixed(2)),
    ...beside,
    'any blob p50 µs': of(hits.any, 'p50'),
    'any blob p99 µs': of(hits.any, 'p99'),
    'peak RSS with ls MB': Math.round(peakWithListBytes / 1e6),
    'ls s': Number((listMs / 1000).toFixed(1)),
    ...eviction,
  };
}

/** The slowest hits of the hot images while cold blobs come and are evicted again, in both caches. */
async function besideFills(empty: Prepared, full: Prepared, count: number) {
  await using upstream = await startUpstream({ directory });
  // A manifest and its rows take some 250 bytes a blob.
  const maxSize = `${roomMebibytes + Math.ceil(count / 4_000)}MiB`;
  const settings = { upstreamOrigin: upstream.origin, maxSize };
  await using few = await startSite(empty, settings);
  await using many = await startSite(full, settings);
  const p99s: { few: number[]; many: number[] } = { few: [], many: [] };
  for (let round = 0; round < rounds; round += 1) {
    p99s.few.push(await p99BesideFills(few, { upstream, hot: full.cache.hot }));
    p99s.many.push(await p99BesideFills(many, { upstream, hot: full.cache.hot }));
  }
  const [fewP99, manyP99] = [median(p99s.few.slice(1)), median(p99s.many.slice(1))];
  return {
    'p99 beside fills µs': manyP99,
    'the same, empty, µs': fewP99,
    'p99 beside fills / empty': Number((manyP99 / fewP99).toFixed(2)),
  };
}

async function p99BesideFills(
  site: Site,
  { upstream, hot }: { readonly upstream: Upstream; readonly hot: readonly string[] },
): Promise<number> {
  const digests = await upstream.addBlobs(fillsPerRound, fillBytes);
  const pathsFile = join(directory, 'fills');
  await writeFile(pathsFile, digests.map((digest) => pathOf('blobs', digest)).join('\n'));
  const { origin } = site;
  const [{ p99 }] = await Promise.all([latencies(site, hot), pullEach({ origin, pathsFile, connections: 2 })]);
  return p99;
}

async function startSite(
  { directory: own, cache }: Prepared,
  { upstreamOrigin = 'http://127.0.0.1:9', maxSize = '10TiB' } = {},
): Promise<Site> {
  const listen = `127.0.0.1:${await freePort()}`;
  const config = {
    listen,
    cache: { dir: join(own, 'data'), tagTtl: '365d', maxSize, minFree: '0' },
    upstreams: { 'docker.io': { urls: [upstreamOrigin] } },
    log: { level: 'warn' },
  };
  await writeFile(join(own, 'millpond.yaml'), JSON.stringify(config));
  const origin = `http://${listen}`;
  const startMs = performance.now();
  const program = new Program(command, {
    args: ['serve', '--config', join(own, 'millpond.yaml')],
    core: serverCore,
    logFile: join(own, 'output.log'),
  });
  while (!program.hasEnded) {
    const answered = await ask(`${origin}${cache.hot[0]}`).catch(() => undefined);
    if (answered === 200) {
      const firstAnswerMs = performance.now() - startMs;
      const firstAnswerCpuSeconds = program.cpuSeconds();
      return {
        origin,
        program,
        firstAnswerMs,
        firstAnswerCpuSeconds,
        [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
      };
    }
    await delay(5);
  }
  throw new Error(`millpond has ended: see ${own}/output.log`);
}

/** Asks for some paths in turn, one request at a time, with a client that collects no garbage of its own meanwhile. */
async function latencies({ origin }: Site, paths: readonly string[]): Promise<Latencies> {
  const pathsFile = join(directory, 'paths');
  await writeFile(pathsFile, paths.join('\n'));
  const { p50Ms, p99Ms } = await loadPathsWithWrk({ origin, pathsFile, connections: 1 }, { seconds: secondsPerRound });
  return { p50: p50Ms * 1000, p99: p99Ms * 1000 };
}

/** Evicts a hundredth and a half of what is stored, which is the least that a full cache gives up at a time. */
async function evict(own: string) {
  const layout = layoutOf(join(own, 'data'));
  const onFault = (error: unknown) => {
    throw error;
  };
  using catalog = await Catalog.open({ path: layout.catalog, now: Date.now, onFault });
  const store = new DiskStore({ layout, memoryBytes: 0 });
  const evicted = { blobs: 0, durationMs: 0 };
  const report = (event: EvictionEvent): void => {
    if (event.kind === 'failed') onFault(event.error);
    else if (event.kind === 'ended') Object.assign(evicted, { blobs: event.blobs, durationMs: event.durationMs });
  };
  const budget = { maxSizeBytes: catalog.blobs.usage().bytes, minFreeBytes: 0 };
  const fileSystem = () => Promise.resolve(undefined);
  await using evictor = new Evictor({ fileSystem, store, catalog, budget, offline: false, report });
  const delays = monitorEventLoopDelay({ resolution: 1 });
  delays.enable();
  while (evicted.blobs === 0) await evictor.makeRoom();
  delays.disable();
  return {
    'evicted blobs': evicted.blobs,
    'µs a blob': Math.round((evicted.durationMs * 1000) / evicted.blobs),
    'longest pause ms': Math.round(delays.max / 1e6),
  };
}

async function ask(url: string): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  get(url, { agent }, (response) => {
    response.on('end', () => resolve(response.statusCode ?? 0)).on('error', reject);
    response.resume();
  }).on('error', reject);
  return await promise;
}

/** `millpond ls` beside the running mirror, all of it. @returns milliseconds */
async function list(own: string): Promise<number> {
  const startMs = performance.now();
  const child = spawn(command, ['ls', '--json', '--config', join(own, 'millpond.yaml')], { stdio: 'ignore' });
  const [code] = (await once(child, 'exit')) as [number];
  if (code !== 0) throw new Error(`millpond ls has ended with ${code}`);
  return performance.now() - startMs;
}
