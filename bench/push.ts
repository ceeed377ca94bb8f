// Measures pushes to a hosted repository beside a copy with sha256 and fsync, and beside docker-registry:
// node bench/push.ts [MIB] [PUSHES AT ONCE] [ROUNDS]. Of each round, the push is compared with the copy of the same round.
import { spawnSync } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startDockerRegistry } from '../test/support/docker-registry.ts';
import { startMillpond } from '../test/support/millpond.ts';
import { temporaryDirectory } from '../test/support/temporary-directory.ts';

const pieceBytes = 1024 * 1024;
const [mib = 1024, atOnce = 32, rounds = 3] = process.argv.slice(2).map(Number);
const copyProgram = fileURLToPath(new URL('copy.ts', import.meta.url));

/** What one of them took for a GiB. */
interface Took {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** What a process has used so far: processor time in seconds, and the most memory it has had resident in MB. */
function usedBy(pid: number): { readonly cpuSeconds: number; readonly peakMegabytes: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  const [, peak = '0'] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return { cpuSeconds: ticks / 100, peakMegabytes: Number(peak) / 1024 };
}

/** A piece that no other one is like. */
function pieceOf(base: Buffer, blob: number, index: number): Buffer {
  const piece = Buffer.from(base);
  piece.writeUInt32BE(blob, 0);
  piece.writeUInt32BE(index, 4);
  return piece;
}

function digestOf(base: Buffer, blob: number, pieces: number): string {
  const hash = createHash('sha256');
  for (let index = 0; index < pieces; index += 1) hash.update(pieceOf(base, blob, index));
  return `sha256:${hash.digest('hex')}`;
}

/** Pushes a blob by POST and PUT, as containerd does. @returns milliseconds */
async function push(origin: string, base: Buffer, { push: number, pieces }: { push: number; pieces: number }) {
  const digest = digestOf(base, number, pieces);
  const startMs = performance.now();
  const begun = await fetch(`${origin}/v2/local/bench/blobs/uploads/`, { method: 'POST' });
  const location = new URL(begun.headers.get('location') ?? '', origin);
  location.searchParams.set('digest', digest);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const sent = request(location, {
    method: 'PUT',
    agent: false,
    headers: { 'content-length': String(pieces * pieceBytes), 'content-type': 'application/octet-stream' },
  });
  sent.once('error', reject);
  sent.once('response', (response) => {
    response.resume();
    resolve(response.statusCode ?? 0);
  });
  for (let index = 0; index < pieces; index += 1) {
    if (!sent.write(pieceOf(base, number, index))) await new Promise((go) => sent.once('drain', go));
  }
  sent.end();
  const status = await promise;
  if (status !== 201) throw new Error(`a push was answered with ${status}`);
  return performance.now() - startMs;
}

await using directory = await temporaryDirectory('push-bench');
await using mirror = await startMillpond(
  { upstreams: { 'registry.test': { urls: ['http://127.0.0.1:1'] } }, hosted: { repositories: ['local/**'] } },
  { directory: directory.path },
);
await using registry = await startDockerRegistry();
const base = randomFillSync(Buffer.alloc(pieceBytes));
const source = join(directory.path, 'source');
const gib = mib / 1024;
let pushes = 0;

async function pushOne(to: { readonly origin: string; readonly process: { readonly pid: number } }, pieces: number) {
  const before = usedBy(to.process.pid);
  pushes += 1;
  const ms = await push(to.origin, base, { push: pushes, pieces });
  return { seconds: ms / 1000 / gib, cpuSeconds: (usedBy(to.process.pid).cpuSeconds - before.cpuSeconds) / gib };
}

/** The same as a copy, in a process of its own. The source is in memory, as what a client sends is. */
function copyOne(): Took {
  const target = join(directory.path, 'copy');
  const { stdout } = spawnSync(process.execPath, [copyProgram, source, target], { encoding: 'utf8' });
  rmSync(target);
  const { seconds, cpuSeconds } = JSON.parse(stdout) as Took;
  return { seconds: seconds / gib, cpuSeconds: cpuSeconds / gib };
}

function makeSource(): void {
  const file = openSync(source, 'w');
  for (let index = 0; index < mib; index += 1) writeSync(file, pieceOf(base, 0, index));
  fsyncSync(file);
  closeSync(file);
}

await pushOne(mirror, 16);
await pushOne(registry, 16);
makeSource();
const took: Record<'push' | 'copy' | 'docker-registry', Took[]> = { push: [], copy: [], 'docker-registry': [] };
for (let round = 0; round < rounds; round += 1) {
  // What comes first finds the disk and the memory as the round before has left them: each comes first in turn.
  const runs = [
    async () => took.push.push(await pushOne(mirror, mib)),
    () => took.copy.push(copyOne()),
    async () => took['docker-registry'].push(await pushOne(registry, mib)),
  ];
  for (let at = 0; at < runs.length; at += 1) await runs[(round + at) % runs.length]!();
}
for (const [name, rows] of Object.entries(took)) {
  const seconds = rows.map((row) => row.seconds);
  const cpu = rows.map((row) => row.cpuSeconds);
  console.log(`${name}: ${shown(seconds)} s/GiB, ${shown(cpu)} CPU s/GiB`);
}
const ratios = (of: (row: Took) => number, other: 'copy' | 'docker-registry'): string =>
  shown(took.push.map((row, round) => of(took[other][round]!) / of(row)));
console.log({
  'speed of the push to that of the copy': ratios(({ seconds }) => seconds, 'copy'),
  'processor time of the copy to that of the push': ratios(({ cpuSeconds }) => cpuSeconds, 'copy'),
  "speed of the push to docker-registry's": ratios(({ seconds }) => seconds, 'docker-registry'),
});

await Promise.all(
  Array.from({ length: atOnce }, (_, at) => push(mirror.origin, base, { push: 1000 + at, pieces: 32 })),
);
await delay(100);
console.log({ pushes: atOnce, 'peak MB of the mirror': usedBy(mirror.process.pid).peakMegabytes });

/** The median, and the least and the most. */
function shown(values: readonly number[]): string {
  const sorted = values.toSorted((one, other) => one - other);
  const [least = 0, median = 0, most = 0] = [sorted[0], sorted[Math.floor(sorted.length / 2)], sorted.at(-1)];
  return `${median.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
}
