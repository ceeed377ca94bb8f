import { readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { Fault } from '../support/faults.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { blobFile, filesOf, settled } from './support.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

describe.each([
  { kind: 'flip' },
  { kind: 'flip', position: 2 },
  { kind: 'short', declared: 'actual' },
  { kind: 'short', declared: 'whole' },
  { kind: 'html' },
  { kind: 'content-length', difference: 7 },
  { kind: 'content-length', difference: -7 },
] satisfies Fault[])('an upstream that lies ($kind $declared$difference$position)', (fault) => {
  test.each([10 * KiB, 200 * KiB, 2 * MiB])(
    'a blob of %i bytes never completes, leaves nothing, and comes once the upstream is right',
    async (size) => {
      await using upstream = await startRegistry();
      await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
      const blob = upstream.addBlob({ size, seed: `${fault.kind} ${size}` });
      lies(upstream, fault);
      const path = `/v2/library/app/blobs/${blob.digest}`;
      const replies = await Promise.all(Array.from({ length: 4 }, () => site.get(path)));
      for (const reply of replies) expect(reply.status === 502 || !reply.complete).toBe(true);
      for (const reply of replies) expect(reply.headers['content-encoding']).toBeUndefined();
      await expectOnlyPrefixes(site, Buffer.concat([...blob.source.read(0, size)]));
      upstream.clearFaults();
      expect(await site.get(path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
    },
  );
});

test('a body without length that is wrong is never ended, one that is right is', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: MiB, seed: 'chunked' });
  upstream.fault(blob.digest, { kind: 'chunked' });
  const flip = upstream.fault(blob.digest, { kind: 'flip' });
  const path = `/v2/library/app/blobs/${blob.digest}`;
  const wrong = await site.get(path);
  expect(wrong).toMatchObject({ status: 200, complete: false });
  expect(wrong.receivedBytes).toBeLessThanOrEqual(MiB - 64 * KiB);
  expect(await filesOf(site)).toEqual([]);
  flip.release();
  const right = await site.get(path);
  expect(right).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  expect(right.headers['content-length']).toBeUndefined();
  await settled(site);
  expect((await site.get(path)).headers['content-length']).toBe(String(MiB));
});

test('an answer without bytes is not passed on as the blob, the empty blob is', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: MiB, seed: 'empty' });
  const empty = upstream.addBlob('');
  upstream.fault(blob.digest, { kind: 'status', status: 200, body: '' });
  expect((await site.get(`/v2/library/app/blobs/${blob.digest}`)).status).toBe(502);
  const answer = await site.get(`/v2/library/app/blobs/${empty.digest}`);
  expect(answer).toMatchObject({ status: 200, complete: true, receivedBytes: 0, sha256: empty.digest });
  expect(answer.headers['content-length']).toBe('0');
});

