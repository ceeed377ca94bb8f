import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { localBlob } from '../support/images.ts';
import { blobPath, send, startHostedSite } from './support.ts';

/** Another address of a mirror that is started later: passes connections on, and counts them. */
async function startAddress() {
  const sockets = new Set<Socket>();
  let target = 0;
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    const mirror = connect(target, '127.0.0.1');
    for (const one of [socket, mirror]) {
      sockets.add(one);
      one.on('error', () => undefined);
    }
    socket.pipe(mirror).pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    leadTo(origin: string) {
      target = Number(new URL(origin).port);
    },
    get connections() {
      return connections;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('with hosted.uploadUrl, the bytes of a blob go to the address in Location, and nothing else does', async () => {
  await using address = await startAddress();
  await using site = await startHostedSite({ hosted: { uploadUrl: address.origin } });
  address.leadTo(site.origin);
  const blob = localBlob('bytes that take another way');
  const begun = await send(site, ['POST', '/v2/local/app/blobs/uploads/']);
  const location = String(begun.headers['location']);
  expect({ status: begun.status, location }).toEqual({
    status: 202,
    location: expect.stringMatching(`^${address.origin}/v2/local/app/blobs/uploads/[^/?]+$`),
  });
  const half = blob.bytes.subarray(0, 10);
  const patched = await send(site, ['PATCH', location], { headers: { 'content-range': '0-9' }, body: half });
  expect({ status: patched.status, location: patched.headers['location'] }).toEqual({ status: 202, location });
  const again = await send(site, ['PATCH', location], { headers: { 'content-range': '0-9' }, body: half });
  expect({ status: again.status, location: again.headers['location'] }).toEqual({ status: 416, location });
  expect(await send(site, ['GET', location])).toMatchObject({ status: 204, headers: { location, range: '0-9' } });
  const put = await send(site, ['PUT', `${location}?digest=${blob.digest}`], { body: blob.bytes.subarray(10) });
  // The blob itself is where the client has begun.
  expect({ status: put.status, location: put.headers['location'] }).toEqual({
    status: 201,
    location: blobPath('local/app', blob.digest),
  });
  expect(address.connections).toBe(4);
  expect((await send(site, ['GET', blobPath('local/app', blob.digest)])).body.equals(blob.bytes)).toBe(true);
});
