import { connect as connectHttp2, constants, createSecureServer, type ServerHttp2Stream } from 'node:http2';
import { Agent, createServer, request } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Readable } from 'node:stream';
import { makeAuthority } from '../test/support/certificates.ts';
import { temporaryDirectory } from '../test/support/temporary-directory.ts';

// What a client gets of large bodies over HTTP/1.1 on a connection each, and over HTTP/2 on one.

const mebibytes = 256;
const bodies = 4;
const rounds = 5;
const piece = Buffer.alloc(512 * 1024, 0x61);

await using directory = await temporaryDirectory('http2');
const authority = await makeAuthority(directory.path, 'authority');
const { cert, key } = await authority.issue('server');

/** Writes a body as the mirror does: a piece after another, as the client takes them. */
function* body(): Generator<Buffer> {
  for (let sent = 0; sent < mebibytes * 2; sent += 1) yield piece;
}

async function writeAll(response: NodeJS.WritableStream): Promise<void> {
  for (const one of body()) {
    if (!response.write(one)) await new Promise((resolve) => response.once('drain', resolve));
  }
  response.end();
}

async function read(stream: Readable): Promise<void> {
  for await (const _ of stream) continue;
}

const one = createServer({ cert, key }, (_, response) => void writeAll(response));
const two = createSecureServer({ cert, key, settings: { initialWindowSize: 4 * 1024 * 1024 } });
two.on('stream', (stream: ServerHttp2Stream) => {
  stream.respond({ [constants.HTTP2_HEADER_STATUS]: 200 });
  void writeAll(stream);
});
const portOf = async (server: typeof one | typeof two): Promise<number> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
};
const [onePort, twoPort] = [await portOf(one), await portOf(two)];
const agent = new Agent({ keepAlive: true, ca: authority.cert });
const session = connectHttp2(`https://127.0.0.1:${twoPort}`, {
  ca: authority.cert,
  settings: { initialWindowSize: 4 * 1024 * 1024 },
});
session.once('connect', () => session.setLocalWindowSize(16 * 1024 * 1024));

const ways = {
  'HTTP/1.1': () =>
    new Promise<void>((resolve, reject) => {
      const sent = request({ port: onePort, host: '127.0.0.1', agent }, (response) => {
        void read(response).then(resolve, reject);
      });
      sent.once('error', reject).end();
    }),
  'HTTP/2': () => read(session.request({ ':path': '/' })),
};
const rates = new Map<string, number[]>(Object.keys(ways).map((name) => [name, []]));
for (let round = 0; round < rounds; round += 1) {
  for (const [name, way] of Object.entries(ways)) {
    const [startedMs, cpu] = [performance.now(), process.cpuUsage()];
    await Promise.all(Array.from({ length: bodies }, way));
    const seconds = (performance.now() - startedMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    rates.get(name)!.push((mebibytes * bodies) / seconds);
    process.stdout.write(
      `${name.padEnd(9)} ${((mebibytes * bodies) / seconds).toFixed(0)} MiB/s, ${((user + system) / 1e6).toFixed(2)} s of CPU per GiB\n`,
    );
  }
}
for (const [name, all] of rates) {
  process.stdout.write(
    `${name.padEnd(9)} median ${all.toSorted((a, b) => a - b)[Math.floor(rounds / 2)]!.toFixed(0)} MiB/s\n`,
  );
}
session.close();
agent.destroy();
one.close();
two.close();
