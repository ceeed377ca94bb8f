import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

describe('before the digest is verified', () => {
  test.each([
    { size: 3 * MiB, given: 3 * MiB - 64 * KiB },
    { size: 65 * KiB, given: KiB },
    { size: 64 * KiB, given: 0 },
    { size: 2, given: 0 },
  ])(
    'of $size bytes, $given are given to each client, and the rest when the last byte has come',
    async ({ size, given }) => {
      await using upstream = await startRegistry();
      await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
      const blob = upstream.addBlob({ size, seed: `held ${size}` });
      const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: size - 1 });
      const path = `/v2/library/app/blobs/${blob.digest}`;
      const received = [0, 0, 0];
      const clients = received.map((_, index) =>
        site.get(path, { onBytes: (count) => void (received[index] = count) }),
      );
      await stall.reached;
      await expect.poll(() => received).toEqual([given, given, given]);
      // Turns of the same event loop: whatever were to follow would have come.
      for (let turn = 0; turn < 5; turn += 1) await site.get('/healthz');
      expect(received).toEqual([given, given, given]);
      stall.release();
      for (const client of clients) expect(await client).toMatchObject({ complete: true, sha256: blob.digest });
    },
  );

  test('a range does not reach into the last part either', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'held range' });
    const content = Buffer.concat([...blob.source.read(0, MiB)]);
    const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: MiB - 1 });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const received: Record<string, number> = { early: 0, tail: 0, open: 0 };
    const ask = (name: string, range: string) =>
      site.get(path, { headers: { range }, onBytes: (count) => void (received[name] = count) });
    const early = ask('early', 'bytes=100-199');
    const tail = ask('tail', 'bytes=-1000');
    const open = ask('open', `bytes=${512 * KiB}-`);
    await expect.poll(() => received).toEqual({ early: 100, tail: 0, open: 448 * KiB });
    for (let turn = 0; turn < 5; turn += 1) await site.get('/healthz');
    expect(received).toEqual({ early: 100, tail: 0, open: 448 * KiB });
    stall.release();
    expect((await early).body.equals(content.subarray(100, 200))).toBe(true);
    expect((await tail).body.equals(content.subarray(MiB - 1000))).toBe(true);
    expect((await open).body.equals(content.subarray(512 * KiB))).toBe(true);
    expect(upstream.requests).toHaveLength(1);
  });

  test('a wrong last byte reaches no client, and cuts all of them', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: MiB, seed: 'last byte' });
    upstream.fault(blob.digest, { kind: 'flip', position: MiB - 1 });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const replies = await Promise.all([site.get(path), site.get(path, { headers: { range: 'bytes=-10' } })]);
    for (const reply of replies) expect(reply.complete).toBe(false);
    expect(replies[0]?.receivedBytes).toBeLessThanOrEqual(MiB - 64 * KiB);
    expect(replies[1]?.receivedBytes).toBe(0);
  });
});
