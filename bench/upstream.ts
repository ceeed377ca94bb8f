// A registry with a rate and a latency, a process of its own: node upstream.ts PORT BYTES_PER_SECOND LATENCY_MS
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { type Content, ContentMaker } from './content.ts';
import { type ImageManifest, imageManifest, ociManifestType } from './image.ts';
import { Pace } from './pace.ts';

interface Settings {
  readonly pace: Pace | undefined;
  readonly latencyMs: number;
}

const maker = new ContentMaker();
const blobs = new Map<string, Content>();
const manifests = new Map<string, ImageManifest>();
const asked = new Map<string, number>();
let transfers = 0;

async function answer(request: IncomingMessage, response: ServerResponse, settings: Settings): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://upstream');
  if (url.pathname.startsWith('/-/')) return control(url, response);
  const reference = url.pathname.split('/').at(-1) ?? '';
  const key = `${request.method} ${reference}`;
  asked.set(key, (asked.get(key) ?? 0) + 1);
  if (settings.latencyMs > 0) await delay(settings.latencyMs);
  if (url.pathname === '/v2/') return json(response, {});
  const manifest = manifests.get(reference);
  const blob = blobs.get(reference);
  const found = manifest ?? blob;
  if (found === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, {
    'Content-Type': manifest ? ociManifestType : 'application/octet-stream',
    'Content-Length': found.size,
    'Docker-Content-Digest': found.digest,
    ETag: `"${found.digest}"`,
  });
  if (request.method === 'HEAD') response.end();
  else if (manifest) response.end(manifest.bytes);
  else if (blob) await send(response, blob, settings.pace);
}

async function send(response: ServerResponse, blob: Content, pace: Pace | undefined): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  response.flushHeaders();
  transfers += 1;
  try {
    for (const chunk of blob.chunks(pace ? 64 * 1024 : 256 * 1024)) {
      await pace?.take(chunk.length, { signal: gone.signal });
      if (gone.signal.aborted) return;
      if (!response.write(chunk)) await once(response, 'drain', { signal: gone.signal });
    }
    response.end();
  } finally {
    transfers -= 1;
  }
}

function control(url: URL, response: ServerResponse): void {
  if (url.pathname === '/-/blobs') {
    const made = Array.from({ length: Number(url.searchParams.get('count')) }, () =>
      maker.make(Number(url.searchParams.get('bytes'))),
    );
    for (const blob of made) blobs.set(blob.digest, blob);
    return json(response, { digests: made.map(({ digest }) => digest) });
  }
  if (url.pathname === '/-/image') {
    const manifest = imageManifest(Number(url.searchParams.get('more')));
    manifests.set(manifest.digest, manifest);
    manifests.set('latest', manifest);
    return json(response, { digest: manifest.digest });
  }
  return json(response, { transfers, asked: Object.fromEntries(asked) });
}

function json(response: ServerResponse, value: object): void {
  const body = JSON.stringify(value);
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length }).end(body);
}

const [port, bytesPerSecond, latencyMs] = process.argv.slice(2).map(Number);
const settings = {
  pace: bytesPerSecond ? new Pace(bytesPerSecond) : undefined,
  latencyMs: latencyMs ?? 0,
};
createServer((request, response) => {
  // Whoever leaves in the middle ends only its own answer.
  answer(request, response, settings).catch(() => response.destroy());
}).listen(port, '127.0.0.1');
