// Several replicas before one upstream, as processes of their own:
//   node bench/replicas.ts herd  [REPLICAS] [CLIENTS] [MIB]    a cold blob asked for by all at once
//   node bench/replicas.ts killed [REPLICAS] [CLIENTS] [MIB]   the same, with the fetching replica killed at 30, 60, 95 %
//   node bench/replicas.ts image [MB] [MB_PER_SECOND] [LARGEST]  an image of 10 layers on 1, 2, 4, 8 replicas over one slow line,
//                                                              and on 8 that know nothing of one another; needs curl
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { get, type Reply } from '../test/support/client.ts';
import { type MillpondProcess, startMillpond } from '../test/support/millpond.ts';
import { startRedis } from '../test/support/redis.ts';
import { type ScriptedRegistry, startRegistry } from '../test/support/registry.ts';

const MiB = 1024 * 1024;
const MB = 1_000_000;
const [kind = 'herd', ...rest] = process.argv.slice(2);
const numbers = rest.map(Number);

switch (kind) {
  case 'herd':
    await herd(numbers[0] ?? 4, numbers[1] ?? 50, numbers[2] ?? 200);
    break;
  case 'killed':
    await killed(numbers[0] ?? 4, numbers[1] ?? 50, numbers[2] ?? 200);
    break;
  case 'image':
    await images({ megabytes: numbers[0] ?? 500, megabytesPerSecond: numbers[1] ?? 50, largest: numbers[2] ?? 8 });
    break;
  default:
    throw new Error('usage: node bench/replicas.ts herd|killed|image [NUMBER]…');
}

async function herd(replicas: number, clients: number, mebibytes: number): Promise<void> {
  await using upstream = await startRegistry();
  await using fleet = await startFleet(replicas, upstream);
  const blob = upstream.addBlob({ size: mebibytes * MiB, seed: `herd ${Date.now()}` });
  const startedMs = performance.now();
  const replies = await pullAll(fleet.mirrors, clients, `/v2/library/app/blobs/${blob.digest}`);
  const right = replies.filter(({ reply }) => reply?.complete === true && reply.sha256 === blob.digest).length;
  report(`${replicas} replicas × ${clients} clients, ${mebibytes} MiB`, {
    seconds: secondsSince(startedMs),
    right: `${right} of ${replies.length}`,
    upstreamGets: upstream.requestsFor(blob.digest).filter(({ method }) => method === 'GET').length,
    upstreamBytes: ratio(upstream.bytesSent(blob.digest), blob.size),
    keptBy: `${await keepers(fleet.mirrors, blob.digest)} of ${replicas}`,
  });
}

/** How many replicas have a blob on their own disk. */
async function keepers(mirrors: readonly MillpondProcess[], digest: string): Promise<number> {
  const kept = await Promise.all(
    mirrors.map(async ({ origin }) => {
      const reply = await get(`${origin}/v2/library/app/blobs/${digest}`, { keepBody: false, hash: false });
      return reply.headers['cache-status'] === 'millpond; hit';
    }),
  );
  return kept.filter(Boolean).length;
}

async function killed(replicas: number, clients: number, mebibytes: number): Promise<void> {
  for (const share of [0.3, 0.6, 0.95]) {
    await using upstream = await startRegistry({ bytesPerSecond: { total: 50 * MiB } });
    await using fleet = await startFleet(replicas, upstream);
    const blob = upstream.addBlob({ size: mebibytes * MiB, seed: `killed ${share} ${Date.now()}` });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const [leader, ...others] = fleet.mirrors;
    const reached = Promise.withResolvers<void>();
    const first = get(`${leader!.origin}${path}`, {
      keepBody: false,
      onBytes: (bytes) => {
        if (bytes >= blob.size * share - 128 * 1024) reached.resolve();
      },
    }).catch(() => undefined);
    await until(async () => (await metric(leader!, 'millpond_peer_leases')) === 1);
    const pulls = pullAll(others, clients, path);
    await reached.promise;
    leader!.process.kill('SIGKILL');
    const replies = await pulls;
    await first;
    const right = replies.filter(({ reply }) => reply?.complete === true && reply.sha256 === blob.digest).length;
    report(`killed at ${share * 100} %`, {
      right: `${right} of ${replies.length}`,
      upstreamBytes: ratio(upstream.bytesSent(blob.digest), blob.size),
    });
  }
}

