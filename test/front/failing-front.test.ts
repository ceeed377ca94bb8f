import { closeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Generations } from '../../src/front/generations.ts';
import type { KeptAnswer } from '../../src/front/kept-answer.ts';
import { Loads } from '../../src/front/loads.ts';
import { readRequest } from '../../src/front/request-key.ts';
import { Fronts } from '../../src/site/fronts.ts';
import { getText, type RawClient, rawClient } from '../http/raw-client.ts';

const url = '/v2/library/app/manifests/v1';
const most = 1_000;
const limits = {
  clientIdleMs: 60_000,
  connections: most,
  connectionsPerClient: most,
  requests: most,
  requestsPerClient: most,
  memoryBytes: 2 ** 30,
  memoryPerClientBytes: 2 ** 30,
};

function answerOf(generations: Generations): KeptAnswer {
  return {
    status: 200,
    headers: ['Content-Type', 'application/json', 'Content-Length', '2'],
    body: { kind: 'text', text: '{}' },
    length: 2,
    sinceMs: 0,
    untilMs: Number.POSITIVE_INFINITY,
    stamp: generations.stamp([]),
    digest: `sha256:${'0'.repeat(64)}`,
    about: {
      method: 'GET',
      path: url,
      kind: 'manifest',
      upstream: 'docker.io',
      repository: 'library/app',
      namedBy: 'default',
      outcome: 'hit',
      through: undefined,
    },
  };
}

/** Two front threads, and connections of which it is known with which thread they are. */
async function start() {
  await using owned = new AsyncDisposableStack();
  const generations = new Generations();
  const loads = new Loads(3);
  const failures: Error[] = [];
  const failed = Promise.withResolvers<void>();
  const replaced = Promise.withResolvers<void>();
  const moved: { readonly bytes: Uint8Array }[] = [];
  const fronts = await Fronts.start({
    threads: 2,
    settings: {
      host: '127.0.0.1',
      port: 0,
      generations: generations.buffer,
      loads: loads.buffer,
      keptBytes: 1_000_000,
      usesSendfile: true,
      limits,
    },
    onReport: () => undefined,
    onMoved(connection) {
      moved.push(connection);
      closeSync(connection.fd);
    },
    onFailure(error) {
      failures.push(error);
      failed.resolve();
    },
    onReplaced: () => replaced.resolve(),
  });
  owned.defer(() => fronts.close(1_000));
  const clients = owned.use(new DisposableStack());
  const { key } = readRequest({ method: 'GET', url, rawHeaders: ['Host', 'mirror'] })!;
  const keep = (): void => fronts.keep(key, answerOf(generations));
  // What the first thread has, and what the second has.
  const connectionsOf = (): [number, number] => {
    const [main, first] = [loads.seat(0), loads.seat(1)];
    return [main.otherConnections - first.otherConnections, first.otherConnections];
  };
  const count = (): number => connectionsOf()[0] + connectionsOf()[1];
  /** Opens connections until a thread has so many of them that it has answered on. One that idles goes to the main thread. */
  const openOf = async (thread: 0 | 1, wanted: number): Promise<RawClient[]> => {
    const found: RawClient[] = [];
    while (found.length < wanted) {
      const [first, second] = connectionsOf();
      const client = clients.use(await rawClient(`http://${fronts.address}`, { sends: getText(url) }));
      const isAnswered = (await client.until((text) => text.endsWith('{}'))).endsWith('{}');
      // A thread that has not been given the answer yet passes the connection on.
      await expect.poll(count).toBe(first + second + (isAnswered ? 1 : 0));
      if (!isAnswered) continue;
      const isFirst = connectionsOf()[0] > first;
      if (isFirst === (thread === 0)) found.push(client);
    }
    return found;
  };
  const held = owned.move();
  return {
    fronts,
    failures,
    moved,
    failed: failed.promise,
    replaced: replaced.promise,
    keep,
    openOf,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

const pieceOf = 'HTTP/1.1 200 OK';

/** Asks once more, and waits for the answer. @param before answers that have come on the connection */
async function ask(client: RawClient, before: number): Promise<void> {
  client.socket.write(getText(url));
  const text = await client.until((got) => got.split(pieceOf).length - 1 > before && got.endsWith('{}'));
  expect(text.split(pieceOf).length - 1).toBe(before + 1);
}

test('a front thread that throws is replaced, while requests on the other one go on', async () => {
  await using setting = await start();
  const { fronts, failures, moved, failed, replaced, keep, openOf } = setting;
  keep();
  const doomed = await openOf(0, 2);
  const others = await openOf(1, 4);
  moved.length = 0;
  for (const client of [...doomed, ...others]) await ask(client, 1);
  const over = new AbortController();
  void replaced.then(() => over.abort());
  const asking = others.map(async (client) => {
    let answers = 2;
    while (!over.signal.aborted) await ask(client, answers++);
    return answers;
  });
  fronts.fail();
  await failed;
  await Promise.all(doomed.map(({ closed }) => closed));
  await replaced;
  for (const answers of await Promise.all(asking)) expect(answers).toBeGreaterThan(2);
  expect(failures).toEqual([expect.any(TypeError)]);
  expect(fronts.count).toBe(2);
  expect(moved).toEqual([]);
  // The new one is given again what the other has.
  keep();
  const [client] = await openOf(0, 1);
  await ask(client!, 1);
});

test('a connection that a front thread cannot answer goes to the main thread, with a new thread too', async () => {
  await using setting = await start();
  const { fronts, moved, replaced, keep, openOf } = setting;
  fronts.fail();
  await replaced;
  keep();
  const clients = [...(await openOf(0, 2)), ...(await openOf(1, 2))];
  moved.length = 0;
  for (const client of clients) {
    client.socket.write(getText('/v2/'));
    await client.closed;
  }
  expect(moved.map(({ bytes }) => Buffer.from(bytes).toString())).toEqual(Array(4).fill(getText('/v2/')));
});
