import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';

/** What a fake of a service was asked. */
export interface ServiceCall {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The body as a form. */
  readonly form: URLSearchParams;
}

export interface ServiceReply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string | object;
}

/** A request that the documentation of the service does not have. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

/** A fake of a service on a port of its own, strict about what it is asked. */
export interface FakeService extends AsyncDisposable {
  readonly origin: string;
  readonly calls: readonly ServiceCall[];
  /** What it was asked and should not have been; a test expects none. */
  readonly violations: readonly string[];
}

/** @param answer throws {@link Violation} for a request that is not as documented: it is answered with 400 */
export async function startService(answer: (call: ServiceCall) => ServiceReply): Promise<FakeService> {
  const calls: ServiceCall[] = [];
  const violations: string[] = [];
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const url = new URL(request.url ?? '/', 'http://service.test');
      const { method = '', headers } = request;
      const call = {
        method,
        path: url.pathname,
        query: url.searchParams,
        headers,
        body,
        form: new URLSearchParams(body),
      };
      calls.push(call);
      const reply = replyTo(call);
      const sent = typeof reply.body === 'string' ? reply.body : JSON.stringify(reply.body);
      response.writeHead(reply.status, reply.headers).end(sent);
    });
  });
  const replyTo = (call: ServiceCall): ServiceReply => {
    try {
      return answer(call);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      violations.push(`${call.method} ${call.path}: ${error.message}`);
      return { status: 400, body: { error: 'invalid_request' } };
    }
  };
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    calls,
    violations,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** @throws Violation unless a form or query has exactly these members */
export function requireMembers(found: URLSearchParams, expected: Readonly<Record<string, string | RegExp>>): void {
  const names = [...found.keys()];
  for (const name of names) if (!(name in expected)) throw new Violation(`has ${name}`);
  for (const [name, value] of Object.entries(expected)) {
    const held = found.getAll(name);
    const isRight = held.length === 1 && (typeof value === 'string' ? held[0] === value : value.test(held[0]!));
    if (!isRight) throw new Violation(`${name} is ${JSON.stringify(held)}`);
  }
}

/** @throws Violation unless a request is of this method and has these headers */
export function requireCall(call: ServiceCall, method: string, headers: Readonly<Record<string, string>> = {}): void {
  if (call.method !== method) throw new Violation(`is ${call.method}`);
  for (const [name, value] of Object.entries(headers)) {
    if (call.headers[name] !== value) throw new Violation(`${name} is ${String(call.headers[name])}`);
  }
}
