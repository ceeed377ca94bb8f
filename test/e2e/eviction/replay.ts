import { readdir, stat } from 'node:fs/promises';
import { Agent, get as httpGet, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Trace, TraceBlob } from '../../../bench/eviction-trace.ts';
import { ociManifest } from '../../../src/oci/media-types.ts';
import { type ByteSource, digestOfSource, memorySource } from '../../support/bytes.ts';
import type { AddedBlob, AddedImage } from '../../support/contents.ts';
import type { ScriptedRegistry } from '../../support/registry.ts';

/** A mirror that a trace is replayed against. */
export interface ReplaySite {
  readonly origin: string;
  readonly cacheDir: string;
  /** Sets its clock, in milliseconds since 1970. */
  setNow(ms: number): void;
}

export interface ReplayOptions {
  readonly trace: Trace;
  readonly registry: ScriptedRegistry;
  readonly site: ReplaySite;
  readonly budgetBytes: number;
  /** How many pull at a time. */
  readonly clients: number;
  /** Told now and then of how far it has come. */
  readonly onProgress?: (line: string) => void;
  /** Ends it before all has been pulled. */
  readonly signal?: AbortSignal;
}

/** What a replay has come to. */
export interface ReplayReport {
  /** What must not be, in sentences; the first few. */
  readonly violations: readonly string[];
  readonly pulls: number;
  /** Bodies that came whole and with their digest. */
  readonly rightBodies: number;
  readonly servedBytes: number;
  readonly upstreamBytes: number;
  /** The share of the bytes served that did not come from the upstream for it. */
  readonly byteHitRatio: number;
  /** The most bytes that the cache has had by its own count, and beyond its budget on disk, what is on its way left out. */
  readonly mostCountedBytes: number;
  readonly evictedBlobs: number;
  readonly samples: number;
}

const startMs = Date.UTC(2026, 0, 1);
const maxViolations = 20;
/** How many pulls between two looks at every file. */
const walkEvery = 200;

/** Puts the images of a trace into a registry. Bytes are made when they are read: a name, and zeros. */
export function addImages(registry: ScriptedRegistry, trace: Trace): AddedImage[] {
  const layers = new Map<number, AddedBlob>();
  const layerOf = (blob: TraceBlob): AddedBlob => {
    const known = layers.get(blob.id);
    if (known) return known;
    const source = sparseSource(blob.bytes, `layer ${blob.id}`);
    const layer = { source, size: blob.bytes, digest: digestOfSource(source), mediaType: ociManifest };
    layers.set(blob.id, layer);
    return layer;
  };
  return trace.images.map((image, index) =>
    registry.addImage(repositoryOf(index), '1', { layers: image.layers.map((blob) => layerOf(blob)) }),
  );
}

