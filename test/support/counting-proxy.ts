import { once } from 'node:events';
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';

/** What a proxy in front of a registry has seen. */
export interface CountedRequest {
  readonly method: string;
  /** With its query. */
  readonly url: string;
  readonly status: number;
}

/** Stands in front of a registry and counts what it is asked. */
export interface CountingProxy extends AsyncDisposable {
  readonly origin: string;
  readonly host: string;
  readonly requests: CountedRequest[];
  /** Requests for content that a digest names: blobs, and manifests by digest. */
  contentRequests(): CountedRequest[];
}

/** @param target origin of the registry, plain HTTP */
export async function startCountingProxy(target: string): Promise<CountingProxy> {
  const requests: CountedRequest[] = [];
  const server = createServer((request, response) => {
    forward(request, response).catch(() => response.destroy());
  });
  async function forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const outgoing = httpRequest(new URL(request.url ?? '/', target), {
      method: request.method,
      headers: request.headers,
    });
    const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>;
    // Both at once: of a client that leaves, each of them tells.
    const [[incoming]] = await Promise.all([answered, pipeline(request, outgoing)]);
    requests.push({ method: request.method ?? '', url: request.url ?? '', status: incoming.statusCode ?? 0 });
    response.writeHead(incoming.statusCode ?? 502, incoming.headers);
    await pipeline(incoming, response);
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin: `http://${host}`,
    host,
    requests,
    contentRequests: () => requests.filter(({ url }) => /\/(?:blobs|manifests)\/sha(?:256|512):/.test(url)),
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
