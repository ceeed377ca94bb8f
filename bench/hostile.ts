import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { get } from '../test/support/client.ts';
import type { AddedBlob } from '../test/support/contents.ts';
import { type Behaviour, behaviours, startHostileRegistry } from '../test/support/hostile.ts';
import { startRegistry } from '../test/support/registry.ts';
import { freePort, type Program, serverCore, startServer } from './program.ts';
import { median } from './statistics.ts';

/*
 * What pulls from a healthy upstream cost beside a hostile one, and what a process takes whose clients are hostile:
 *
 *   node bench/hostile.ts [behaviour…]
 *
 * Each behaviour: rounds of cold pulls of the healthy upstream alone and beside sixty requests of the hostile one, in
 * turn, and the ratio of the medians. Then the crowd: 5,000 connections that send a byte, 1,000 answers that are not
 * read, 3 connections with 1,000 requests sent ahead, 60 lists that are not read, all at once, and pulls beside them.
 */

const MiB = 1024 ** 2;
const rounds = 15;
const blobsPerRound = 8;

interface Mirror {
  readonly origin: string;
  readonly program: Program;
}

async function startMirror(stack: AsyncDisposableStack, upstreams: Readonly<Record<string, string>>): Promise<Mirror> {
  const directory = await mkdtemp(join(tmpdir(), 'millpond-hostile-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const listen = `127.0.0.1:${await freePort()}`;
  const configFile = join(directory, 'millpond.yaml');
  const table = Object.fromEntries(Object.entries(upstreams).map(([name, url]) => [name, { urls: [url] }]));
  const cache = { dir: join(directory, 'data'), minFree: '1B' };
  const timeouts = { drain: '100ms' };
  await writeFile(configFile, JSON.stringify({ listen, upstreams: table, cache, timeouts, log: { level: 'warn' } }));
  const program = await startServer(fileURLToPath(new URL('../bin/millpond', import.meta.url)), {
    args: ['serve', '--config', configFile],
    core: serverCore,
    logFile: join(directory, 'log'),
    readyUrl: `http://${listen}/healthz`,
  });
  stack.use(program);
  return { origin: `http://${listen}`, program };
}

function pathOf({ digest }: AddedBlob, ns: string): string {
  return `/v2/library/app/blobs/${digest}?ns=${ns}`;
}

/** Milliseconds for a round of blobs. @throws Error where one is not right */
async function pullAll(origin: string, blobs: readonly AddedBlob[], ns = 'healthy.example'): Promise<number> {
  const startedMs = performance.now();
  const replies = await Promise.all(blobs.map((blob) => get(`${origin}${pathOf(blob, ns)}`, { keepBody: false })));
  const tookMs = performance.now() - startedMs;
  for (const [index, { status, sha256 }] of replies.entries()) {
    if (status !== 200 || sha256 !== blobs[index]!.digest) throw new Error(`a pull was not right: ${status}`);
  }
  return tookMs;
}

async function measure(behaviour: Behaviour): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const healthy = stack.use(await startRegistry());
  const hostile = stack.use(await startHostileRegistry(healthy, behaviour));
  const upstreams = { 'healthy.example': healthy.origin, 'hostile.example': hostile.origin };
  const alone = await startMirror(stack, upstreams);
  const beside = await startMirror(stack, upstreams);
  const bad = new AbortController();
  const targets = Array.from({ length: 60 }, (_, index) => healthy.addBlob({ size: MiB, seed: `bad ${index}` }));
  for (const target of targets) {
    get(`${beside.origin}${pathOf(target, 'hostile.example')}`, { signal: bad.signal, keepBody: false }).catch(() => 0);
  }
  await hostile.reached;
  const times: Record<'alone' | 'beside', number[]> = { alone: [], beside: [] };
  for (let round = -2; round < rounds; round += 1) {
    const blobs = Array.from({ length: blobsPerRound }, (_, index) =>
      healthy.addBlob({ size: MiB, seed: `round ${round} ${index}` }),
    );
    // The second one pulls what the upstream has made already: they take turns.
    const turn = [
      ['alone', alone],
      ['beside', beside],
    ] as const;
    for (const [name, mirror] of round % 2 === 0 ? turn : turn.toReversed()) {
      const tookMs = await pullAll(mirror.origin, blobs);
      if (round >= 0) times[name].push(tookMs);
    }
  }
  bad.abort();
  const [without, beside_] = [median(times.alone), median(times.beside)];
  const extra = (beside_ / without - 1) * 100;
  console.log(
    `${behaviour.padEnd(14)} alone ${without.toFixed(1)} ms, beside ${beside_.toFixed(1)} ms: ${extra >= 0 ? '+' : ''}${extra.toFixed(0)} %`,
  );
}

function dial(origin: string, sends: string): Promise<Socket> {
  const { hostname, port } = new URL(origin);
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = connect({ host: hostname, port: Number(port) }, () => {
    socket.write(sends);
    socket.pause();
    resolve(socket);
  });
  socket.on('error', reject);
  return promise;
}

async function measureCrowd(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const healthy = stack.use(await startRegistry());
  const lists = stack.use(await startHostileRegistry(healthy, 'long-list'));
  const mirror = await startMirror(stack, { 'healthy.example': healthy.origin, 'lists.example': lists.origin });
  const large = healthy.addBlob({ size: 64 * MiB, seed: 'large' });
  await pullAll(mirror.origin, [large]);
  const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: mirror\r\n\r\n`;
  const unread = request(pathOf(large, 'healthy.example'));
  const sockets: Socket[] = [];
  const idleMegabytes = mirror.program.peakMemoryBytes() / 1e6;
  for (const [count, sends] of [
    [5_000, 'G'],
    [1_000, unread],
    [3, unread.repeat(1_000)],
    [60, request('/v2/library/app/tags/list?ns=lists.example')],
  ] as const) {
    for (let index = 0; index < count; index += 1) sockets.push(await dial(mirror.origin, sends));
  }
  const blobs = Array.from({ length: 20 }, (_, index) => healthy.addBlob({ size: MiB, seed: `beside ${index}` }));
  for (const blob of blobs) await pullAll(mirror.origin, [blob]);
  const alive = await get(`${mirror.origin}/healthz`);
  const metrics = (await get(`${mirror.origin}/metrics`)).body.toString();
  const peakMegabytes = mirror.program.peakMemoryBytes() / 1e6;
  const lines = metrics
    .split('\n')
    .filter((line) => /^millpond_(?:refusals_total|memory_budget|waiting_bytes)/.test(line));
  console.log(`crowd: ${idleMegabytes.toFixed(0)} MB before, ${peakMegabytes.toFixed(0)} MB at the peak (RSS)`);
  console.log(
    `  /healthz ${alive.status}; ${blobs.length} of ${blobs.length} pulls beside it right; ${lines.join('; ')}`,
  );
  for (const socket of sockets) socket.destroy();
}

const chosen = process.argv.slice(2);
const names = (Object.keys(behaviours) as Behaviour[]).filter((name) => chosen.length === 0 || chosen.includes(name));
for (const name of names) await measure(name);
if (chosen.length === 0 || chosen.includes('crowd')) await measureCrowd();
