import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer as createRawServer, type Server } from 'node:net';
import { createSecureContext } from 'node:tls';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { Slabs, slabBytes } from '../../src/memory/slabs.ts';
import { Agents } from '../../src/transport/agents.ts';
import { type TransferBody, transferBody } from '../../src/transport/body.ts';
import { exchange, type WireAnswer } from '../../src/transport/exchange.ts';
import { HeadersDeadline } from '../../src/transport/headers-deadline.ts';
import { Proxies } from '../../src/transport/proxies.ts';
import { selfSigned } from '../support/certificates.ts';

const content = randomBytes(3_000_000);
const certificate = await selfSigned();
const agents = new Agents({
  proxies: new Proxies({}),
  maxConnections: 1,
  secureContext: () => createSecureContext({ ca: certificate.cert }),
  rejectUnauthorized: true,
  isBulk: true,
});
/** Memory that bodies are read into, and what of it is in use. */
let slabs = new Slabs();
let usedBytes = 0;

beforeEach(() => {
  usedBytes = 0;
  slabs = new Slabs();
  slabs.countIn({
    add: (bytes: number) => (usedBytes += bytes),
    release: (bytes: number) => (usedBytes -= bytes),
  } as never);
});

afterAll(async () => {
  agents[Symbol.dispose]();
  await certificate[Symbol.asyncDispose]();
});

async function listen(server: Server, scheme = 'http'): Promise<AsyncDisposable & { readonly origin: string }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      (server as Server & { closeAllConnections?: () => void }).closeAllConnections?.();
      server.close();
    },
  };
}

const serve = (listener: RequestListener) => listen(createServer(listener));

async function get(origin: string): Promise<{ answer: WireAnswer; body: TransferBody; port: number | undefined }> {
  using deadline = new HeadersDeadline({ connectMs: 5_000, headersMs: 5_000 });
  const url = new URL(origin);
  let port: number | undefined;
  const answer = await exchange({
    method: 'GET',
    url,
    headers: {},
    agent: agents.for(url).agent,
    deadline,
    isRepeatable: true,
    signal: new AbortController().signal,
    memory: slabs,
    onRequest: (sent) => sent.once('socket', (socket) => socket.once('data', () => (port = socket.localPort))),
  });
  const length = Number(answer.headers['content-length']);
  const options = { idleMs: 10_000, expectedBytes: Number.isNaN(length) ? undefined : length };
  return { answer, body: transferBody(answer, { ...options, translate: (error) => error }), port };
}

async function readAll(body: TransferBody): Promise<{ bytes: Buffer; inSlabs: number }> {
  const chunks: Buffer[] = [];
  let inSlabs = 0;
  for await (const chunk of body) {
    if (slabs.partOf(chunk)) inSlabs += chunk.length;
    chunks.push(Buffer.from(chunk));
  }
  return { bytes: Buffer.concat(chunks), inSlabs };
}

test('a large body is read into the memory that was given for it, and its connection is used again', async () => {
  await using server = await serve((_, response) => response.setHeader('content-length', content.length).end(content));
  const ports = new Set<number | undefined>();
  for (let times = 0; times < 3; times += 1) {
    const { body, port } = await get(server.origin);
    const { bytes, inSlabs } = await readAll(body);
    expect(bytes.equals(content)).toBe(true);
    expect(inSlabs).toBe(content.length);
    expect(usedBytes).toBe(0);
    ports.add(port);
  }
  expect(ports.size).toBe(1);
});

test('the answers after it come over the same connection as they are', async () => {
  const answers: [Record<string, string>, Buffer][] = [
    [{ 'content-length': String(content.length) }, content],
    [{ 'content-length': '5' }, Buffer.from('small')],
    [{ 'transfer-encoding': 'chunked' }, content],
    [{ 'content-length': String(content.length), 'content-encoding': 'gzip' }, content],
    [{ 'content-length': String(content.length) }, content],
  ];
  let count = 0;
  await using server = await serve((_, response) => {
    const [headers, bytes] = answers[count++ % answers.length]!;
    response.writeHead(200, headers).end(bytes);
  });
  const isBulk: boolean[] = [];
  for (const [, expected] of answers) {
    const { answer, body } = await get(server.origin);
    isBulk.push(answer.bulk !== undefined);
    expect((await readAll(body)).bytes.equals(expected)).toBe(true);
  }
  expect(isBulk).toEqual([true, false, false, false, true]);
  expect(usedBytes).toBe(0);
});

test('a large body comes over TLS, too', async () => {
  const { cert, key } = certificate;
  const tls = createTlsServer({ cert, key }, (_, response) =>
    response.setHeader('content-length', content.length).end(content),
  );
  await using server = await listen(tls, 'https');
  for (let times = 0; times < 2; times += 1) {
    const { bytes, inSlabs } = await readAll((await get(server.origin)).body);
    expect(bytes.equals(content)).toBe(true);
    expect(inSlabs).toBe(content.length);
  }
  expect(usedBytes).toBe(0);
});

test('no more is read than a reader takes, but for a few pieces', async () => {
  const large = Buffer.alloc(64 * 1024 * 1024, 'x');
  await using server = await serve((_, response) => response.setHeader('content-length', large.length).end(large));
  const { body } = await get(server.origin);
  let takenBytes = 0;
  let mostBytes = 0;
  for await (const chunk of body) {
    takenBytes += chunk.length;
    mostBytes = Math.max(mostBytes, usedBytes);
    // What can be read meanwhile is read.
    for (let turns = 0; turns < 20; turns += 1) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(takenBytes).toBe(large.length);
  expect(mostBytes).toBeLessThanOrEqual(4 * slabBytes);
  expect(usedBytes).toBe(0);
});

test('a reader that leaves in the middle gives the memory back, and ends the connection', async () => {
  let isClosed = Promise.resolve<unknown>(undefined);
  await using server = await serve((_, response) => {
    isClosed = once(response, 'close');
    response.setHeader('content-length', 64 * 1024 * 1024);
    response.write(content);
  });
  const { body } = await get(server.origin);
  for await (const chunk of body) if (chunk.length > 0) break;
  await isClosed;
  expect(usedBytes).toBe(0);
});

test('an answer that is destroyed before it is read gives the memory back', async () => {
  await using server = await serve((_, response) => response.setHeader('content-length', content.length).end(content));
  const { body } = await get(server.origin);
  body.destroy();
  expect(usedBytes).toBe(0);
  expect((await readAll((await get(server.origin)).body)).bytes.equals(content)).toBe(true);
});

test('a body that is cut gives what has come, and then throws', async () => {
  const sent = content.subarray(0, 1_000_000);
  const raw = createRawServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`);
      socket.end(sent);
    });
  });
  await using server = await listen(raw);
  const { body } = await get(server.origin);
  const chunks: Buffer[] = [];
  await expect(
    (async () => {
      for await (const chunk of body) chunks.push(Buffer.from(chunk));
    })(),
  ).rejects.toThrow();
  expect(Buffer.concat(chunks).equals(sent)).toBe(true);
  expect(usedBytes).toBe(0);
});

test('what follows a body is no part of it', async () => {
  const raw = createRawServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${content.length}\r\n\r\n`);
      socket.end(Buffer.concat([content, Buffer.from('more than was announced')]));
    });
  });
  await using server = await listen(raw);
  const { bytes } = await readAll((await get(server.origin)).body);
  expect(bytes.equals(content)).toBe(true);
  expect(usedBytes).toBe(0);
});
