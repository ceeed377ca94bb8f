import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { patient, startTestSite } from '../support/site.ts';
import { plainGet } from './plain-client.ts';
import { blobFile, filesOf } from './support.ts';

const MiB = 1024 * 1024;
const size = 50 * MiB;

test('a hundred clients of one cold blob cost one upstream request; the slow and the leaving change nothing', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size, seed: 'herd' });
  const content = Buffer.concat([...blob.source.read(0, size, MiB)]);
  const url = `${site.origin}/v2/library/app/blobs/${blob.digest}`;
  const half = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 20 * MiB });

  const clients = Array.from({ length: 100 }, () => plainGet(url, content));
  const headers = await Promise.all(clients.map((client) => client.headers));
  const [slow, ...others] = clients;
  await Promise.all(others.slice(0, 10).map((client) => client.read({ leaveAt: 5 * MiB })));
  half.release();
  // All of them finish while the slow one has read nothing but its headers.
  const received = await Promise.all(others.slice(10).map((client) => client.read()));
  expect(received).toEqual(Array.from({ length: 89 }, () => size));
  expect(await slow?.read()).toBe(size);

  expect(upstream.requests.map(({ method, digest }) => [method, digest])).toEqual([['GET', blob.digest]]);
  expect(upstream.bytesSent(blob.digest)).toBe(size);
  expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
  const statuses = headers.map((lines) => lines['cache-status']);
  expect(statuses.filter((status) => status === 'millpond; fwd=miss; stored')).toHaveLength(1);
  expect(statuses.filter((status) => status === 'millpond; fwd=miss; collapsed')).toHaveLength(99);
  const left = () => site.logLines.filter(({ msg, result }) => msg === 'request' && result === 'left').length;
  await expect.poll(left).toBe(10);
  expect(site.logLines.filter(({ level }) => Number(level) > 30)).toEqual([]);
});

test('a fill goes on when everybody has left, and the next client gets all of it', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const blob = upstream.addBlob({ size: 4 * MiB, seed: 'left alone' });
  const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 2 * MiB });
  const path = `/v2/library/app/blobs/${blob.digest}`;
  await site.get(path, { leaveAfterBytes: MiB });
  stall.release();
  expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
  expect(await site.get(path)).toMatchObject({ complete: true, sha256: blob.digest });
  expect(upstream.requests).toHaveLength(1);
});

test('a client that comes at any moment of a fill gets the whole blob', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  for (let round = 0; round < 15; round += 1) {
    const blob = upstream.addBlob({ size: 100_000, seed: `moment ${round}` });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    // Each asks when the one before has its answer: some meet the fill in the moment of its end.
    const chains = Array.from({ length: 4 }, async () => {
      for (let turn = 0; turn < 4; turn += 1) expect(await site.get(path)).toMatchObject({ sha256: blob.digest });
    });
    await Promise.all(chains);
    expect(upstream.requestsFor(blob.digest)).toHaveLength(1);
  }
});

test('all who wait get the error, at once and only once from the upstream', async () => {
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config: patient });
  const blob = upstream.addBlob({ size: MiB, seed: 'refused' });
  const pause = upstream.fault(blob.digest, { kind: 'pause' });
  upstream.fault(blob.digest, { kind: 'status', status: 503 });
  const path = `/v2/library/app/blobs/${blob.digest}`;
  const waiting = Array.from({ length: 30 }, () => site.get(path));
  await pause.reached;
  await expect.poll(async () => (await site.get('/healthz')).status).toBe(200);
  pause.release();
  for (const reply of await Promise.all(waiting)) {
    expect(reply).toMatchObject({ status: 502, complete: true });
    expect(JSON.parse(reply.body.toString())).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] });
  }
  expect(upstream.requestsFor(blob.digest).length).toBeLessThan(30);
});
