// An upstream that gives each connection 10 MB/s: a cold blob of 200 MB over one connection and through Millpond.
// node bench/parallel.ts [CONNECTIONS]
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { get } from '../test/support/client.ts';
import { startMillpond } from '../test/support/millpond.ts';
import { startRegistry } from '../test/support/registry.ts';

const bytesPerSecond = 10_000_000;
const size = 200_000_000;
const target = 3;

const [connectionsPerBlob = 4] = process.argv.slice(2).map(Number);
await using registry = await startRegistry({ bytesPerSecond: { perConnection: bytesPerSecond } });
await using stack = new AsyncDisposableStack();
const directory = await mkdtemp(join(tmpdir(), 'millpond-parallel-'));
stack.defer(() => rm(directory, { recursive: true, force: true }));
const config = { upstreams: { 'docker.io': { urls: [registry.origin], connectionsPerBlob } } };
const mirror = stack.use(await startMillpond(config, { directory }));
const blob = registry.addBlob({ size });
const path = `/v2/library/large/blobs/${blob.digest}`;

const directSeconds = await pull(registry.origin);
registry.forgetRequests();
const mirrorSeconds = await pull(mirror.origin);
const connections = new Set(registry.requestsFor(blob.digest).map(({ connection }) => connection)).size;
const ratio = directSeconds / mirrorSeconds;
console.log(`directly, one connection   ${directSeconds.toFixed(1)} s`);
console.log(`cold through Millpond      ${mirrorSeconds.toFixed(1)} s over ${connections} connections`);
console.log(`times as fast              ${ratio.toFixed(2)} (wanted: ${target})`);
console.log(`bytes from the upstream    ${(registry.bytesSent(blob.digest) / size).toFixed(3)} times the blob`);
if (ratio < target) process.exitCode = 1;

async function pull(origin: string): Promise<number> {
  const reply = await get(`${origin}${path}`, { keepBody: false });
  if (!reply.complete || reply.sha256 !== blob.digest) throw new Error(`${origin} gave other bytes`);
  return reply.totalMs / 1000;
}
