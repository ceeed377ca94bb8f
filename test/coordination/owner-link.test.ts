import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, expect, test, vi } from 'vitest';
import { askOwner } from '../../src/coordination/owner-answer.ts';
import { identityContext, OwnerLink, type OwnerLinkOptions } from '../../src/coordination/owner-link.ts';
import { PeerPass, passHeader } from '../../src/coordination/peer-pass.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { type PeerServer, startPeer } from './peer-server.ts';
import { secret } from './support.ts';

const signal = new AbortController().signal;
const seal = new Seal(secret);
const pass = new PeerPass({ seal, toleranceMs: 60_000, now: Date.now });
const times = { connectMs: 20_000, answerMs: 20_000, pushMs: 20_000, idleMs: 20_000, restMs: 60_000 };

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** The owner, which says who it is and answers everything else as the test says. */
async function startOwner(options: Partial<OwnerLinkOptions> = {}) {
  const state = {
    boot: 'run',
    identity: undefined as Handler | undefined,
    answer: ((_, response) => void response.end('ok')) as Handler,
  };
  const peer = await startPeer((request, response) => {
    const url = new URL(request.url ?? '', 'http://owner');
    if (url.pathname !== '/v2/_millpond/replica') state.answer(request, response);
    else if (state.identity) state.identity(request, response);
    else {
      const identity = { id: 'owner', boot: state.boot, nonce: url.searchParams.get('nonce') };
      response.end(seal.close(identityContext, identity));
    }
  });
  const changes: (string | undefined)[] = [];
  const onChange = (away: string | undefined): void => void changes.push(away);
  const link = new OwnerLink({ address: peer.origin, pass, seal, self: () => 'me', times, onChange, ...options });
  const get = async (path = '/v2/x') => {
    const answer = await link.send({ method: 'GET', path, signal });
    return await text(answer.stream);
  };
  return {
    peer,
    state,
    link,
    changes,
    get,
    identities: () => count(peer, '/v2/_millpond/replica'),
    async [Symbol.asyncDispose]() {
      link[Symbol.dispose]();
      await peer[Symbol.asyncDispose]();
    },
  };
}

function count({ requests }: PeerServer, path: string): number {
  return requests.filter(({ url }) => url?.startsWith(path)).length;
}

async function* bodyOf(...parts: readonly string[]): AsyncGenerator<Buffer> {
  for (const part of parts) yield Buffer.from(part);
  await Promise.resolve();
}

/** A body that fails in the middle. */
async function* failing(): AsyncGenerator<Buffer> {
  yield Buffer.from('a');
  throw new Error('the client left');
}

const away = { reason: 'owner-away', status: 503, headers: { 'Retry-After': '5' } };

