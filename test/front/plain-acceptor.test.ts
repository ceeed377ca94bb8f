import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { createPlainAcceptor } from '../../src/front/plain-acceptor.ts';
import { systemCalls } from '../../src/front/system-calls.ts';

const calls = systemCalls();

it.skipIf(calls === undefined)('accepts all connections that wait in one turn, up to 64', async () => {
  const taken: Socket[] = [];
  const turn = Promise.withResolvers<number>();
  const port = await listen((socket) => {
    if (taken.length === 0) setImmediate(() => turn.resolve(taken.length));
    taken.push(socket);
    socket.on('error', () => undefined);
  }, calls);
  const clients = Array.from({ length: 100 }, () => connect(port, '127.0.0.1'));
  onTestFinished(() => clients.forEach((client) => client.destroy()));
  expect(await turn.promise).toBe(64);
  await expect.poll(() => taken.length, { timeout: 30_000 }).toBe(100);
  expect(new Set(taken.map(({ remotePort }) => remotePort)).size).toBe(100);
});

it.each([
  ['the system calls', calls],
  ['Node alone', undefined],
])('gives connections that read, write and end, accepted by %s', async (_name, accept) => {
  const port = await listen((socket) => {
    socket.on('data', (bytes) => socket.write(bytes));
    socket.on('end', () => socket.end());
  }, accept);
  const answers = Array.from({ length: 8 }, async (_each, index) => {
    const client = connect(port, '127.0.0.1');
    client.end(`client ${index}`);
    const chunks: Buffer[] = [];
    client.on('data', (chunk: Buffer) => chunks.push(chunk));
    await once(client, 'close');
    return Buffer.concat(chunks).toString();
  });
  expect(await Promise.all(answers)).toEqual(Array.from({ length: 8 }, (_each, index) => `client ${index}`));
});

it('takes what Node accepts where the system accepts nothing more', async () => {
  const asked: number[] = [];
  const taken: Socket[] = [];
  const port = await listen((socket) => taken.push(socket.on('error', () => undefined)), {
    accept: (fd) => void asked.push(fd),
  });
  const client = connect(port, '127.0.0.1');
  onTestFinished(() => void client.destroy());
  await expect.poll(() => taken.length, { timeout: 30_000 }).toBe(1);
  expect(asked).toEqual([expect.any(Number)]);
});

async function listen(
  take: (socket: Socket) => void,
  accept: Parameters<typeof createPlainAcceptor>[1],
): Promise<number> {
  const open: Socket[] = [];
  const server = createPlainAcceptor((socket) => {
    open.push(socket);
    take(socket);
  }, accept);
  onTestFinished(() => {
    open.forEach((socket) => socket.destroy());
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
