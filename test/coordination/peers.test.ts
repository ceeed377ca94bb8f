import { once } from 'node:events';
import { describe, expect, test, vi } from 'vitest';
import type { PeerFailure } from '../../src/coordination/peer-failure.ts';
import { PeerPass, passHeader } from '../../src/coordination/peer-pass.ts';
import { Peers, type PeersOptions } from '../../src/coordination/peers.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { reservePort } from '../support/ports.ts';
import { startPeer } from './peer-server.ts';
import { digest, secret } from './support.ts';

const signal = new AbortController().signal;
const blob = digest(1);
const pass = new PeerPass({ seal: new Seal(secret), toleranceMs: 60_000, now: Date.now });
const wish = { want: 'stored', through: 'docker.io/library/app', access: 'a', offset: 0, signal } as const;

/** The other replicas, and the failures that were reported. */
function peersWith(options: Partial<PeersOptions> = {}) {
  const failures: { readonly fault: string; readonly isNew: boolean }[] = [];
  const onFailure = (_: unknown, { fault }: PeerFailure, { isNew }: { readonly isNew: boolean }): void =>
    void failures.push({ fault, isNew });
  const peers = new Peers({ pass, self: () => 'me', onFailure, ...options });
  return { peers, failures, [Symbol.dispose]: () => peers[Symbol.dispose]() };
}

