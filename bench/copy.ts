import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs';

// node bench/copy.ts FROM TO: reads a file, hashes it, writes and syncs a copy. Prints what that took, as JSON. In a process of
// its own, so that nothing else is counted: neither a client's garbage nor its timers.

const pieceBytes = 1024 * 1024;
const [from = '', to = ''] = process.argv.slice(2);
const piece = Buffer.allocUnsafe(pieceBytes);
// What is done once in a process is not part of a copy.
createHash('sha256').update(piece).digest();

const before = process.cpuUsage();
const startMs = performance.now();
const hash = createHash('sha256');
const [source, target] = [openSync(from, 'r'), openSync(to, 'w')];
for (let count = readSync(source, piece); count > 0; count = readSync(source, piece)) {
  hash.update(piece.subarray(0, count));
  writeSync(target, piece, 0, count);
}
fsyncSync(target);
closeSync(source);
closeSync(target);
hash.digest();
const { user, system } = process.cpuUsage(before);
const took = { cpuSeconds: (user + system) / 1e6, seconds: (performance.now() - startMs) / 1000 };
process.stdout.write(`${JSON.stringify(took)}\n`);
