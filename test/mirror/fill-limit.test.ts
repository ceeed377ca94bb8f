import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { get } from '../support/client.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { filesOf } from './support.ts';

const MiB = 1024 * 1024;
interface Status {
  readonly fills: readonly unknown[];
}

const pathOf = (digest: string) => `/v2/library/app/blobs/${digest}`;

afterEach(() => {
  vi.restoreAllMocks();
});

/**
 * A fill that is stalled does not give up its place for being slow: the rate of fills is measured by this clock. Fake
 * timers would not do: `expect.poll` moves them on.
 */
function stopTheClockOfRates(): void {
  vi.spyOn(performance, 'now').mockReturnValue(performance.now());
}

describe('a mirror that may fetch one blob at a time', () => {
  test('fetches one after another, and each client gets its own', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      config: { cache: { maxFills: 1 } },
    });
    const blobs = ['one', 'two', 'three'].map((seed) => upstream.addBlob({ size: MiB, seed }));
    const first = upstream.fault(blobs[0]?.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const running = site.get(pathOf(blobs[0]!.digest));
    await first.reached;
    const others = blobs.slice(1).map(({ digest }) => site.get(pathOf(digest)));
    // A blob that is on its way is joined without a place of its own.
    const joined = site.get(pathOf(blobs[0]!.digest));
    first.release();
    const replies = await Promise.all([running, ...others, joined]);
    const digests = [...blobs, blobs[0]].map((blob) => blob?.digest);
    expect(replies.map(({ sha256 }) => sha256)).toEqual(digests);
    expect(upstream.requestsFor(({ path }) => path.includes('/blobs/'))).toHaveLength(3);
  });

  test('fetches one more for a client that has waited long enough, instead of refusing it', async () => {
    await using upstream = await startRegistry();
    const config = { cache: { maxFills: 1 } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const [one, two] = ['one', 'two'].map((seed) => upstream.addBlob({ size: MiB, seed }));
    const stall = upstream.fault(one?.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const running = site.get(pathOf(one!.digest));
    await stall.reached;
    stopTheClockOfRates();
    // Only for who has to wait: the others may take as long as the machine does.
    await site.reconfigure({ ...config, timeouts: { answer: '5s' } });
    const clients = Array.from({ length: 5 }, () => site.get(pathOf(two!.digest)));
    for (const reply of await Promise.all(clients)) expect(reply).toMatchObject({ status: 200, sha256: two?.digest });
    expect(upstream.requestsFor(two!.digest)).toHaveLength(1);
    stall.release();
    expect(await running).toMatchObject({ complete: true, sha256: one?.digest });
  });

  test('refuses with Retry-After who has waited as long as a client may, where too many have been fetched so', async () => {
    await using upstream = await startRegistry();
    const config = { cache: { maxFills: 1 } };
    const upstreams = { 'docker.io': { urls: [upstream.origin], maxConnections: 100 } };
    await using site = await startTestSite({ upstreams, config });
    // One has the place, and 64 more are as many as are begun without one.
    const blobs = Array.from({ length: 66 }, (_, part) => upstream.addBlob({ size: 200_000, seed: `part ${part}` }));
    const stall = upstream.fault(/blobs/, { kind: 'stall', afterBytes: 100_000 });
    stopTheClockOfRates();
    // The second half of it is for 64 answers, on a machine that may be busy. No stalled body is asked for again.
    await site.reconfigure({ ...config, timeouts: { answer: '30s', idle: '10m' } });
    const running: ReturnType<typeof site.get>[] = [];
    for (const { digest } of blobs.slice(0, 65)) running.push(site.get(pathOf(digest)));
    const fetched = () => new Set(upstream.requestsFor(/blobs/).map(({ path }) => path));
    await expect.poll(() => fetched().size).toBe(65);
    const last = blobs.at(-1)!.digest;
    await site.reconfigure({ ...config, timeouts: { answer: '1s' } });
    const refused = await site.get(pathOf(last));
    await site.reconfigure(config);
    expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    expect(JSON.parse(refused.body.toString())).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] });
    expect(upstream.requestsFor(last)).toEqual([]);
    stall.release();
    for (const reply of await Promise.all(running)) expect(reply).toMatchObject({ status: 200, complete: true });
    // No client waits for it any more, so it was not fetched afterwards either.
    expect(upstream.requestsFor(last)).toEqual([]);
    expect(await site.get(pathOf(last))).toMatchObject({ complete: true, sha256: last });
  });

  test('takes the place of a blob that no client waits for any more, and goes on with that one later', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      config: { cache: { maxFills: 1 } },
    });
    const [one, two] = ['one', 'two'].map((seed) => upstream.addBlob({ size: 2 * MiB, seed }));
    const stall = upstream.fault(one?.digest, { kind: 'stall', afterBytes: MiB }, { times: 1 });
    const left = await site.get(pathOf(one!.digest), { leaveAfterBytes: MiB / 4 });
    expect(left.complete).toBe(false);
    await stall.reached;
    expect(await site.get(pathOf(two!.digest))).toMatchObject({ complete: true, sha256: two?.digest });
    expect(await site.get(pathOf(one!.digest))).toMatchObject({ complete: true, sha256: one?.digest });
    const [, again] = upstream.requestsFor(one!.digest);
    expect(again?.headers.range).toMatch(/^bytes=\d{5,}-$/);
    expect(await filesOf(site)).toHaveLength(2);
  });

  test('ends those that wait when it stops', async () => {
    await using upstream = await startRegistry();
    const config = { cache: { maxFills: 1 }, timeouts: { drain: '50ms' } };
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream }, config });
    const [one, two] = ['one', 'two'].map((seed) => upstream.addBlob({ size: MiB, seed }));
    const stall = upstream.fault(one?.digest, { kind: 'stall', afterBytes: MiB / 2 });
    const running = site.get(pathOf(one!.digest));
    await stall.reached;
    stopTheClockOfRates();
    const waiting = site.get(pathOf(two!.digest)).catch((error: NodeJS.ErrnoException) => error.code);
    const unixSocket = join(site.cacheDir, 'control.sock');
    await expect
      .poll(async () => (JSON.parse(String((await get('http://mirror/status', { unixSocket })).body)) as Status).fills)
      .toHaveLength(2);
    await site.stop();
    expect((await running).complete).toBe(false);
    expect(await waiting).toBe('ECONNRESET');
  });
});