async function bytesOf(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe('a blob', () => {
  test('is asked for with what it is read through, signed for this run of the replica', async () => {
    await using peer = await startPeer((_, response) => {
      response.writeHead(200, { 'content-type': 'x/y', 'content-length': '3' }).end('abc');
    });
    using own = peersWith();
    const { body, ...answer } = await own.peers.open(peer.replica, blob, wish);
    expect(answer).toEqual({ size: 3, start: 0, end: 3, contentType: 'x/y' });
    expect(await bytesOf(body)).toBe('abc');
    const [request] = peer.requests;
    const path = `/v2/_millpond/blobs/${blob}?want=stored&through=docker.io%2Flibrary%2Fapp&access=a`;
    expect([request!.method, request!.url, request!.headers.range]).toEqual(['GET', path, undefined]);
    const asked = { method: 'GET', path, range: undefined, to: 'other:run' };
    expect(pass.check(asked, request!.headers[passHeader] as string)).toEqual({ from: 'me' });
    expect(own.failures).toEqual([]);
  });

  test.each([
    [{ offset: 2 }, 'bytes=2-', 'bytes 2-4/5', { size: 5, start: 2, end: 5 }],
    [{ offset: 0, end: 2 }, 'bytes=0-1', 'bytes 0-1/5', { size: 5, start: 0, end: 2 }],
    [{ offset: 1, end: 2 }, 'bytes=1-1', 'bytes 1-1/*', { size: undefined, start: 1, end: 2 }],
  ])('is read in part: %j', async (part, range, contentRange, expected) => {
    await using peer = await startPeer((_, response) => {
      response.writeHead(206, { 'content-range': contentRange }).end('x');
    });
    using own = peersWith();
    const { body, ...answer } = await own.peers.open(peer.replica, blob, { ...wish, ...part });
    expect(answer).toEqual({ ...expected, contentType: 'application/octet-stream' });
    body.destroy();
    expect(peer.requests[0]!.headers.range).toBe(range);
    const path = peer.requests[0]!.url!;
    const header = peer.requests[0]!.headers[passHeader] as string;
    expect(pass.check({ method: 'GET', path, range, to: 'other:run' }, header)).toEqual({ from: 'me' });
  });

  test.each(['', 'x3', '3x', '1234567890123456'])('with the length "%s" has none', async (length) => {
    await using peer = await startPeer();
    using own = peersWith();
    peer.answer = (request) => {
      const head = `HTTP/1.1 200 OK\r\n${length === '' ? '' : `X-Length: ${length}\r\n`}Transfer-Encoding: chunked\r\n\r\n`;
      request.socket.end(`${head}3\r\nabc\r\n0\r\n\r\n`);
    };
    const { body, size, end } = await own.peers.open(peer.replica, blob, wish);
    expect([size, end, await bytesOf(body)]).toEqual([undefined, undefined, 'abc']);
  });

  test.each<[number, Record<string, string>, string, number]>([
    [404, {}, 'absent', 0],
    [416, {}, 'absent', 0],
    [401, {}, 'refused', 10_000],
    [403, {}, 'refused', 10_000],
    [503, {}, 'silent', 5_000],
    [504, {}, 'silent', 5_000],
    [500, {}, 'odd', 10_000],
    [206, {}, 'odd', 10_000],
    [206, { 'content-range': 'bytes 1-2/3' }, 'odd', 10_000],
    [299, { 'content-range': 'bytes 0-2/3' }, 'odd', 10_000],
  ])('answered with %i and %j is a failure: %s; it is avoided for %i ms', async (status, headers, fault, avoidMs) => {
    await using peer = await startPeer((_, response) => void response.writeHead(status, headers).end('x'));
    using own = peersWith();
    const { peers } = own;
    await expect(peers.open(peer.replica, blob, wish)).rejects.toMatchObject({ fault, replica: 'other' });
    expect(own.failures).toEqual([{ fault, isNew: fault !== 'absent' }]);
    expect(peers.trouble('other')?.fault).toBe(fault === 'absent' ? undefined : fault);
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      peers.avoid('fresh', fault as PeerFailure['fault']);
      expect(peers.isAvoided('fresh')).toBe(avoidMs > 0);
      vi.advanceTimersByTime(Math.max(0, avoidMs - 1));
      expect(peers.isAvoided('fresh')).toBe(avoidMs > 0);
      vi.advanceTimersByTime(1);
      expect(peers.isAvoided('fresh')).toBe(false);
    } finally {
      vi.useRealTimers();
    }
  });

  test('from a replica that cannot be reached is a failure', async () => {
    await using port = await reservePort('127.0.0.1');
    using own = peersWith();
    const { peers } = own;
    const replica = { id: 'gone', address: `http://127.0.0.1:${port.port}`, boot: '1', isOffline: false };
    await expect(peers.open(replica, blob, wish)).rejects.toMatchObject({
      fault: 'unreachable',
      message: 'another replica is unreachable',
    });
    expect(peers.isAvoided('gone')).toBe(true);
    expect(peers.isSlow('gone')).toBe(false);
    const { at, ...trouble } = peers.trouble('gone')!;
    expect(trouble).toEqual({ fault: 'unreachable', reason: expect.stringContaining('ECONNREFUSED') as string });
    expect(new Date(at).toISOString()).toBe(at);
  });

  test('that does not come in time is a failure of a slow replica', async () => {
    await using peer = await startPeer(() => undefined);
    using own = peersWith({ times: { connectMs: 5_000, headersMs: 50, idleMs: 5_000 } });
    await expect(own.peers.open(peer.replica, blob, wish)).rejects.toMatchObject({
      fault: 'silent',
      message: 'another replica is silent',
    });
    expect([own.peers.isAvoided('other'), own.peers.isSlow('other')]).toEqual([true, true]);
  });

  test('of which interim responses come is waited for', async () => {
    await using peer = await startPeer((_, response) => {
      // Together they take longer than each of them may.
      let left = 6;
      const timer = setInterval(() => {
        response.writeProcessing();
        left -= 1;
        if (left > 0) return;
        clearInterval(timer);
        response.end('abc');
      }, 600);
    });
    using own = peersWith({ times: { connectMs: 5_000, headersMs: 3_000, idleMs: 5_000 } });
    const { body } = await own.peers.open(peer.replica, blob, wish);
    expect(await bytesOf(body)).toBe('abc');
  });

  test.each([
    ['is cut', 'unreachable', 'another replica has cut the transfer', 30_000],
    ['falls silent', 'silent', 'another replica has stopped sending', 50],
  ])('whose transfer %s is a failure of its reader', async (what, fault, message, idleMs) => {
    await using peer = await startPeer((_, response) => {
      response.writeHead(200, { 'content-length': '9' }).write('abc');
      if (what === 'is cut') setImmediate(() => response.destroy());
    });
    using own = peersWith({ times: { connectMs: 5_000, headersMs: 5_000, idleMs } });
    const { body } = await own.peers.open(peer.replica, blob, wish);
    await expect(bytesOf(body)).rejects.toMatchObject({ fault, message });
    expect(own.failures).toEqual([{ fault, isNew: true }]);
    // The cut may be due to this transfer alone.
    expect(own.peers.isAvoided('other')).toBe(false);
  });

  test('that its reader gives up is no failure', async () => {
    await using peer = await startPeer((_, response) => void response.writeHead(200).write('abc'));
    using own = peersWith();
    const left = new AbortController();
    const { body } = await own.peers.open(peer.replica, blob, { ...wish, signal: left.signal });
    const read = bytesOf(body);
    left.abort(new Error('left'));
    await expect(read).rejects.toThrow('left');
    await expect(own.peers.open(peer.replica, blob, { ...wish, signal: left.signal })).rejects.toThrow('left');
    expect(own.failures).toEqual([]);
    expect(peer.requests).toHaveLength(1);
  });

  test('that is refused closes its connection', async () => {
    const closed = Promise.withResolvers<void>();
    await using peer = await startPeer((request, response) => {
      request.socket.once('close', () => closed.resolve());
      response.writeHead(500).write('never ends');
    });
    using own = peersWith();
    await expect(own.peers.open(peer.replica, blob, wish)).rejects.toMatchObject({ fault: 'odd' });
    await closed.promise;
  });
});