async function images({
  megabytes,
  megabytesPerSecond,
  largest,
}: {
  readonly megabytes: number;
  readonly megabytesPerSecond: number;
  readonly largest: number;
}): Promise<void> {
  const timeOf = async (replicas: number, shared: boolean): Promise<number> => {
    await using upstream = await startRegistry({ bytesPerSecond: { total: megabytesPerSecond * MB } });
    await using fleet = await startFleet(replicas, upstream, shared);
    const size = Math.floor((megabytes * MB) / 10);
    const layers = Array.from({ length: 10 }, (_, index) => ({ size, seed: `${replicas} ${index} ${Date.now()}` }));
    const image = upstream.addImage('library/app', '1', { layers });
    const before = (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
    const cpuOfAll = (): number => fleet.mirrors.reduce((sum, mirror) => sum + cpuSeconds(mirror.process.pid), 0);
    const cpuBefore = cpuOfAll();
    const startedMs = performance.now();
    await Promise.all(
      fleet.mirrors.map(async ({ origin }) => {
        await get(`${origin}/v2/library/app/manifests/1`);
        await pull(
          image.layers.map(({ digest }) => `${origin}/v2/library/app/blobs/${digest}`),
          size,
        );
      }),
    );
    const seconds = (performance.now() - startedMs) / 1000;
    const cpu = cpuOfAll() - cpuBefore;
    const sent = image.layers.reduce((sum, { digest }) => sum + upstream.bytesSent(digest), 0);
    report(`${replicas} replicas${shared ? '' : ' on their own'}`, {
      seconds: seconds.toFixed(1),
      upstreamBytes: ratio(sent, 10 * size),
      cpuSecondsOfAll: cpu.toFixed(1),
      cpuSecondsOfBench: ((process.cpuUsage().user + process.cpuUsage().system) / 1e6 - before).toFixed(1),
    });
    return seconds;
  };
  const alone = await timeOf(1, true);
  for (const replicas of [2, 4, 8].filter((count) => count <= largest))
    console.log(`  ${ratio(await timeOf(replicas, true), alone)} of the time of one`);
  console.log(`  ${ratio(await timeOf(largest, false), alone)} of the time of one`);
}

/**
 * One client that takes some blobs of one size at a time, as containerd does. Each replica verifies what it ends: to hash it
 * again here would take the time that is measured, as would a client in JavaScript.
 */
async function pull(urls: readonly string[], size: number): Promise<void> {
  const options = ['--silent', '--fail', '--parallel', '--parallel-immediate', '--write-out', '%{size_download}\n'];
  const outputs = urls.flatMap((url) => ['--output', '/dev/null', url]);
  const { stdout } = await promisify(execFile)('curl', [...options, ...outputs]);
  const received = stdout.trim().split('\n').map(Number);
  if (received.length !== urls.length || received.some((bytes) => bytes !== size))
    throw new Error(`received ${received.join(', ')} bytes instead of ${urls.length} times ${size}`);
}

async function startFleet(
  replicas: number,
  upstream: ScriptedRegistry,
  shared = true,
): Promise<{ readonly mirrors: readonly MillpondProcess[] } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis());
  const folder = await mkdtemp(join(tmpdir(), 'millpond-replicas-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const secretFile = join(folder, 'secret');
  await writeFile(secretFile, 'the secret of a fleet that is measured');
  const mirrors: MillpondProcess[] = [];
  for (let index = 0; index < replicas; index += 1) {
    const directory = join(folder, String(index));
    await mkdir(directory);
    const config = {
      upstreams: { 'docker.io': { urls: [upstream.origin] } },
      log: { level: 'warn' },
      ...(shared && { redis: { url: redis.url }, cluster: { secretFile } }),
    };
    // The line that says that it listens is of the level info.
    mirrors.push(stack.use(await startMillpond({ ...config, log: { level: 'info' } }, { directory })));
  }
  if (shared) {
    for (const mirror of mirrors) {
      await until(async () => (await metric(mirror, 'millpond_peer_replicas')) === replicas);
    }
  }
  const owned = stack.move();
  return { mirrors, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function pullAll(
  mirrors: readonly MillpondProcess[],
  clients: number,
  path: string,
): Promise<{ readonly mirror: MillpondProcess; readonly reply: Reply | undefined }[]> {
  const all = mirrors.flatMap((mirror) => Array.from({ length: clients }, () => mirror));
  return await Promise.all(
    all.map(async (mirror) => {
      const reply = await get(`${mirror.origin}${path}`, { keepBody: false }).catch(() => undefined);
      return { mirror, reply };
    }),
  );
}

async function metric(mirror: MillpondProcess, name: string): Promise<number> {
  const text = (await get(`${mirror.origin}/metrics`)).body.toString();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = AbortSignal.timeout(30_000);
  while (!(await isSo())) {
    deadline.throwIfAborted();
    await delay(20);
  }
}

/** CPU time of a process so far, its launcher's included: user and system, in seconds (proc(5), fields 14 and 15). */
function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function ratio(part: number, whole: number): string {
  return `${(part / whole).toFixed(3)} ×`;
}

function secondsSince(startedMs: number): string {
  return ((performance.now() - startedMs) / 1000).toFixed(1);
}

function report(title: string, figures: Readonly<Record<string, string | number>>): void {
  console.log(
    `${title}: ${Object.entries(figures)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}`,
  );
}
