import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { plainDescriptor } from '../../src/front/plain-descriptor.ts';
import { systemCalls } from '../../src/front/system-calls.ts';
import { rawClient } from '../http/raw-client.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const calls = systemCalls();
const KiB = 1024;

describe.skipIf(calls === undefined)('system calls', () => {
  test('tell a stretch that is in memory from one of which a part is not', async () => {
    await using folder = await temporaryDirectory();
    const fd = openSync(join(folder.path, 'file'), 'w+');
    using _closed = { [Symbol.dispose]: () => closeSync(fd) };
    // What was never written has no page in memory until it is read.
    ftruncateSync(fd, 3000 * KiB);
    writeSync(fd, Buffer.alloc(1000 * KiB, 1), 0, undefined, 0);
    writeSync(fd, Buffer.alloc(1000 * KiB, 2), 0, undefined, 2000 * KiB);
    expect(calls!.isInMemory(fd, { position: 0, length: 1000 * KiB })).toBe(true);
    expect(calls!.isInMemory(fd, { position: 7, length: 1 })).toBe(true);
    expect(calls!.isInMemory(fd, { position: 2000 * KiB, length: 1000 * KiB })).toBe(true);
    expect(calls!.isInMemory(fd, { position: 1000 * KiB, length: 1000 * KiB })).toBe(false);
    expect(calls!.isInMemory(fd, { position: 0, length: 3000 * KiB })).toBe(false);
  });

  test('send bytes of which more follow together with those, in order', async () => {
    const { promise: accepted, resolve } = Promise.withResolvers<Socket>();
    const server = createServer(resolve);
    await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
    const { port } = server.address() as { port: number };
    using client = await rawClient(`http://127.0.0.1:${port}`, { sends: 'x' });
    const socket = await accepted;
    const fd = plainDescriptor(socket)!;
    // From the middle of a larger piece of memory.
    expect(calls!.send(fd, { of: Buffer.from('--head--').subarray(2, 6), isPart: true })).toBe(4);
    socket.end('body');
    await client.closed;
    expect(client.text()).toBe('headbody');
    socket.destroy();
    await new Promise((closed) => server.close(closed));
  });
});
