import { get } from '../../support/client.ts';
import type { AddedImage } from '../../support/contents.ts';
import { startRegistry } from '../../support/registry.ts';
import { startTestSite } from '../../support/site.ts';
import { Random } from '../kill/random.ts';
import { metric } from './replay.ts';

export interface ReadersOptions {
  /** How often eviction is forced. */
  readonly evictions: number;
  readonly clients: number;
  readonly seed: number;
  readonly onProgress?: (line: string) => void;
}

export interface ReadersReport {
  readonly violations: readonly string[];
  /** How often the cache was driven down to nearly nothing while clients read. */
  readonly evictions: number;
  readonly evictedBlobs: number;
  readonly rightBodies: number;
}

const imageCount = 12;
const MB = 1_000_000;

/** Lets clients pull, read slowly and read in parts, while the budget is taken away and given back again and again. */
export async function readWhileEvicting({
  evictions,
  clients,
  seed,
  onProgress,
}: ReadersOptions): Promise<ReadersReport> {
  const random = new Random(seed);
  await using registry = await startRegistry();
  const base = registry.addBlob({ size: 400_000, seed: 'base' });
  const images = Array.from({ length: imageCount }, (_, index) =>
    registry.addImage('team/app', `${index}`, {
      layers: [
        base,
        { size: random.between(1, 60_000), seed: `${index} small` },
        { size: random.between(MB / 2, 2 * MB), seed: `${index}` },
      ],
    }),
  );
  const upstreams = { 'docker.io': registry };
  await using site = await startTestSite({ upstreams, config: { cache: { maxSize: '1GB', tagTtl: '1h' } } });
  const violations: string[] = [];
  let rightBodies = 0;
  const stop = new AbortController();
  const expectBody = async (path: string, digest: string, options: { bytesPerSecond?: number } = {}): Promise<void> => {
    const reply = await get(`${site.origin}${path}`, { ...options, keepBody: false }).catch((error: unknown) =>
      String(error),
    );
    if (typeof reply !== 'string' && reply.status === 200 && reply.complete && reply.sha256 === digest)
      rightBodies += 1;
    else
      violations.push(
        `${path}: ${typeof reply === 'string' ? reply : `${reply.status}, ${reply.receivedBytes} bytes, ${reply.sha256}`}`,
      );
  };
  const expectPart = async (image: AddedImage): Promise<void> => {
    const layer = random.pick(image.layers);
    const start = random.between(0, layer.size);
    const end = Math.min(layer.size, start + random.between(1, 300_000));
    const path = `/v2/team/app/blobs/${layer.digest}`;
    const reply = await get(`${site.origin}${path}`, { headers: { range: `bytes=${start}-${end - 1}` } });
    const isRight = reply.status === 206 && reply.body.equals(Buffer.concat([...layer.source.read(start, end)]));
    if (isRight) rightBodies += 1;
    else violations.push(`${path} ${start}-${end}: ${reply.status}, ${reply.receivedBytes} bytes`);
  };
  const client = async (): Promise<void> => {
    while (!stop.signal.aborted && violations.length < 10) {
      const image = random.pick(images);
      const tag = images.indexOf(image);
      await expectBody(`/v2/team/app/manifests/${tag}`, image.digest);
      const isSlow = random.next() < 0.2;
      const blobs = [image.config, ...image.layers].map((blob) =>
        expectBody(`/v2/team/app/blobs/${blob.digest}`, blob.digest, isSlow ? { bytesPerSecond: 5 * MB } : {}),
      );
      await Promise.all([...blobs, expectPart(image)]);
    }
  };
  const reading = Promise.all(Array.from({ length: clients }, client));
  let done = 0;
  try {
    for (; done < evictions && violations.length === 0; done += 1) {
      const [evictedBefore, bodiesBefore] = [await metric(site.origin, 'millpond_evictions_total'), rightBodies];
      await site.reconfigure({ cache: { maxSize: '1B', tagTtl: '1h' } });
      // Some go, and clients read something meanwhile.
      const isDone = async (): Promise<boolean> =>
        violations.length > 0 ||
        (rightBodies > bodiesBefore && (await metric(site.origin, 'millpond_evictions_total')) > evictedBefore + 2);
      while (!(await isDone())) await new Promise(setImmediate);
      await site.reconfigure({ cache: { maxSize: '1GB', tagTtl: '1h' } });
      if (done % 50 === 0) onProgress?.(`${done} of ${evictions}: ${rightBodies} right bodies`);
    }
  } finally {
    stop.abort();
    await reading;
  }
  return {
    violations,
    evictions: done,
    evictedBlobs: await metric(site.origin, 'millpond_evictions_total'),
    rightBodies,
  };
}