describe('a request to the owner', () => {
  test('is signed for its run as it is sent, and says on whose behalf', async () => {
    await using owner = await startOwner();
    const headers = { range: 'bytes=0-1', 'x-other': '1' };
    const asked = { method: 'GET', path: '/v2/a?x=1&y=%20', headers, caller: 'someone', signal };
    const answer = await owner.link.send(asked);
    expect([answer.status, await text(answer.stream)]).toEqual([200, 'ok']);
    const { method, url, headers: sent } = owner.peer.requests[1]!;
    expect([method, url]).toEqual(['GET', '/v2/a?x=1&y=%20']);
    expect(sent).toMatchObject({ range: 'bytes=0-1', 'x-other': '1', 'millpond-caller': 'someone' });
    const request = { method: 'GET', path: url!, range: 'bytes=0-1', to: 'owner:run', caller: 'someone' };
    expect(pass.check(request, sent[passHeader] as string)).toEqual({ from: 'me' });
    await owner.get('/v2/b?');
    const last = owner.peer.requests.at(-1)!;
    expect(last.headers['millpond-caller']).toBeUndefined();
    const second = { method: 'GET', path: last.url!, range: undefined, to: 'owner:run' };
    expect(pass.check(second, last.headers[passHeader] as string)).toEqual({ from: 'me' });
  });

  test('asks once who the owner is, over one connection', async () => {
    await using owner = await startOwner();
    for (let turn = 0; turn < 3; turn += 1) expect(await owner.get()).toBe('ok');
    expect(owner.identities()).toBe(1);
    expect(owner.peer.connections.count).toBe(1);
    expect([owner.link.away, owner.changes, owner.link.address]).toEqual([undefined, [], owner.peer.origin]);
  });

  test('with a body has it sent', async () => {
    await using owner = await startOwner();
    owner.state.answer = (request, response) => void text(request).then((body) => response.end(`got ${body}`));
    const answer = await owner.link.send({
      method: 'PUT',
      path: '/v2/x',
      body: bodyOf('ab', 'c'),
      isPush: true,
      signal,
    });
    expect(await text(answer.stream)).toBe('got abc');
  });

  test('whose body cannot be read fails with that, and says nothing about the owner', async () => {
    await using owner = await startOwner();
    owner.state.answer = () => undefined;
    const sent = owner.link.send({ method: 'PUT', path: '/v2/x', body: failing(), signal });
    await expect(sent).rejects.toThrow('the client left');
    expect([owner.link.away, owner.changes]).toEqual([undefined, []]);
  });

  test('that is a question is asked once more where the connection was of a former run', async () => {
    await using owner = await startOwner();
    await owner.get();
    let left = 1;
    owner.state.answer = (request, response) => {
      left -= 1;
      if (left >= 0) request.socket.destroy();
      else response.end('second');
    };
    expect(await owner.get()).toBe('second');
    expect(owner.identities()).toBe(2);
    for (const method of ['HEAD', 'DELETE']) {
      left = 1;
      const sent = owner.link.send({ method, path: '/v2/x', signal });
      if (method === 'HEAD') expect((await sent).status).toBe(200);
      else await expect(sent).rejects.toMatchObject(away);
    }
    expect(owner.changes).toHaveLength(1);
  });

  test('that fails twice is a failure of the owner, told once, and over with the next answer', async () => {
    await using owner = await startOwner();
    owner.state.answer = (request) => void request.socket.destroy();
    await expect(owner.get()).rejects.toMatchObject(away);
    expect(count(owner.peer, '/v2/x')).toBe(2);
    await expect(owner.get()).rejects.toMatchObject(away);
    expect(owner.link.away).toMatch(/closed|hang up|ECONNRESET/);
    owner.state.answer = (_, response) => void response.end('back');
    expect(await owner.get()).toBe('back');
    expect(owner.link.away).toBeUndefined();
    // Each time the identity was confirmed it was reached for a moment.
    expect(owner.changes.at(-1)).toBeUndefined();
    expect(owner.changes.at(-2)).toEqual(expect.any(String));
  });

  test('that was signed for an earlier run is signed again once, if it has no body', async () => {
    await using owner = await startOwner();
    await owner.get();
    owner.state.boot = 'second run';
    owner.state.answer = (_, response) => {
      if (count(owner.peer, '/v2/x') <= 2) response.setHeader('millpond-refused', 'forged');
      response.end('again');
    };
    expect(await owner.get()).toBe('again');
    expect([count(owner.peer, '/v2/x'), owner.identities()]).toEqual([3, 2]);
    const last = owner.peer.requests.at(-1)!;
    const request = { method: 'GET', path: '/v2/x', range: undefined, to: 'owner:second run' };
    expect(pass.check(request, last.headers[passHeader] as string)).toEqual({ from: 'me' });
  });

  test('that is refused twice, or once with a body, is a failure with the reason', async () => {
    await using owner = await startOwner();
    owner.state.answer = (_, response) => void response.setHeader('millpond-refused', 'r'.repeat(200)).end();
    await expect(owner.get()).rejects.toMatchObject(away);
    expect(owner.link.away).toBe(`it refuses this replica (${'r'.repeat(100)})`);
    const before = count(owner.peer, '/v2/x');
    const put = owner.link.send({ method: 'PUT', path: '/v2/x', body: bodyOf('a'), signal });
    await expect(put).rejects.toMatchObject(away);
    expect(count(owner.peer, '/v2/x') - before).toBe(1);
  });

  test('of a caller that leaves fails with its reason', async () => {
    await using owner = await startOwner();
    const left = new AbortController();
    owner.state.answer = () => left.abort(new Error('left'));
    await expect(owner.link.send({ method: 'GET', path: '/v2/x', signal: left.signal })).rejects.toThrow('left');
    await expect(owner.link.send({ method: 'GET', path: '/v2/x', signal: left.signal })).rejects.toThrow('left');
    const asking = new AbortController();
    await using other = await startOwner();
    other.state.identity = () => asking.abort(new Error('left too'));
    await expect(other.link.send({ method: 'GET', path: '/', signal: asking.signal })).rejects.toThrow('left too');
    expect([owner.changes, other.changes]).toEqual([[], []]);
  });
});

