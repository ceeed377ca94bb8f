import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import { batchesOf } from '../../src/http/body-batches.ts';

const lengthBytes = 8 * 1024 * 1024;
const head = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${lengthBytes}\r\n\r\n`;

/** A request as a server has it, and the socket of its client. */
async function received(): Promise<{ request: IncomingMessage; client: Socket } & AsyncDisposable> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  client.on('error', () => undefined);
  client.write(head);
  const [request] = (await once(server, 'request')) as [IncomingMessage];
  return {
    request,
    client,
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function sizeOf(batch: readonly Buffer[]): number {
  return batch.reduce((sum, { length }) => sum + length, 0);
}

describe('a body in batches', () => {
  test('has every byte, in batches that are as large as wanted', async () => {
    await using asked = await received();
    asked.client.write(Buffer.alloc(lengthBytes, 'a'));
    const sizes: number[] = [];
    for await (const batch of batchesOf(asked.request, { batchBytes: 256 * 1024, idleMs: 60_000 })) {
      expect(batch.every((piece) => piece.every((byte) => byte === 0x61))).toBe(true);
      sizes.push(sizeOf(batch));
    }
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(lengthBytes);
    expect(sizes.slice(0, -1).every((size) => size >= 256 * 1024 && size <= 512 * 1024)).toBe(true);
  });

  test('lets the client wait while a batch is worked on', async () => {
    await using asked = await received();
    const iterator = batchesOf(asked.request, { batchBytes: 64 * 1024, idleMs: 60_000 })[Symbol.asyncIterator]();
    asked.client.write(Buffer.alloc(lengthBytes));
    await iterator.next();
    // When the next batch is full, reading stops.
    while (!asked.request.isPaused()) await new Promise((resolve) => setImmediate(resolve));
    expect(asked.request.socket.bytesRead).toBeLessThan(1024 * 1024);
    await iterator.return?.();
  });

  test('gives what has arrived of a client that leaves, and then why there is no more', async () => {
    await using asked = await received();
    const iterator = batchesOf(asked.request, { batchBytes: 1024 * 1024, idleMs: 60_000 })[Symbol.asyncIterator]();
    const first = iterator.next();
    asked.client.write('some bytes');
    while (asked.request.socket.bytesRead < head.length + 10) await new Promise((resolve) => setImmediate(resolve));
    asked.client.destroy();
    expect(Buffer.concat((await first).value ?? []).toString()).toBe('some bytes');
    await expect(iterator.next()).rejects.toThrow('aborted');
  });

  test('ends where the client sends nothing for too long', async () => {
    await using asked = await received();
    const iterator = batchesOf(asked.request, { batchBytes: 1024, idleMs: 50 })[Symbol.asyncIterator]();
    await expect(iterator.next()).rejects.toMatchObject({ reason: 'client-idle' });
  });

  test('is left while it is waited for, and the request can still be read away', async () => {
    await using asked = await received();
    const iterator = batchesOf(asked.request, { batchBytes: lengthBytes, idleMs: 60_000 })[Symbol.asyncIterator]();
    const waiting = iterator.next();
    await iterator.return?.();
    expect(await waiting).toEqual({ done: true, value: undefined });
    asked.client.write(Buffer.alloc(lengthBytes));
    asked.request.resume();
    await once(asked.request, 'end');
    expect(asked.request.complete).toBe(true);
  });

  test('is empty where the request has none', async () => {
    await using asked = await received();
    asked.client.write(Buffer.alloc(lengthBytes));
    asked.request.resume();
    await once(asked.request, 'end');
    const batches: unknown[] = [];
    for await (const batch of batchesOf(asked.request, { batchBytes: 1024, idleMs: 60_000 })) batches.push(batch);
    expect(batches).toEqual([]);
  });
});
