import { rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type OutgoingHttpHeaders, request as send } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { FileSender } from '../../src/front/file-sender.ts';
import { Generations } from '../../src/front/generations.ts';
import type { KeptAnswer, KeptBody } from '../../src/front/kept-answer.ts';
import { KeptAnswers } from '../../src/front/kept-answers.ts';
import { OpenFiles } from '../../src/front/open-files.ts';
import type { Rooms } from '../../src/front/room.ts';
import { type Served, ShortWay } from '../../src/front/short-way.ts';
import { systemCalls } from '../../src/front/system-calls.ts';
import { readAll, seededSource } from '../support/bytes.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const rooms: Rooms = {
  mayAnswer: () => true,
  begin: () => ({
    take: () => true,
    charge: () => undefined,
    pieceBytes: 512 * 1024,
    [Symbol.dispose]: () => undefined,
  }),
  addressOf: (socket) => socket.remoteAddress ?? 'unknown',
};

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

interface Short extends AsyncDisposable {
  readonly answers: KeptAnswers;
  readonly generations: Generations;
  readonly served: Served[];
  readonly keys: (string | undefined)[];
  now: number;
  get(path: string, headers?: Record<string, string | readonly string[]>, method?: string): Promise<Answer>;
}

/** A server that answers what is kept, and 404 to all else. */
async function startShort({ sendfile = true }: { readonly sendfile?: boolean } = {}): Promise<Short> {
  const generations = new Generations();
  const files = new OpenFiles({ max: 2 });
  const served: Served[] = [];
  const keys: (string | undefined)[] = [];
  const short: Omit<Short, 'get' | typeof Symbol.asyncDispose> = {
    generations,
    served,
    keys,
    now: 1000,
    answers: new KeptAnswers({ generations, maxBytes: 1_000_000, now: () => short.now }),
  };
  const way = new ShortWay({
    answers: short.answers,
    files,
    sender: new FileSender(sendfile ? systemCalls() : undefined),
    onServed: (event) => served.push(event),
    clientIdleMs: () => 60_000,
    rooms,
    reading: () => ({ [Symbol.dispose]: () => undefined }),
    now: () => short.now,
  });
  const server = createServer((request, response) => {
    if (way.answer(request, response)) return;
    keys.push(way.keyOf(request));
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(short, {
    get: (path: string, headers: Record<string, string | readonly string[]> = {}, method = 'GET') =>
      new Promise<Answer>((resolve, reject) => {
        const asked = send(
          { port, host: '127.0.0.1', path, method, headers: headers as OutgoingHttpHeaders, agent: false },
          (response) => {
            buffer(response).then(
              (body) => resolve({ status: response.statusCode, headers: response.headers, body }),
              reject,
            );
          },
        );
        asked.once('error', reject);
        asked.end();
      }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      files[Symbol.dispose]();
    },
  });
}

function kept(body: KeptBody, length: number, options: Partial<KeptAnswer> = {}): KeptAnswer {
  const about = {
    method: 'GET',
    path: '/v2/a',
    kind: 'blob',
    upstream: 'docker.io',
    repository: 'a',
    namedBy: 'path',
    outcome: 'hit',
    through: undefined,
  };
  return {
    status: 200,
    headers: ['Content-Length', String(length), 'Content-Type', 'text/plain'],
    body,
    length,
    sinceMs: 0,
    untilMs: Number.POSITIVE_INFINITY,
    stamp: [],
    digest: 'sha256:x',
    about,
    ...options,
  };
}

/** Asks once to learn the key, then keeps the answer under it. */
async function keep(short: Short, path: string, answer: KeptAnswer): Promise<void> {
  expect((await short.get(path)).status).toBe(404);
  const key = short.keys.at(-1);
  expect(key).toBeDefined();
  short.answers.set(key ?? '', answer);
}

describe('the short way', () => {
  test('gives a kept answer again, and tells of each', async () => {
    await using short = await startShort();
    await keep(short, '/v2/a', kept({ kind: 'text', text: 'h\u00e9' }, 2));
    const { status, headers, body } = await short.get('/v2/a');
    expect(status).toBe(200);
    expect(headers['content-type']).toBe('text/plain');
    expect(body).toEqual(Buffer.from([0x68, 0xe9]));
    await expect.poll(() => short.served.length).toBe(1);
    expect(short.served[0]).toMatchObject({ sentBytes: 2, isComplete: true, failure: undefined, client: '127.0.0.1' });
  });

  test('a change of a fact that an answer rests on ends it, at once', async () => {
    await using short = await startShort();
    const facts = ['blob x', 'right docker.io/a'];
    for (const change of [
      () => short.generations.changed('blob x'),
      () => short.generations.changed('right docker.io/a'),
      () => short.generations.changedAll(),
    ]) {
      await keep(short, '/v2/a', kept({ kind: 'none' }, 0, { stamp: short.generations.stamp(facts) }));
      expect((await short.get('/v2/a')).status).toBe(200);
      short.generations.changed('blob y');
      expect((await short.get('/v2/a')).status).toBe(200);
      change();
      expect((await short.get('/v2/a')).status).toBe(404);
    }
  });

  test('an answer says its age, and is not given before its time, as after the clock was set back', async () => {
    await using short = await startShort();
    const headers = ['Content-Length', '0', 'Age', '0'];
    await keep(short, '/v2/a', kept({ kind: 'none' }, 0, { headers, age: { at: 3, fromMs: 500 }, sinceMs: 500 }));
    short.now = 3600;
    expect((await short.get('/v2/a')).headers['age']).toBe('3');
    short.now = 499;
    expect((await short.get('/v2/a')).status).toBe(404);
  });

  test('an answer ends with its time', async () => {
    await using short = await startShort();
    await keep(short, '/v2/a', kept({ kind: 'none' }, 0, { untilMs: 2000 }));
    short.now = 1999;
    expect((await short.get('/v2/a')).status).toBe(200);
    short.now = 2000;
    expect((await short.get('/v2/a')).status).toBe(404);
  });

  test.each([
    ['another Accept', { accept: 'text/plain' }],
    ['a Range', { range: 'bytes=0-1' }],
    ['a condition', { 'if-none-match': '"x"' }],
    ['another host', { host: 'other.example' }],
    ['a reference name', { 'oci-ref-name': 'docker.io/a' }],
    ['a chain', { 'cdn-loop': 'other' }],
    ['the caller', { authorization: 'Basic eDp5' }],
  ])('%s is another key', async (_name, headers: Record<string, string>) => {
    await using short = await startShort();
    await keep(short, '/v2/a', kept({ kind: 'none' }, 0));
    expect((await short.get('/v2/a', headers)).status).toBe(404);
    expect((await short.get('/v2/a', { 'user-agent': 'other', 'x-request-id': '1' })).status).toBe(200);
  });

  test.each([
    ['two pairs of credentials', { authorization: ['Basic eDp5', 'Basic eDp5'] }],
    ['the pass of another replica', { 'millpond-pass': 'x' }],
    ['a body', { 'content-length': '0' }],
  ])('%s are decided each time', async (_name, headers: Record<string, string | string[]>) => {
    await using short = await startShort();
    await keep(short, '/v2/a', kept({ kind: 'none' }, 0));
    expect((await short.get('/v2/a', headers)).status).toBe(404);
    expect(short.keys.at(-1)).toBeUndefined();
  });

  test('parts of a request cannot pass for one another', async () => {
    await using short = await startShort();
    await keep(short, '/v2/a', kept({ kind: 'none' }, 0));
    const before = short.keys.at(-1);
    await short.get('/v2/a', { accept: 'x, y' });
    await short.get('/v2/a', { accept: ['x', 'y'] });
    expect(short.keys.at(-1)).toBe(short.keys.at(-2));
    expect(short.keys.at(-1)).not.toBe(before);
  });

  for (const sendfile of [true, false]) {
    describe(sendfile ? 'by sendfile' : 'by reading and writing', () => {
      test.each([20_000, 1024 * 1024, 9_000_001])('sends a file of %d bytes, whole and in part', async (size) => {
        await using folder = await temporaryDirectory('front');
        const content = readAll(seededSource(size, 7));
        const path = join(folder.path, 'blob');
        await writeFile(path, content);
        const { mtimeMs: modifiedAtMs } = await stat(path);
        await using short = await startShort({ sendfile });
        const file = { path, size, modifiedAtMs };
        await keep(short, '/v2/whole', kept({ kind: 'file', start: 0, end: size }, size, { file }));
        await keep(short, '/v2/part', kept({ kind: 'file', start: 3, end: size - 5 }, size - 8, { file }));
        for (let round = 0; round < 3; round += 1) {
          expect((await short.get('/v2/whole')).body.equals(content)).toBe(true);
          expect((await short.get('/v2/part')).body.equals(content.subarray(3, -5))).toBe(true);
        }
        await expect.poll(() => short.served.length).toBe(6);
        expect(short.served.map(({ sentBytes, isComplete }) => [sentBytes, isComplete])).toEqual(
          [size, size - 8, size, size - 8, size, size - 8].map((bytes) => [bytes, true]),
        );
      });

      test('a file that was altered or is gone is decided again', async () => {
        await using folder = await temporaryDirectory('front');
        const path = join(folder.path, 'blob');
        await writeFile(path, 'first');
        const { mtimeMs: modifiedAtMs } = await stat(path);
        await using short = await startShort({ sendfile });
        const answer = kept({ kind: 'file', start: 0, end: 5 }, 5, { file: { path, size: 5, modifiedAtMs } });
        await keep(short, '/v2/a', answer);
        expect((await short.get('/v2/a')).body.toString()).toBe('first');
        await writeFile(path, 'altered');
        expect((await short.get('/v2/a')).status).toBe(404);
        await rm(path);
        await keep(short, '/v2/a', answer);
        expect((await short.get('/v2/a')).status).toBe(404);
      });

      test('a file that is cut while it is sent cuts the connection', async () => {
        await using folder = await temporaryDirectory('front');
        const path = join(folder.path, 'blob');
        await writeFile(path, 'short');
        const { mtimeMs: modifiedAtMs } = await stat(path);
        await using short = await startShort({ sendfile });
        await keep(
          short,
          '/v2/a',
          kept({ kind: 'file', start: 0, end: 9 }, 9, { file: { path, size: 5, modifiedAtMs } }),
        );
        await expect(short.get('/v2/a')).rejects.toThrow(/aborted|hang up|ECONNRESET/);
        await expect.poll(() => short.served.map(({ isComplete }) => isComplete)).toEqual([false]);
      });
    });
  }
});

test('the counters of facts are shared by all who look at one memory', () => {
  const ours = new Generations();
  const theirs = new Generations(ours.buffer);
  const stamp = theirs.stamp(['tag a:1']);
  expect(theirs.isCurrent(stamp)).toBe(true);
  ours.changed('tag a:1');
  expect(theirs.isCurrent(stamp)).toBe(false);
});
