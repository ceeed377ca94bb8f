import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { pushImage, send } from '../hosted/support.ts';
import { localImage } from '../support/images.ts';
import { reservePort } from '../support/ports.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

const secret = 'a secret that both sides share';

interface Received {
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  readonly event: { readonly id: string; readonly type: string; readonly subject: string; readonly data: object };
}

/** A receiver that answers with one status after the other, and then with 204. */
async function startReceiver(statuses: readonly number[] = [], listenOn = 0) {
  const received: Received[] = [];
  const left = [...statuses];
  const server = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      const body = Buffer.concat(pieces).toString();
      received.push({ headers: request.headers, body, event: JSON.parse(body) });
      response.writeHead(left.shift() ?? 204).end();
    });
  });
  server.listen(listenOn, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    received,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function startSite(
  folder: string,
  { url, ...webhook }: { readonly url: string; readonly types?: readonly string[]; readonly retryFor?: string },
): Promise<TestSite> {
  const secretFile = join(folder, 'secret');
  await writeFile(secretFile, secret);
  return await startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    cacheDir: join(folder, 'cache'),
    config: {
      hosted: { repositories: ['local/**'] },
      events: { webhooks: [{ url, secretFile, ...webhook }] },
    },
  });
}

const image = localImage({ label: 'one' });

test('a receiver gets signed CloudEvents of what is pushed, moved and deleted, in order', async () => {
  await using folder = await temporaryFolder();
  await using receiver = await startReceiver();
  await using site = await startSite(folder.path, { url: receiver.url });
  await pushImage(site, 'local/app', image, '1');
  await send(site, ['DELETE', `/v2/local/app/manifests/${image.digest}`]);
  await expect.poll(() => receiver.received.length).toBe(4);
  expect(receiver.received.map(({ event }) => [event.type, event.subject])).toEqual([
    ['dev.millpond.manifest.pushed', `local/app@${image.digest}`],
    ['dev.millpond.tag.moved', 'local/app:1'],
    ['dev.millpond.tag.deleted', 'local/app:1'],
    ['dev.millpond.manifest.deleted', `local/app@${image.digest}`],
  ]);
  const [first] = receiver.received;
  expect(first!.event).toMatchObject({
    specversion: '1.0',
    datacontenttype: 'application/json',
    data: { repository: 'local/app', digest: image.digest, mediaType: image.mediaType, size: image.bytes.length },
  });
  for (const { headers, body, event } of receiver.received) {
    expect(headers['content-type']).toBe('application/cloudevents+json; charset=utf-8');
    expect(headers['webhook-id']).toBe(event.id);
    const text = [headers['webhook-id'], headers['webhook-timestamp'], body].join('.');
    const mac = createHmac('sha256', secret).update(text).digest('base64');
    expect(headers['webhook-signature']).toBe(`v1,${mac}`);
  }
});

test('an event that is not taken is sent again, before those behind it', async () => {
  await using folder = await temporaryFolder();
  await using receiver = await startReceiver([503]);
  await using site = await startSite(folder.path, { url: receiver.url, types: ['pushed', 'deleted'] });
  await pushImage(site, 'local/app', image);
  await send(site, ['DELETE', `/v2/local/app/manifests/${image.digest}`]);
  await expect.poll(() => receiver.received.length).toBe(3);
  const types = receiver.received.map(({ event }) => event.type.split('.').at(-1));
  expect(types).toEqual(['pushed', 'pushed', 'deleted']);
  expect(receiver.received[0]!.event.id).toBe(receiver.received[1]!.event.id);
  expect(site.logLines.filter(({ msg }) => msg === 'event not taken, tried again')).toHaveLength(1);
});

test('a receiver whose answer has no end is given the next event', async () => {
  await using folder = await temporaryFolder();
  const ids: unknown[] = [];
  const server = createServer((request, response) => {
    ids.push(request.headers['webhook-id']);
    request.resume();
    response.writeHead(200);
    const endless = setInterval(() => response.write('x'.repeat(10_000)), 1);
    response.once('close', () => clearInterval(endless));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  await using site = await startSite(folder.path, { url, types: ['pushed', 'deleted'] });
  await pushImage(site, 'local/app', image);
  await send(site, ['DELETE', `/v2/local/app/manifests/${image.digest}`]);
  await expect.poll(() => new Set(ids).size).toBe(2);
  expect(ids).toHaveLength(2);
  server.closeAllConnections();
  server.close();
});

test('an answer that leads elsewhere is not followed', async () => {
  await using folder = await temporaryFolder();
  await using elsewhere = await startReceiver();
  let asked = 0;
  const server = createServer((request, response) => {
    asked += 1;
    request.resume();
    response.writeHead(307, { location: elsewhere.url }).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  await using site = await startSite(folder.path, { url, types: ['pushed'] });
  await pushImage(site, 'local/app', image);
  await expect.poll(() => asked).toBeGreaterThan(1);
  expect(elsewhere.received).toEqual([]);
  server.closeAllConnections();
  server.close();
});

test('events that no receiver took are sent after a restart', async () => {
  await using folder = await temporaryFolder();
  // At another address there is another receiver: the position is that of an address.
  await using reserved = await reservePort();
  let url: string;
  {
    await using receiver = await startReceiver(
      Array.from({ length: 100 }, () => 500),
      reserved.port,
    );
    ({ url } = receiver);
    await using site = await startSite(folder.path, { url, types: ['pushed'] });
    await pushImage(site, 'local/app', image);
    await expect.poll(() => receiver.received.length).toBeGreaterThan(0);
  }
  const server = createServer();
  server.listen(reserved.port, '127.0.0.1');
  await once(server, 'listening');
  const taken = new Promise<string>((resolve) => {
    server.once('request', (request: IncomingMessage, response) => {
      let body = '';
      request.on('data', (piece: Buffer) => (body += piece.toString()));
      request.on('end', () => {
        response.writeHead(204).end();
        resolve(body);
      });
    });
  });
  await using _site = await startSite(folder.path, { url, types: ['pushed'] });
  expect(JSON.parse(await taken)).toMatchObject({ data: { digest: image.digest } });
  server.closeAllConnections();
  server.close();
});

test('an event that is not taken for too long is given up, and the log says so', async () => {
  await using folder = await temporaryFolder();
  // An answer within the same millisecond leaves time for a second attempt.
  await using receiver = await startReceiver([500, 500]);
  await using site = await startSite(folder.path, { url: receiver.url, types: ['pushed'], retryFor: '1s' });
  await pushImage(site, 'local/app', image);
  await expect.poll(() => site.logLines.some(({ msg }) => msg === 'events not delivered')).toBe(true);
  const next = localImage({ label: 'two' });
  await pushImage(site, 'local/app', next);
  await expect.poll(() => receiver.received.at(-1)?.event.data).toMatchObject({ digest: next.digest });
});
