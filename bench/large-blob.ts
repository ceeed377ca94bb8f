// Takes a blob of over 4 GiB through the mirror, where sizes and offsets pass 2^32: node bench/large-blob.ts
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ByteSource } from '../test/support/bytes.ts';
import type { AddedBlob } from '../test/support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../test/support/registry.ts';
import { startMillpond } from './contestants.ts';

const border = 2 ** 32;
const size = border + 5_000_000;
const repository = 'library/large';

/** Ranges as clients write them, and the bytes that each means. */
const ranges: readonly (readonly [range: string, start: number, end: number])[] = [
  [`bytes=${border - 10}-${border + 9}`, border - 10, border + 10],
  [`bytes=${border + 1000}-${border + 1_999_999}`, border + 1000, border + 2_000_000],
  [`bytes=${border}-`, border, size],
  ['bytes=-1000', size - 1000, size],
  ['bytes=0-0', 0, 1],
];

interface Mirror {
  readonly origin: string;
  readonly registry: ScriptedRegistry;
}

async function run(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(await startRegistry());
  const directory = await mkdtemp(join(tmpdir(), 'millpond-large-'));
  stack.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  const { origin, program } = await startMillpond({
    directory,
    upstreamOrigin: registry.origin,
    profileDirectory: undefined,
  });
  if (program) stack.use(program);
  const mirror = { origin, registry };
  const blob = await step(`a blob of ${size} bytes is made`, () => registry.addBlob({ size }, { repository }));
  await step('cold, whole', () => pullWhole(mirror, blob, { upstreamRequests: 1 }));
  await step('warm, whole', () => pullWhole(mirror, blob, { upstreamRequests: 1 }));
  await step('HEAD', () => head(mirror, blob));
  for (const range of ranges) await step(`warm, ${range[0]}`, () => pullRange(mirror, blob, range));
  await step('warm, beyond the end', () => refuseRange(mirror, blob));
  assert.equal(
    registry.requestsFor((request) => request.digest === blob.digest).length,
    1,
    'the upstream was asked again',
  );
  const other = await step('another one is made', () => registry.addBlob({ size, seed: 'other' }, { repository }));
  await step(`cold, ${ranges[1]![0]}`, () => pullRange(mirror, other, ranges[1]!));
}

async function pullWhole(
  { origin, registry }: Mirror,
  blob: AddedBlob,
  { upstreamRequests }: { readonly upstreamRequests: number },
): Promise<void> {
  const response = await ask(origin, blob, {});
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-length'), String(blob.size));
  const hash = createHash('sha256');
  let received = 0;
  for await (const chunk of response.body ?? []) {
    hash.update(chunk);
    received += chunk.length;
  }
  assert.equal(received, blob.size);
  assert.equal(`sha256:${hash.digest('hex')}`, blob.digest);
  assert.equal(registry.requestsFor((request) => request.digest === blob.digest).length, upstreamRequests);
}

async function pullRange(
  { origin }: Mirror,
  blob: AddedBlob,
  [range, start, end]: (typeof ranges)[number],
): Promise<void> {
  const response = await ask(origin, blob, { headers: { Range: range } });
  assert.equal(response.status, 206);
  assert.equal(response.headers.get('content-range'), `bytes ${start}-${end - 1}/${blob.size}`);
  assert.equal(response.headers.get('content-length'), String(end - start));
  const body = Buffer.from(await response.arrayBuffer());
  assert.ok(body.equals(bytesOf(blob.source, start, end)), `other bytes for ${range}`);
}

async function refuseRange({ origin }: Mirror, blob: AddedBlob): Promise<void> {
  const response = await ask(origin, blob, { headers: { Range: `bytes=${size}-` } });
  assert.equal(response.status, 416);
  assert.equal(response.headers.get('content-range'), `bytes */${size}`);
  await response.arrayBuffer();
}

async function head({ origin }: Mirror, blob: AddedBlob): Promise<void> {
  const response = await ask(origin, blob, { method: 'HEAD' });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-length'), String(blob.size));
}

async function ask(origin: string, { digest }: AddedBlob, options: RequestInit): Promise<Response> {
  return await fetch(`${origin}/v2/${repository}/blobs/${digest}?ns=docker.io`, options);
}

function bytesOf(source: ByteSource, start: number, end: number): Buffer {
  return Buffer.concat([...source.read(start, end)]);
}

async function step<Result>(name: string, work: () => Result | Promise<Result>): Promise<Result> {
  const startMs = performance.now();
  try {
    const result = await work();
    console.log(`ok    ${name} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`);
    return result;
  } catch (error) {
    console.log(`FAIL  ${name}`);
    throw error;
  }
}

await run();
