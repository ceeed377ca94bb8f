import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import type { LoggedEvent } from '../../src/events/event.ts';
import type { EventLog } from '../../src/events/event-log.ts';
import { eventsEndpoint } from '../../src/http/event-routes.ts';
import type { ExtensionRequest } from '../../src/http/extension-request.ts';
import type { Reply } from '../../src/http/send.ts';
import { writePaced } from '../../src/http/write-paced.ts';
import { startTestSite } from '../support/site.ts';
import { rawClient } from './raw-client.ts';

const path = '/v2/_millpond/events';

test('one client address has three quarters of the streams of events', async () => {
  await using site = await startTestSite({ upstreams: { 'docker.io': { origin: 'http://127.0.0.1:1' } } });
  const sends = `GET ${path} HTTP/1.1\r\nHost: mirror\r\nAccept: text/event-stream\r\n\r\n`;
  using many = new DisposableStack();
  for (let count = 0; count < 150; count += 1) {
    const client = many.use(await rawClient(site.origin, { sends }));
    expect(await client.until((text) => text.includes('retry: 2000'))).toContain('200 OK');
  }
  const answerTo = async (localAddress: string): Promise<string> => {
    using client = await rawClient(site.origin, { sends, localAddress });
    return (await client.until((text) => text.includes('\r\n\r\n'))).slice(0, 12);
  };
  expect(await answerTo('127.0.0.1')).toBe('HTTP/1.1 503');
  expect(await answerTo('127.0.0.2')).toBe('HTTP/1.1 200');
});

test('a page of events is given after so many have been looked at, and leads to the next', async () => {
  const asked: number[] = [];
  const after = (number: number, limit: number): Promise<LoggedEvent[]> => {
    asked.push(number);
    const events = Array.from({ length: limit }, (_, at) => ({ number: number + at + 1 }) as LoggedEvent);
    return Promise.resolve(events.filter(({ number: one }) => one <= 25_000));
  };
  const log = { id: '0123456789abcdef', last: 25_000, after } as unknown as EventLog;
  const endpoint = eventsEndpoint({ log, ending: new AbortController().signal, clientIdleMs: () => 1_000 });
  const page = async (last: string): Promise<Reply> => {
    const { promise, resolve } = Promise.withResolvers<Reply>();
    const ctx = { method: 'GET', req: { headers: {} }, res: undefined };
    const sender = { send: (_: unknown, reply: Reply) => resolve(reply) };
    const parameters = new URLSearchParams(last === '' ? {} : { last });
    const request = { ctx, sender, parameters, exchange: { path }, repository: undefined, mayRead: () => false };
    await endpoint.answer(request as unknown as ExtensionRequest);
    return await promise;
  };
  const links: boolean[] = [];
  let last = '';
  for (let pages = 0; pages < 3; pages += 1) {
    const { headers } = await page(last);
    links.push(headers.includes('Link'));
    last = headers[headers.indexOf('Millpond-Last-Event') + 1]!;
  }
  expect(links).toEqual([true, true, false]);
  expect(asked.length).toBeLessThanOrEqual(27);
});

test('a text for a client that takes nothing is given up after a while', async () => {
  const written = Promise.withResolvers<boolean>();
  const server = createServer((_, response) => {
    writePaced(response, 'x'.repeat(64 * 1024 * 1024), { idleMs: 50 }).then(
      () => written.resolve(response.destroyed),
      written.reject,
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  using _ = await rawClient(origin, { sends: 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', reads: false });
  expect(await written.promise).toBe(true);
  server.close();
});