describe('the identity of the owner', () => {
  test.each<[string, Handler, string]>([
    [
      'is refused',
      (_, response) => void response.writeHead(404).end(),
      'it answered 404: it is no replica of this mirror',
    ],
    ['is of another secret', (_, response) => void response.end('x'), 'it has another cluster.secretFile'],
    [
      'is of an earlier question',
      (_, response) => void response.end(seal.close(identityContext, { id: 'a', boot: 'b', nonce: 'c' })),
      'it has another cluster.secretFile',
    ],
    [
      'is for something else',
      (request, response) => {
        const nonce = new URL(request.url!, 'http://x').searchParams.get('nonce');
        response.end(seal.close('something else', { id: 'a', boot: 'b', nonce }));
      },
      'it has another cluster.secretFile',
    ],
    ['is too long', (_, response) => void response.end('x'.repeat(5_000)), 'it has another cluster.secretFile'],
  ])('that %s is a failure', async (_, identity, words) => {
    await using owner = await startOwner();
    owner.state.identity = identity;
    await expect(owner.get()).rejects.toMatchObject(away);
    expect([owner.link.away, owner.changes, count(owner.peer, '/v2/x')]).toEqual([words, [words], 0]);
    owner.state.identity = undefined;
    // Nothing of that is a reason to wait.
    expect(await owner.get()).toBe('ok');
    expect(owner.changes).toEqual([words, undefined]);
  });

  test('that does not come in time is not asked for again for a while', async () => {
    const restMs = 3_600_000;
    await using owner = await startOwner({ times: { ...times, answerMs: 1_000, restMs } });
    owner.state.identity = () => undefined;
    await expect(owner.get()).rejects.toMatchObject(away);
    expect(owner.identities()).toBe(1);
    owner.state.identity = undefined;
    await expect(owner.get()).rejects.toMatchObject(away);
    expect(owner.identities()).toBe(1);
    // An answer that a busy machine gives too late begins another rest.
    let restsOver = 0;
    let answer: string | undefined;
    const realMs = performance.now.bind(performance);
    using _clock = vi.spyOn(performance, 'now').mockImplementation(() => realMs() + restsOver * restMs);
    while (answer === undefined) {
      restsOver += 1;
      answer = await owner.get().catch(() => undefined);
    }
    expect(answer).toBe('ok');
  });

  test('is confirmed before a body is sent, unless it was a moment ago', async () => {
    await using owner = await startOwner();
    const put = async () => {
      const answer = await owner.link.send({ method: 'PUT', path: '/v2/x', body: bodyOf('a'), signal });
      await text(answer.stream);
    };
    owner.state.answer = (request, response) => void text(request).then(() => response.end('ok'));
    await put();
    await put();
    const soon = owner.identities();
    expect(soon).toBeLessThanOrEqual(2);
    const from = performance.now();
    await expect.poll(() => performance.now() - from > 1_050).toBe(true);
    await put();
    expect(owner.identities()).toBe(soon + 1);
  });
});

