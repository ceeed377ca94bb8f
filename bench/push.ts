// Measures pushes to a hosted repository beside a copy with sha256 and fsync: node bench/push.ts [MIB] [PUSHES AT ONCE]
import { createHash, randomFillSync } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startMillpond } from '../test/support/millpond.ts';
import { temporaryDirectory } from '../test/support/temporary-directory.ts';

const pieceBytes = 1024 * 1024;
const [mib = 1024, atOnce = 32] = process.argv.slice(2).map(Number);

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

/** Pushes a blob by one POST. */
async function push(origin: string, base: Buffer, { push: number, pieces }: { push: number; pieces: number }) {
  const digest = digestOf(base, number, pieces);
  const path = `/v2/local/bench/blobs/uploads/?digest=${digest}`;
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const sent = request(new URL(path, origin), {
    method: 'POST',
    agent: false,
    headers: { 'content-length': String(pieces * pieceBytes), 'content-type': 'application/octet-stream' },
  });
  sent.once('error', reject);
  sent.once('response', (response) => {
    response.resume();
    resolve(response.statusCode ?? 0);
  });
  const startMs = performance.now();
  for (let index = 0; index < pieces; index += 1) {
    if (!sent.write(pieceOf(base, number, index))) await new Promise((go) => sent.once('drain', go));
  }
  sent.end();
  const status = await promise;
  if (status !== 201) throw new Error(`a push was answered with ${status}`);
  return performance.now() - startMs;
}

/** Reads a file, hashes it, writes and syncs a copy, in this process. */
function copy(from: string, to: string): { readonly cpuSeconds: number; readonly seconds: number } {
  const before = process.cpuUsage();
  const startMs = performance.now();
  const hash = createHash('sha256');
  const [source, target] = [openSync(from, 'r'), openSync(to, 'w')];
  const piece = Buffer.allocUnsafe(pieceBytes);
  for (let count = readSync(source, piece); count > 0; count = readSync(source, piece)) {
    hash.update(piece.subarray(0, count));
    writeSync(target, piece, 0, count);
  }
  fsyncSync(target);
  closeSync(source);
  closeSync(target);
  hash.digest();
  const { user, system } = process.cpuUsage(before);
  return { cpuSeconds: (user + system) / 1e6, seconds: (performance.now() - startMs) / 1000 };
}

await using directory = await temporaryDirectory('push-bench');
await using mirror = await startMillpond(
  { upstreams: { 'registry.test': { urls: ['http://127.0.0.1:1'] } }, hosted: { repositories: ['local/**'] } },
  { directory: directory.path },
);
const { pid } = mirror.process;
const base = randomFillSync(Buffer.alloc(pieceBytes));
await push(mirror.origin, base, { push: 1, pieces: 16 });

const before = usedBy(pid);
const ms = await push(mirror.origin, base, { push: 2, pieces: mib });
const cpuSeconds = usedBy(pid).cpuSeconds - before.cpuSeconds;

const source = join(directory.path, 'source');
const file = openSync(source, 'w');
for (let index = 0; index < mib; index += 1) writeSync(file, pieceOf(base, 3, index));
fsyncSync(file);
closeSync(file);
const copied = copy(source, join(directory.path, 'copy'));
rmSync(source);
const gib = mib / 1024;
console.log({
  'push s/GiB': ms / 1000 / gib,
  'push CPU s/GiB': cpuSeconds / gib,
  'copy s/GiB': copied.seconds / gib,
  'copy CPU s/GiB': copied.cpuSeconds / gib,
  'speed of the push to that of the copy': copied.seconds / (ms / 1000),
  'processor time of the copy to that of the push': copied.cpuSeconds / cpuSeconds,
});

const many = Array.from({ length: atOnce }, (_, index) => push(mirror.origin, base, { push: 10 + index, pieces: 32 }));
await Promise.all(many);
await delay(100);
console.log({ pushes: atOnce, 'peak MB of the mirror': usedBy(pid).peakMegabytes });