describe('the trouble with a replica', () => {
  test('is new once for each fault, and over with a success or an absence', async () => {
    await using peer = await startPeer();
    using own = peersWith();
    const { peers } = own;
    const open = async (status: number) => {
      peer.answer = (_, response) => void response.writeHead(status, { 'content-range': 'bytes 0-0/1' }).end('x');
      await peers.open(peer.replica, blob, wish).then(
        ({ body }) => bytesOf(body),
        () => undefined,
      );
    };
    for (const status of [500, 500, 503, 500, 200, 500, 404, 500, 206, 500]) await open(status);
    expect(own.failures.map(({ fault, isNew }) => `${fault} ${isNew}`)).toEqual([
      'odd true',
      'odd false',
      'silent true',
      'odd true',
      'odd true',
      'absent false',
      'odd true',
      'odd true',
    ]);
    expect(peers.trouble('other')).toMatchObject({ fault: 'odd', reason: 'another replica answered 500' });
    await open(200);
    expect(peers.trouble('other')).toBeUndefined();
  });

  test('is avoided for the longest of the times that its faults ask for', () => {
    using own = peersWith();
    const { peers } = own;
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      peers.avoid('a', 'wrong');
      peers.avoid('a', 'silent');
      vi.advanceTimersByTime(59_999);
      expect([peers.isAvoided('a'), peers.isSlow('a')]).toEqual([true, false]);
      vi.advanceTimersByTime(1);
      expect(peers.isAvoided('a')).toBe(false);
      peers.avoid('a', 'silent');
      expect(peers.isSlow('a')).toBe(true);
      vi.advanceTimersByTime(5_000);
      expect(peers.isSlow('a')).toBe(false);
      expect(peers.isSlow('unknown')).toBe(false);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('a question', () => {
  test('is answered with JSON', async () => {
    await using peer = await startPeer((_, response) => void response.end('{"a":[1]}'));
    using own = peersWith();
    expect(await own.peers.ask(peer.replica, { kind: 'tag', of: 'a b' }, signal)).toEqual({ a: [1] });
    expect(peer.requests[0]!.url).toBe('/v2/_millpond/answers?kind=tag&of=a+b');
  });

  test.each<[string, number, string]>([
    ['another status', 404, '{"a":1}'],
    ['no JSON', 200, 'text'],
    ['too many values', 200, JSON.stringify(Array(101).fill(1))],
    ['too deep a value', 200, '[[[[[1]]]]]'],
    ['more than 4 MiB', 200, `"${'x'.repeat(4 * 1024 * 1024)}"`],
  ])('that gets %s has no answer', async (_, status, text) => {
    await using peer = await startPeer((_request, response) => void response.writeHead(status).end(text));
    using own = peersWith();
    expect(await own.peers.ask(peer.replica, {}, signal)).toBeUndefined();
  });

  test('that cannot be asked, or is cut or silent, has no answer', async () => {
    await using peer = await startPeer((_, response) => void response.writeHead(200).write('{'));
    using own = peersWith({ times: { connectMs: 5_000, headersMs: 5_000, idleMs: 50 } });
    expect(await own.peers.ask(peer.replica, {}, signal)).toBeUndefined();
    expect(await own.peers.ask(peer.replica, {}, AbortSignal.abort())).toBeUndefined();
  });

  test('of up to 4 MiB is answered', async () => {
    const text = `"${'x'.repeat(4 * 1024 * 1024 - 2)}"`;
    await using peer = await startPeer((_, response) => void response.end(text));
    using own = peersWith();
    expect(await own.peers.ask(peer.replica, {}, signal)).toHaveLength(4 * 1024 * 1024 - 2);
  });
});

describe('a wish for a copy', () => {
  test('is sent, and its answer not read', async () => {
    const closed = Promise.withResolvers<void>();
    await using peer = await startPeer((request, response) => {
      request.socket.once('close', () => closed.resolve());
      response.write('never ends');
    });
    using own = peersWith();
    await own.peers.askToCopy(peer.replica, blob, 'docker.io/library/app');
    const path = `/v2/_millpond/blobs/${blob}?want=copy&through=docker.io%2Flibrary%2Fapp`;
    expect(peer.requests[0]!.url).toBe(path);
    await closed.promise;
  });

  test('that cannot be sent is no failure', async () => {
    await using port = await reservePort('127.0.0.1');
    using own = peersWith();
    const replica = { id: 'gone', address: `http://127.0.0.1:${port.port}`, boot: '1', isOffline: false };
    expect(await own.peers.askToCopy(replica, blob, 'x')).toBeUndefined();
  });
});

test('connections are kept for the next question, and end with the replica', async () => {
  await using peer = await startPeer((_, response) => void response.end('1'));
  const own = peersWith();
  for (let turn = 0; turn < 3; turn += 1) expect(await own.peers.ask(peer.replica, {}, signal)).toBe(1);
  expect(peer.connections.count).toBe(1);
  const { socket } = peer.requests[0]!;
  const closed = once(socket, 'close');
  own[Symbol.dispose]();
  await closed;
});