describe('a second URL that is right', () => {
  test.each([
    { size: 40 * KiB, fault: { kind: 'flip' } },
    { size: 3 * MiB, fault: { kind: 'status', status: 500 } },
    { size: 3 * MiB, fault: { kind: 'gzip' } },
    { size: 3 * MiB, fault: { kind: 'status', status: 404 } },
    { size: 3 * MiB, fault: { kind: 'cut', afterBytes: 0 } },
    { size: 3 * MiB, fault: { kind: 'cut', afterBytes: MiB } },
  ] satisfies { size: number; fault: Fault }[])(
    'gives the whole blob of $size bytes after $fault.kind',
    async ({ size, fault }) => {
      await using wrong = await startRegistry();
      await using right = await startRegistry();
      await using site = await startTestSite({ upstreams: { 'docker.io': { urls: [wrong.origin, right.origin] } } });
      const blob = wrong.addBlob({ size, seed: `second ${fault.kind}` });
      right.addBlob({ size, seed: `second ${fault.kind}` });
      wrong.fault(blob.digest, fault);
      const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`);
      expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
    },
  );

  test('does not complete a body that begins with wrong bytes of the first', async () => {
    await using wrong = await startRegistry();
    await using right = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': { urls: [wrong.origin, right.origin] } } });
    const blob = wrong.addBlob({ size: 3 * MiB, seed: 'early flip' });
    right.addBlob({ size: 3 * MiB, seed: 'early flip' });
    wrong.fault(blob.digest, { kind: 'flip', position: 2 });
    const stall = wrong.fault(blob.digest, { kind: 'stall', afterBytes: 2 * MiB });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    let received = 0;
    const given = site.get(path, { onBytes: (count) => void (received = count) });
    await expect.poll(() => received).toBeGreaterThan(2);
    stall.release();
    expect(await given).toMatchObject({ status: 200, complete: false });
    expect(await site.get(path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
  });

  test('is used where the first gives a page of HTML, before any header has gone out', async () => {
    await using wrong = await startRegistry();
    await using right = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': { urls: [wrong.origin, right.origin] } } });
    const blob = wrong.addBlob({ size: MiB, seed: 'html first' });
    right.addBlob({ size: MiB, seed: 'html first' });
    wrong.fault(blob.digest, { kind: 'html' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const first = await site.get(path);
    expect(first).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    const second = await site.get(path);
    expect(second).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(second.headers['content-type']).toBe('application/octet-stream');
  });

  test('is used at once where the manifest says that the first gives another size', async () => {
    await using wrong = await startRegistry();
    await using right = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': { urls: [wrong.origin, right.origin] } } });
    const image = wrong.addImage('library/app', '1', { layers: [{ size: MiB, seed: 'sized' }] });
    right.addImage('library/app', '1', { layers: [{ size: MiB, seed: 'sized' }] });
    await site.get('/v2/library/app/manifests/1');
    const [layer] = image.layers;
    wrong.fault(layer!.digest, { kind: 'html' });
    const reply = await site.get(`/v2/library/app/blobs/${layer!.digest}`);
    expect(reply).toMatchObject({ status: 200, complete: true, sha256: layer!.digest });
  });
});

test('an answer that is refused because of its size leaves no connection open', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const image = upstream.addImage('library/app', '1', { layers: [{ size: 16 * MiB, seed: 'refused' }] });
  await site.get('/v2/library/app/manifests/1');
  const [layer] = image.layers;
  upstream.fault(layer!.digest, { kind: 'content-length', difference: 7 });
  expect((await site.get(`/v2/library/app/blobs/${layer!.digest}`)).status).toBe(502);
  const asked = upstream.requestsFor(layer!.digest);
  // With a second try.
  expect(asked).toHaveLength(2);
  await expect.poll(() => asked.map(({ connection }) => upstream.isOpen(connection))).toEqual([false, false]);
});

test('a blob that was altered on disk is fetched again', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: MiB, seed: 'altered' });
  const path = `/v2/library/app/blobs/${blob.digest}`;
  await site.get(path);
  await settled(site);
  await truncate(join(site.cacheDir, blobFile(blob.digest)), 1000);
  expect(await site.get(path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  expect(upstream.requestsFor(blob.digest)).toHaveLength(2);
});

/** Places a fault; where the rest of a cut body is asked for, the upstream has none, so that the end comes at once. */
function lies(upstream: ScriptedRegistry, fault: Fault): void {
  upstream.fault((request) => request.headers.range === undefined, fault);
  upstream.fault((request) => request.headers.range !== undefined, { kind: 'status', status: 404 });
}

/** Nothing is under blobs/; what is under ingest/ are first bytes of the right content, worth being continued. */
async function expectOnlyPrefixes(site: TestSite, right: Buffer): Promise<void> {
  for (const file of await filesOf(site)) {
    expect(file).toMatch(/^ingest\//);
    const left = await readFile(join(site.cacheDir, file));
    expect(digestOf(left)).toBe(digestOf(right.subarray(0, left.length)));
  }
}