test('connections end with the link, those of former certificates too', async () => {
  await using owner = await startOwner();
  owner.link.renewTls({});
  await owner.get();
  const closed = once(owner.peer.requests[0]!.socket, 'close');
  owner.link[Symbol.dispose]();
  await closed;
});

describe('an answer of the owner', () => {
  const ask = async (owner: Awaited<ReturnType<typeof startOwner>>, method: 'GET' | 'HEAD' = 'GET', range?: string) =>
    await askOwner(owner.link, [method, '/v2/x'], { range, signal });

  test.each([
    [200, undefined],
    [206, 'bytes=0-1'],
  ])('with %i is given whole, or in part', async (status, range) => {
    await using owner = await startOwner();
    owner.state.answer = (_, response) =>
      void response.writeHead(status, { 'x-y': 'z', 'content-length': '3' }).end('abc');
    const answer = await ask(owner, 'GET', range);
    expect([answer.status, answer.headers['x-y']]).toEqual([status, 'z']);
    expect((await answer.read(3))?.toString()).toBe('abc');
    expect(owner.peer.requests.at(-1)?.headers.range).toBe(range);
    expect(await (await ask(owner)).read(2)).toBeUndefined();
  });

  test('to a HEAD has no body, whatever length it says', async () => {
    await using owner = await startOwner();
    owner.state.answer = (_, response) => void response.writeHead(200, { 'content-length': '3' }).end();
    const answer = await ask(owner, 'HEAD');
    expect((await answer.read(3))?.toString()).toBe('');
  });

  test('that is cut is no end', async () => {
    await using owner = await startOwner();
    owner.state.answer = (_, response) => {
      response.writeHead(200, { 'content-length': '9' }).write('abc');
      setImmediate(() => response.destroy());
    };
    const answer = await ask(owner);
    await expect(answer.read(9)).rejects.toMatchObject({ reason: 'cut' });
  });

  test('whose reader leaves fails with its reason', async () => {
    await using owner = await startOwner();
    owner.state.answer = (_, response) => void response.writeHead(200).write('abc');
    const left = new AbortController();
    const answer = await askOwner(owner.link, ['GET', '/v2/x'], { signal: left.signal });
    const read = answer.read(9);
    left.abort(new Error('left'));
    await expect(read).rejects.toThrow('left');
  });

  const said = JSON.stringify({ errors: [{ code: 'MANIFEST_UNKNOWN', message: 'no such manifest' }] });

  test.each<[number, 'GET' | 'HEAD', string, object]>([
    [404, 'GET', said, { reason: 'not-found', code: 'MANIFEST_UNKNOWN', message: 'no such manifest' }],
    [404, 'GET', 'text', { reason: 'not-found', message: 'there is no such content here' }],
    [404, 'GET', '{"errors":[]}', { reason: 'not-found', message: 'there is no such content here' }],
    [404, 'GET', `"${'x'.repeat(17_000)}"`, { reason: 'not-found', message: 'there is no such content here' }],
    [404, 'HEAD', '', { reason: 'not-found', message: 'there is no such content here' }],
    [403, 'GET', said, { reason: 'denied', code: 'MANIFEST_UNKNOWN', message: 'no such manifest' }],
    [403, 'GET', '', { reason: 'denied', code: 'DENIED', message: 'not allowed' }],
    [416, 'GET', said, { reason: 'range-refused', message: 'the range lies outside the blob' }],
    [500, 'GET', said, { reason: 'bad-answer', message: 'the owner of the hosted repositories answered 500' }],
    [204, 'GET', '', { reason: 'bad-answer', message: 'the owner of the hosted repositories answered 204' }],
  ])('with %i to a %s and %s is an error', async (status, method, body, expected) => {
    await using owner = await startOwner();
    owner.state.answer = (_, response) => void response.writeHead(status).end(body);
    await expect(ask(owner, method)).rejects.toMatchObject(expected);
  });
});
