import { once } from 'node:events';
import {
  createServer as createHttpServer,
  get as getPlainly,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { createServer, get as getSecurely } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { identityContext, OwnerLink } from '../../src/coordination/owner-link.ts';
import { PeerPass } from '../../src/coordination/peer-pass.ts';
import { Peers } from '../../src/coordination/peers.ts';
import { ReplicaAgents } from '../../src/coordination/replica-agents.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { type Authority, type Certificate, makeAuthority } from '../support/certificates.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { digest, secret } from './support.ts';

const signal = new AbortController().signal;
const seal = new Seal(secret);
const pass = new PeerPass({ seal, toleranceMs: 60_000, now: Date.now });

let folder: TemporaryDirectory;
let authority: Authority;
let [server, one, two]: (Certificate | undefined)[] = [];

beforeAll(async () => {
  folder = await temporaryDirectory('replica-agents');
  authority = await makeAuthority(folder.path, 'authority');
  [server, one, two] = await Promise.all(['server', 'one', 'two'].map((name) => authority.issue(name)));
});
afterAll(() => folder[Symbol.asyncDispose]());

/** As a replica presents a certificate, and believes the authority. */
function tlsOf(certificate: Certificate | undefined) {
  return { cert: certificate?.cert, key: certificate?.key, ca: authority.cert };
}

/** Another replica, which answers with the name in the certificate of its client. */
async function startReplica({ isSecure }: { isSecure: boolean }) {
  const sockets: Socket[] = [];
  const state = {
    answer: (request: IncomingMessage, response: ServerResponse): void => {
      const name = (request.socket as TLSSocket).getPeerCertificate?.().subject?.CN;
      const nonce = new URL(request.url!, 'http://x').searchParams.get('nonce');
      if (nonce === null) response.end(JSON.stringify(name ?? 'none'));
      else response.end(seal.close(identityContext, { id: 'owner', boot: 'run', nonce }));
    },
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => state.answer(request, response);
  const tls = {
    cert: server!.cert,
    key: server!.key,
    ca: authority.cert,
    requestCert: true,
    rejectUnauthorized: false,
  };
  const listening = isSecure ? createServer(tls, listener) : createHttpServer(listener);
  listening.on(isSecure ? 'secureConnection' : 'connection', (socket: Socket) => sockets.push(socket));
  // A test that is held up for long finds its connections as they were.
  listening.keepAliveTimeout = 0;
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const address = `${isSecure ? 'https' : 'http'}://127.0.0.1:${(listening.address() as AddressInfo).port}`;
  return {
    address,
    replica: { id: 'other', address, boot: 'run', isOffline: false },
    state,
    sockets,
    async [Symbol.asyncDispose]() {
      const closed = once(listening, 'close');
      listening.close();
      listening.closeAllConnections();
      await closed;
    },
  };
}

describe('a question to another replica over TLS', () => {
  test('presents the certificate, and after a renewal the new one', async () => {
    await using other = await startReplica({ isSecure: true });
    using peers = new Peers({ pass, self: () => 'me', tls: tlsOf(one) });
    const ask = () => peers.ask(other.replica, {}, signal);
    expect([await ask(), await ask()]).toEqual(['one', 'one']);
    expect(other.sockets).toHaveLength(1);
    peers.renewTls(tlsOf(two));
    expect([await ask(), await ask()]).toEqual(['two', 'two']);
    expect(other.sockets).toHaveLength(2);
  });

  test('is not asked of one whose certificate no authority here has signed', async () => {
    await using other = await startReplica({ isSecure: true });
    const failures: unknown[] = [];
    using peers = new Peers({ pass, self: () => 'me', onFailure: (_, { words }) => void failures.push(words) });
    expect(await peers.ask(other.replica, {}, signal)).toBeUndefined();
    expect(failures).toEqual([expect.stringMatching(/certificate/)]);
    peers.renewTls({ ca: authority.cert });
    expect(await peers.ask(other.replica, {}, signal)).toBe('none');
  });

  test('of which the answer is on its way when the certificates are renewed is read to its end', async () => {
    await using other = await startReplica({ isSecure: true });
    const peers = new Peers({ pass, self: () => 'me', tls: tlsOf(one) });
    const responses: ServerResponse[] = [];
    other.state.answer = (_, response) => {
      responses.push(response);
      response.writeHead(200).write('a');
    };
    const wish = { want: 'stored', through: 'x', access: '', offset: 0, signal } as const;
    const first = await peers.open(other.replica, digest(1), wish);
    peers.renewTls(tlsOf(two));
    const second = await peers.open(other.replica, digest(1), wish);
    responses[0]!.end('b');
    expect(await text(first.body)).toBe('ab');
    // The end of the replica's work ends them all.
    const closed = Promise.all(other.sockets.map((socket) => once(socket, 'close')));
    peers[Symbol.dispose]();
    await closed;
    await expect(text(second.body)).rejects.toMatchObject({ fault: 'unreachable' });
  });
});

test('the owner of hosted repositories gets the certificate, and after a renewal the new one', async () => {
  await using owner = await startReplica({ isSecure: true });
  const of = { address: owner.address, pass, seal, self: () => 'me' };
  using link = new OwnerLink({ ...of, tls: tlsOf(one) });
  const get = async () => await text((await link.send({ method: 'GET', path: '/v2/', signal })).stream);
  expect(await get()).toBe('"one"');
  link.renewTls(tlsOf(two));
  expect(await get()).toBe('"two"');
  using stranger = new OwnerLink(of);
  await expect(stranger.send({ method: 'GET', path: '/v2/', signal })).rejects.toMatchObject({ reason: 'owner-away' });
  expect(stranger.away).toMatch(/certificate/);
});

test.each([{ isSecure: false }, { isSecure: true }])('so many connections are kept as may be: %j', async (how) => {
  await using other = await startReplica(how);
  using agents = new ReplicaAgents({ tls: tlsOf(one), maxFreeSockets: 2 });
  const waiting: ServerResponse[] = [];
  other.state.answer = (_, response) => void waiting.push(response);
  const url = new URL(other.address);
  const askThree = async () => {
    const answers = [1, 2, 3].map(async () => {
      const request = how.isSecure
        ? getSecurely(url, { agent: agents.for(url) })
        : getPlainly(url, { agent: agents.for(url) });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      return await text(response);
    });
    await expect.poll(() => waiting.length).toBe(3);
    for (const response of waiting.splice(0)) response.end('x');
    expect(await Promise.all(answers)).toEqual(['x', 'x', 'x']);
  };
  const open = () => other.sockets.filter(({ destroyed }) => !destroyed).length;
  await askThree();
  await expect.poll(open).toBe(2);
  await askThree();
  expect(other.sockets).toHaveLength(4);
  await expect.poll(open).toBe(2);
  agents[Symbol.dispose]();
  await expect.poll(open).toBe(0);
});