/** Pulls what the trace says, in its order, and looks at every byte and at how much is stored. */
export async function replay({
  trace,
  registry,
  site,
  budgetBytes,
  clients,
  onProgress,
  signal,
}: ReplayOptions): Promise<ReplayReport> {
  const images = addImages(registry, trace);
  const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
  const violations: string[] = [];
  const underWay = new Map<number, number>();
  let next = 0;
  let [rightBodies, servedBytes, mostCountedBytes, samples] = [0, 0, 0, 0];
  const wrong = (what: string): void => void (violations.length < maxViolations && violations.push(what));
  const expectBody = async (path: string, source: ByteSource): Promise<boolean> => {
    const fault = await faultOf(`${site.origin}${path}`, { source, agent }).catch((error: unknown) => String(error));
    if (fault !== undefined) {
      wrong(`${path} ${fault}`);
      return false;
    }
    rightBodies += 1;
    servedBytes += source.size;
    return true;
  };
  const pull = async (image: number): Promise<void> => {
    const { bytes, config, layers } = images[image]!;
    const base = `/v2/${repositoryOf(image)}`;
    if (!(await expectBody(`${base}/manifests/1`, memorySource(bytes)))) return;
    const blobs = [config, ...layers].map(({ digest, source }) => expectBody(`${base}/blobs/${digest}`, source));
    await Promise.all(blobs);
  };
  const onTheirWay = (): number => [...underWay.values()].reduce((sum, bytes) => sum + bytes, 0);
  const look = async (index: number): Promise<void> => {
    const counted = await metric(site.origin, 'millpond_cache_bytes');
    samples += 1;
    mostCountedBytes = Math.max(mostCountedBytes, counted);
    if (counted > budgetBytes + onTheirWay())
      wrong(`pull ${index}: ${counted} bytes are counted, the budget is ${budgetBytes}`);
    if (index % walkEvery !== 0) return;
    const folders = ['blobs/sha256', 'ingest'].map((folder) => bytesIn(join(site.cacheDir, folder)));
    const onDisk = (await Promise.all(folders)).reduce((sum, bytes) => sum + bytes, 0);
    if (onDisk > budgetBytes + onTheirWay())
      wrong(`pull ${index}: ${onDisk} bytes are on disk and ${onTheirWay()} on their way`);
    registry.forgetRequests();
    onProgress?.(
      `${index} of ${trace.pulls.length}: ${(counted / 1e6).toFixed(1)} MB, ${rightBodies} right bodies, ${violations.length} violations`,
    );
  };
  const client = async (): Promise<void> => {
    while (next < trace.pulls.length && violations.length < maxViolations) {
      if (signal?.aborted) break;
      const index = next;
      next += 1;
      const { atMs, image } = trace.pulls[index]!;
      site.setNow(startMs + atMs);
      underWay.set(
        index,
        trace.images[image]!.layers.reduce((sum, { bytes }) => sum + bytes, 0),
      );
      await pull(image);
      await look(index);
      underWay.delete(index);
    }
  };
  try {
    await Promise.all(Array.from({ length: clients }, client));
  } finally {
    agent.destroy();
  }
  const upstreamBytes = await metric(site.origin, 'millpond_upstream_bytes_total');
  return {
    violations,
    pulls: next,
    rightBodies,
    servedBytes,
    upstreamBytes,
    byteHitRatio: 1 - upstreamBytes / servedBytes,
    mostCountedBytes,
    evictedBlobs: await metric(site.origin, 'millpond_evictions_total'),
    samples,
  };
}

function repositoryOf(image: number): string {
  return `team/image-${image}`;
}

/** A name, then zeros: as if it were a sparse file. */
function sparseSource(size: number, name: string): ByteSource {
  const head = Buffer.from(name);
  const zeros = Buffer.alloc(64 * 1024);
  return {
    size,
    *read(start, end, chunkBytes = zeros.length) {
      const step = Math.min(chunkBytes, zeros.length);
      for (let offset = start; offset < Math.min(end, size); offset += step) {
        const chunk = zeros.subarray(0, Math.min(step, end - offset, size - offset));
        yield offset < head.length ? Buffer.concat([head.subarray(offset), chunk]).subarray(0, chunk.length) : chunk;
      }
    },
  };
}

/** What is wrong with the body of an answer, or nothing: each byte is compared. */
async function faultOf(
  url: string,
  { source, agent }: { source: ByteSource; agent: Agent },
): Promise<string | undefined> {
  const response = await open(url, agent);
  const status = response.statusCode;
  let [bytes, isRight] = [0, status === 200];
  for await (const chunk of response as AsyncIterable<Buffer>) {
    let at = 0;
    for (const expected of source.read(bytes, bytes + chunk.length)) {
      isRight &&= expected.equals(chunk.subarray(at, at + expected.length));
      at += expected.length;
    }
    bytes += chunk.length;
  }
  if (!response.complete) return `was cut after ${bytes} bytes`;
  return isRight && bytes === source.size ? undefined : `gave ${status} and ${bytes} other bytes`;
}

/**
 * Sends a request; once more where the connection that was kept for it has been closed before any answer, as every client
 * does (RFC 9112, 9.3.1): a client that keeps one for long may use it at the very moment in which the other side closes it.
 */
async function open(url: string, agent: Agent): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const request = httpGet(url, { agent }, resolve).on('error', reject);
  try {
    return await promise;
  } catch (error) {
    if (!request.reusedSocket || (error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
    return await open(url, agent);
  }
}

/** The sum of a metric over its labels. */
export async function metric(origin: string, name: string): Promise<number> {
  const text = await (await fetch(`${origin}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** What the files of a folder take. */
export async function bytesIn(folder: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(folder))
    sum += await stat(join(folder, name)).then(
      ({ size }) => size,
      () => 0,
    );
  return sum;
}
