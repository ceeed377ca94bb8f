// Hits of one of two replicas under load, while their Redis is well, killed, frozen or refusing:
//   node bench/redis-faults.ts [SECONDS_PER_STATE] [CONNECTIONS]
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { get } from '../test/support/client.ts';
import { type MillpondProcess, startMillpond } from '../test/support/millpond.ts';
import { run } from '../test/support/processes.ts';
import { type RedisServer, startRedis } from '../test/support/redis.ts';
import { startRegistry } from '../test/support/registry.ts';
import { type Load, loadWithWrk } from './load.ts';
import { ensurePrerequisites } from './prerequisites.ts';

const [seconds = 30, connections = 8] = process.argv.slice(2).map(Number);

interface State {
  readonly name: string;
  /** Brings Redis into the state. */
  begin(redis: RedisServer): Promise<void>;
  /** Makes it well again. */
  end(redis: RedisServer): Promise<void>;
}

const states: readonly State[] = [
  { name: 'killed', begin: (redis) => redis.kill(), end: (redis) => redis.restart() },
  {
    name: 'frozen',
    begin: (redis) => Promise.resolve(redis.process.kill('SIGSTOP')),
    end: (redis) => Promise.resolve(redis.process.kill('SIGCONT')),
  },
  {
    name: 'refusing',
    begin: (redis) => configure(redis, 'maxmemory', '1'),
    end: (redis) => configure(redis, 'maxmemory', '0'),
  },
];

ensurePrerequisites();
await using upstream = await startRegistry();
await using redis = await startRedis();
await using fleet = await startPair(redis.url, upstream.origin);
const [mirror, other] = fleet.mirrors as readonly [MillpondProcess, MillpondProcess];
const image = upstream.addImage('library/app', '1', { layers: [{ size: 16 * 1024, seed: `${Date.now()}` }] });
const paths = { manifest: `manifests/${image.digest}`, blob: `blobs/${image.layers[0]!.digest}`, tag: 'manifests/1' };
for (const path of Object.values(paths)) await get(`${mirror.origin}/v2/library/app/${path}`);

for (const [kind, path] of Object.entries(paths)) {
  console.log(`${kind}: hits of ${connections} connections, ${seconds} s for each state`);
  const measure = async (): Promise<Load> =>
    await loadWithWrk({ origin: mirror.origin, path: `/v2/library/app/${path}`, connections }, { seconds });
  // Compiled by now, and all in memory.
  await loadWithWrk({ origin: mirror.origin, path: `/v2/library/app/${path}`, connections }, { seconds: 3 });
  const well = await measure();
  console.log(row('well', well, well));
  for (const state of states) {
    // In the first moments of the load, so that what the loss itself costs is in it.
    const measuring = measure();
    await delay(1_000);
    await state.begin(redis);
    const load = await measuring;
    const endedMs = performance.now();
    await state.end(redis);
    for (const one of [mirror, other]) {
      await until(async () => (await metric(one, 'millpond_peer_replicas')) === 2);
      await until(async () => (await metric(one, 'millpond_redis_connected')) === 1);
    }
    const backSeconds = (performance.now() - endedMs) / 1000;
    console.log(`${row(state.name, load, well)}, together again after ${backSeconds.toFixed(1)} s`);
  }
  const again = await measure();
  console.log(row('well again', again, well));
}

function row(name: string, load: Load, well: Load): string {
  const { p50Ms, p99Ms, requests } = load;
  const times = `p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms (${(p99Ms / well.p99Ms).toFixed(2)} ×)`;
  return `  ${name.padEnd(10)} ${times}, ${Math.round(requests / load.seconds)} a second`;
}

async function configure({ port }: RedisServer, key: string, value: string): Promise<void> {
  await run('redis-cli', ['-p', String(port), 'config', 'set', key, value]);
}

async function startPair(
  url: string,
  origin: string,
): Promise<{ readonly mirrors: readonly MillpondProcess[] } & AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'millpond-redis-faults-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const secretFile = join(folder, 'secret');
  await writeFile(secretFile, 'the secret of replicas that are measured');
  const mirrors: MillpondProcess[] = [];
  for (const name of ['one', 'other']) {
    const directory = join(folder, name);
    await mkdir(directory);
    const upstreams = { 'docker.io': { urls: [origin], tagTtl: '1h' } };
    mirrors.push(stack.use(await startMillpond({ upstreams, redis: { url }, cluster: { secretFile } }, { directory })));
  }
  for (const one of mirrors) await until(async () => (await metric(one, 'millpond_peer_replicas')) === 2);
  const owned = stack.move();
  return { mirrors, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function metric({ origin }: MillpondProcess, name: string): Promise<number> {
  const text = (await get(`${origin}/metrics`)).body.toString();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = AbortSignal.timeout(30_000);
  while (!(await isSo())) {
    deadline.throwIfAborted();
    await delay(20);
  }
}
