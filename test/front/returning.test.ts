import type { RequestListener } from 'node:http';
import { describe, expect, test } from 'vitest';
import { FileSender } from '../../src/front/file-sender.ts';
import { Generations } from '../../src/front/generations.ts';
import { KeptAnswers } from '../../src/front/kept-answers.ts';
import { OpenFiles } from '../../src/front/open-files.ts';
import { ShortWay } from '../../src/front/short-way.ts';
import { systemCalls } from '../../src/front/system-calls.ts';
import { roomsOf } from '../../src/http/rooms.ts';
import { listen } from '../../src/http/server.ts';
import { getText, rawClient } from '../http/raw-client.ts';
import { unlimited } from '../support/unlimited.ts';

/** The short way, which notes each request that is read straight from its connection. */
class NotingWay extends ShortWay {
  readonly straight: string[] = [];

  override answerRead(...asked: Parameters<ShortWay['answerRead']>): boolean {
    this.straight.push(/^GET (\S+)/.exec(asked[0].key)?.[1] ?? '');
    return super.answerRead(...asked);
  }
}

/** A server that keeps nothing, and answers each request with its target. */
async function start() {
  await using owned = new AsyncDisposableStack();
  const { admission, onMalformed } = unlimited();
  const files = owned.use(new OpenFiles({ max: 2 }));
  const way = new NotingWay({
    answers: new KeptAnswers({ generations: new Generations(), maxBytes: 1_000_000, now: Date.now }),
    files,
    sender: new FileSender(undefined),
    rooms: roomsOf(admission),
    reading: () => ({ [Symbol.dispose]: () => undefined }),
    onServed: () => undefined,
    clientIdleMs: () => 60_000,
    now: Date.now,
  });
  const handler: RequestListener = ({ url = '' }, response) => void response.end(`<${url}>`);
  const listener = await listen(handler, { host: '127.0.0.1', port: 0, admission, onMalformed, way });
  owned.defer(() => listener.close(0));
  const held = owned.move();
  const origin = `http://${listener.address}`;
  return { way, admission, origin, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

describe.skipIf(systemCalls() === undefined)('a connection with a request that had to be decided', () => {
  test('is read straight again after the answer', async () => {
    await using server = await start();
    using client = await rawClient(server.origin, { sends: getText('/v2/1') });
    for (let count = 1; count <= 3; count += 1) {
      await client.until((text) => text.includes(`</v2/${count}>`));
      await expect.poll(() => server.way.straight).toHaveLength(count);
      client.socket.write(getText(`/v2/${count + 1}`));
    }
    await client.until((text) => text.includes('</v2/4>'));
    expect(server.way.straight).toEqual(['/v2/1', '/v2/2', '/v2/3', '/v2/4']);
    expect(server.admission.load()).toMatchObject({ connections: 1, clients: 1 });
  });

  test('has all of its answers where it sends ahead, in pieces and whole', async () => {
    await using server = await start();
    const text = getText('/v2/a') + getText('/v2/b');
    for (const cut of [text.length, text.length - 10, getText('/v2/a').length + 3]) {
      using client = await rawClient(server.origin, { sends: text.slice(0, cut) });
      if (cut < text.length) {
        await client.until((got) => got.includes('</v2/a>'));
        client.socket.write(text.slice(cut));
      }
      await client.until((got) => got.includes('</v2/b>'));
      client.socket.write(getText('/v2/c'));
      expect((await client.until((got) => got.includes('</v2/c>'))).match(/<[^>]+>/g)).toEqual([
        '</v2/a>',
        '</v2/b>',
        '</v2/c>',
      ]);
    }
  });

  test('is counted once, and not at all when it has ended', async () => {
    await using server = await start();
    const client = await rawClient(server.origin, { sends: getText('/v2/1') });
    await client.until((text) => text.includes('</v2/1>'));
    client.socket.write(getText('/v2/2'));
    await client.until((text) => text.includes('</v2/2>'));
    expect(server.admission.load().connections).toBe(1);
    client.socket.destroy();
    await expect.poll(() => server.admission.load()).toMatchObject({ connections: 0, clients: 0, requests: 0 });
  });
});
