import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { RegistryContents } from './contents.ts';

/** How a registry answers requests for content that another one has as well. */
export const behaviours = {
  drip: 'a byte of a blob every half second',
  slow: 'a blob at 100 KB/s',
  'long-length': 'a Content-Length of twice the blob',
  'short-length': 'a Content-Length of half the blob',
  'wrong-bytes': 'other bytes of the right length',
  endless: 'a blob without a length that never ends',
  'cut-blobs': 'a connection that is reset in the middle of a blob',
  silent: 'no answer at all',
  reset: 'a connection that is reset',
  failing: 'status 500 for everything',
  limited: 'status 429 with Retry-After: 3600',
  'dead-tokens': 'a 401 whose token service is dead',
  html: 'a page of HTML with status 200 for everything',
  'many-brackets': 'a Link header of 15,000 "<" for tags and referrers',
  'long-list': 'a list of tags of 7 MB',
  'deep-manifest': 'a manifest of a million nested arrays',
  'wide-manifest': 'a manifest of 200,000 annotations',
} as const;

export type Behaviour = keyof typeof behaviours;

export interface HostileRegistry extends AsyncDisposable {
  readonly origin: string;
  /** Requests so far. */
  readonly asked: number;
  /** Settles with the first request. */
  readonly reached: Promise<void>;
}

const requestPath = /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^/?]+)/;

/**
 * Starts a registry with the contents of another one that behaves badly. Ending it cuts what is under way.
 * @param options.until no request is answered before
 */
export async function startHostileRegistry(
  contents: RegistryContents,
  behaviour: Behaviour,
  { until }: { readonly until?: Promise<unknown> } = {},
): Promise<HostileRegistry> {
  const ended = new AbortController();
  const sockets = new Set<Socket>();
  const first = Promise.withResolvers<void>();
  let asked = 0;
  const server = createServer((request, response) => {
    asked += 1;
    first.resolve();
    Promise.resolve(until)
      .then(() => answer(request, response, { contents, behaviour, signal: ended.signal }))
      .catch(() => response.destroy());
  });
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    reached: first.promise,
    get asked() {
      return asked;
    },
    async [Symbol.asyncDispose]() {
      ended.abort();
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

interface Parts {
  readonly contents: RegistryContents;
  readonly behaviour: Behaviour;
  readonly signal: AbortSignal;
}

async function answer(request: IncomingMessage, response: ServerResponse, parts: Parts): Promise<void> {
  const { contents, behaviour } = parts;
  const [, repository = '', kind, reference = ''] = requestPath.exec(request.url ?? '') ?? [];
  const always = alwaysAnswers[behaviour];
  if (always) return always(response);
  if (kind === 'blobs') {
    const blob = contents.blob(repository, reference);
    if (blob === undefined) return plain(response, 404, '');
    const bytes = Buffer.concat([...blob.source.read(0, blob.size)]);
    if (request.method === 'HEAD') return plain(response, 200, '', { 'Content-Length': String(bytes.length) });
    await sendBlob(response, bytes, parts);
    return;
  }
  if (kind === 'manifests') return sendManifest(request, response, { ...parts, repository, reference });
  if (kind === 'tags' || kind === 'referrers') {
    if (behaviour === 'many-brackets') return plain(response, 200, '{"tags":[]}', { Link: '<'.repeat(15_000) });
    const tags = behaviour === 'long-list' ? Array.from({ length: 300_000 }, (_, index) => `tag-number-${index}`) : [];
    return plain(response, 200, JSON.stringify({ name: repository, tags }), { 'Content-Type': 'application/json' });
  }
  return plain(response, 200, '{}');
}

/** What is answered to everything. */
const alwaysAnswers: Partial<Record<Behaviour, (response: ServerResponse) => void>> = {
  silent: () => undefined,
  reset: (response) => void response.socket?.resetAndDestroy(),
  failing: (response) => plain(response, 500, 'broken'),
  limited: (response) => plain(response, 429, 'too many', { 'Retry-After': '3600' }),
  'dead-tokens': (response) =>
    plain(response, 401, '', { 'WWW-Authenticate': 'Bearer realm="http://127.0.0.1:9/token",service="x"' }),
  html: (response) => plain(response, 200, '<html>Welcome</html>', { 'Content-Type': 'text/html' }),
};

type BlobSender = (response: ServerResponse, bytes: Buffer, signal: AbortSignal) => Promise<void> | void;

/** Sends some bytes of a blob at a time. */
function slowly(pieceBytes: number, everyMs: number): BlobSender {
  return async (response, bytes, signal) => {
    response.writeHead(200, { 'Content-Length': bytes.length });
    for (let position = 0; position < bytes.length; position += pieceBytes) {
      response.write(bytes.subarray(position, position + pieceBytes));
      await delay(everyMs, undefined, { signal });
    }
    response.end();
  };
}

/** What is sent for a blob. */
const blobSenders: Partial<Record<Behaviour, BlobSender>> = {
  drip: slowly(1, 500),
  slow: slowly(10_000, 100),
  'long-length': (response, bytes) => {
    response.writeHead(200, { 'Content-Length': bytes.length * 2 });
    response.write(bytes);
  },
  'short-length': (response, bytes) => {
    const half = Math.floor(bytes.length / 2);
    response.writeHead(200, { 'Content-Length': half });
    response.end(bytes.subarray(0, half));
  },
  'wrong-bytes': (response, bytes) => {
    response.writeHead(200, { 'Content-Length': bytes.length });
    response.end(Buffer.alloc(bytes.length, 0x55));
  },
  endless: async (response, _, signal) => {
    response.writeHead(200);
    while (!response.destroyed) {
      response.write(Buffer.alloc(64 * 1024, 0x55));
      await delay(5, undefined, { signal });
    }
  },
  'cut-blobs': (response, bytes) => {
    response.writeHead(200, { 'Content-Length': bytes.length });
    response.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => response.socket?.resetAndDestroy());
  },
};

async function sendBlob(response: ServerResponse, bytes: Buffer, { behaviour, signal }: Parts): Promise<void> {
  const sender = blobSenders[behaviour];
  if (sender) return await sender(response, bytes, signal);
  response.writeHead(200, { 'Content-Length': bytes.length });
  response.end(bytes);
}

function sendManifest(
  request: IncomingMessage,
  response: ServerResponse,
  { contents, behaviour, repository, reference }: Parts & { readonly repository: string; readonly reference: string },
): void {
  const accepted = (request.headers.accept ?? '').split(',').map((type) => type.trim());
  const manifest = contents.manifest(repository, reference, accepted);
  if (manifest === undefined) return plain(response, 404, '');
  const type = { 'Content-Type': manifest.mediaType };
  if (behaviour === 'deep-manifest') {
    return plain(response, 200, `{"schemaVersion":2,"x":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`, type);
  }
  if (behaviour === 'wide-manifest') {
    const annotations = Array.from({ length: 200_000 }, (_, index) => `"a${index}":""`).join();
    return plain(response, 200, `{"schemaVersion":2,"annotations":{${annotations}}}`, type);
  }
  return plain(response, 200, request.method === 'HEAD' ? '' : manifest.bytes, {
    ...type,
    'Docker-Content-Digest': manifest.digest,
    'Content-Length': String(manifest.bytes.length),
  });
}

function plain(
  response: ServerResponse,
  status: number,
  body: string | Buffer,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, headers);
  response.end(body);
}
