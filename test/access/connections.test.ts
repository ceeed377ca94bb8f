import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, htpasswdFile, tokenOf } from './support.ts';

/** Sends requests on one connection and reads the status of each answer. */
function talk(socket: Socket) {
  let received = '';
  socket.setEncoding('latin1');
  socket.on('data', (piece) => {
    received += String(piece);
  });
  const statuses = (): number[] => [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status));
  return async (requests: readonly string[]): Promise<number[]> => {
    const before = statuses().length;
    socket.write(requests.join(''));
    await expect.poll(() => statuses().length).toBe(before + requests.length);
    return statuses().slice(before);
  };
}

test.each([1, 2])('a connection gives each request to its own caller alone, with %i threads', async (threads) => {
  await using folder = await temporaryFolder();
  await using registry = await startRegistry();
  const blob = registry.addBlob({ size: 100, seed: 'one' });
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
  const policies = [
    { users: ['ann'], repositories: ['registry.test/ann/**'] },
    { users: ['bob'], repositories: ['registry.test/bob/**'] },
  ];
  const shut = { serve: { threads }, auth: { htpasswdFile: file, anonymous: true, policies } };
  await using site = await startTestSite({ upstreams: { 'registry.test': registry }, config: shut });
  const port = Number(new URL(site.origin).port);
  const scope = 'repository:registry.test/ann/app:pull';
  const headers = {
    ann: basic('ann', 'a-secret'),
    annByToken: bearer(await tokenOf(site, scope, basic('ann', 'a-secret'))),
    bob: basic('bob', 'b-secret'),
    bobByToken: bearer(await tokenOf(site, scope, basic('bob', 'b-secret'))),
    anonymous: { authorization: '' },
    wrong: basic('ann', 'w'),
  };
  const wanted = { ann: 200, annByToken: 200, bob: 403, bobByToken: 403, anonymous: 401, wrong: 401 };
  type Who = keyof typeof headers;
  const requestOf = (who: Who): string =>
    [
      `GET /v2/registry.test/ann/app/blobs/${blob.digest} HTTP/1.1`,
      'Host: x',
      ...(headers[who].authorization === '' ? [] : [`Authorization: ${headers[who].authorization}`]),
      '\r\n',
    ].join('\r\n');
  const all: readonly Who[] = ['ann', 'bob', 'anonymous', 'annByToken', 'wrong', 'bobByToken'];
  // Each after each other one.
  const order = all.flatMap((one) => all.flatMap((other) => [one, other]));
  const socket = connect(port, '127.0.0.1');
  try {
    const ask = talk(socket);
    for (const who of order) expect([who, ...(await ask([requestOf(who)]))]).toEqual([who, wanted[who]]);
    // Sent without waiting for answers.
    expect(await ask(order.map(requestOf))).toEqual(order.map((who) => wanted[who]));
    // While callers are not told apart, answers are kept, and threads in front may give them.
    const { auth: _, ...open } = shut;
    await site.reconfigure(open);
    for (const __ of [1, 2, 3]) expect(await ask([requestOf('anonymous'), requestOf('bob')])).toEqual([200, 200]);
    await site.reconfigure(shut);
    expect(await ask(order.map(requestOf))).toEqual(order.map((who) => wanted[who]));
  } finally {
    socket.destroy();
  }
});
