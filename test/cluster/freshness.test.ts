import { expect, test } from 'vitest';
import { filesOf } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import { startRegistry } from '../support/registry.ts';
import type { TestSite } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';
import { untilSeen } from './processes.ts';
import { metric, startFleet } from './support.ts';

describeWith(['redis-server'], 'what upstreams say, among replicas', () => {
  const accept = { headers: { accept: 'application/vnd.oci.image.manifest.v1+json' } };

  const tagTtlMs = 8_000;
  const moveTag = async (): Promise<boolean> => {
    await using upstream = await startRegistry();
    const upstreams = { 'docker.io': { urls: [upstream.origin], tagTtl: `${tagTtlMs}ms` } };
    await using fleet = await startFleet({ replicas: 3, upstreams });
    const first = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'first' }] });
    let askedMs = performance.now();
    for (const site of fleet.sites) {
      const reply = await site.get('/v2/library/app/manifests/1', accept);
      expect(reply).toMatchObject({ status: 200, sha256: first.digest });
    }
    // They ask in the same way, so the upstream's answer to the first one counts for all.
    if (performance.now() - askedMs >= tagTtlMs) return false;
    const count = (method: string): number => upstream.requests.filter((request) => request.method === method).length;
    expect([count('HEAD'), count('GET')]).toEqual([1, 1]);
    const second = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'second' }] });
    upstream.forgetRequests();
    // What is shared is as old as Redis's own clock says, which no test can move: one asks until it is over.
    await expect
      .poll(async () => {
        askedMs = performance.now();
        return (await fleet.sites[0]!.get('/v2/library/app/manifests/1', accept)).sha256;
      })
      .toBe(second.digest);
    const replies = await Promise.all(fleet.sites.map((site) => site.get('/v2/library/app/manifests/1', accept)));
    for (const reply of replies) expect(reply).toMatchObject({ status: 200, sha256: second.digest });
    if (performance.now() - askedMs >= tagTtlMs) return false;
    expect([count('HEAD'), count('GET')]).toEqual([1, 1]);
    return true;
  };

  test('a tag that moved is seen by all after its time, with one HEAD and one GET in all', async () => {
    // Again where the machine is so busy that the time is over before all have asked.
    await untilSeen(moveTag);
  });

  test('a replica that learns that a tag has moved does not wait until its own time is over', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({
      replicas: 2,
      upstreams: { 'docker.io': { urls: [upstream.origin], tagTtl: '2s' } },
    });
    const [one, other] = fleet.sites;
    upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'a' }] });
    await one!.get('/v2/library/app/manifests/1', accept);
    const second = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'b' }] });
    await expect
      .poll(async () => (await one!.get('/v2/library/app/manifests/1', accept)).sha256, { interval: 200 })
      .toBe(second.digest);
    expect((await other!.get('/v2/library/app/manifests/1', accept)).sha256).toBe(second.digest);
  });

  test('a 404 of another replica is not given where none is to be remembered', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 2, upstreams: { 'docker.io': upstream } });
    const [one, other] = fleet.sites;
    const upstreams = { 'docker.io': { urls: [upstream.origin], negativeTtl: '0s' } };
    const strict = await fleet.add({ upstreams });
    await expect.poll(() => metric(strict, 'millpond_peer_replicas')).toBe(3);
    // Kept out of the caches of all but the first: what the others know of it, they know from that one.
    const { digest } = upstream.addImage('library/late', undefined);
    const path = `/v2/library/late/manifests/${digest}`;
    const missing = upstream.fault(/late/, { kind: 'status', status: 404 });
    expect((await one!.get(path)).status).toBe(404);
    await expect
      .poll(async () => (await other!.get(path)).headers['cache-status'])
      .toBe('millpond; hit; detail=negative');
    missing.release();
    expect(await strict.get(path)).toMatchObject({ status: 200, sha256: digest });
  });

  test('a 404 that one was given is given by all, and a pause that one was asked for is kept by all', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 2, upstreams: { 'docker.io': upstream } });
    const [one, other] = fleet.sites;
    const none = `sha256:${'0'.repeat(64)}`;
    expect((await one!.get(`/v2/library/app/manifests/${none}`)).status).toBe(404);
    await expect
      .poll(async () => (await other!.get(`/v2/library/app/manifests/${none}`)).headers['cache-status'])
      .toBe('millpond; hit; detail=negative');
    upstream.fault(undefined, { kind: 'status', status: 429, headers: { 'retry-after': '60' } });
    expect((await one!.get('/v2/library/other/manifests/1')).status).toBe(429);
    upstream.clearFaults();
    upstream.forgetRequests();
    await expect.poll(async () => (await other!.get('/readyz')).body.toString()).toContain('limits our requests');
    expect((await other!.get('/v2/library/other/manifests/2')).status).toBe(429);
    expect(upstream.requests).toEqual([]);
  });
});

describeWith(['redis-server'], 'what an operator does on one replica', () => {
  test('is done on all: rm, pin, unpin; status shows who is there', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 2, upstreams: { 'docker.io': upstream } });
    const [one, other] = fleet.sites;
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 100_000, seed: 'removed' }] });
    for (const site of fleet.sites) {
      for (const path of ['manifests/1', `blobs/${image.layers[0]!.digest}`]) await site.get(`/v2/library/app/${path}`);
    }
    await expect.poll(async () => (await filesOf(other!)).length).toBe(2);
    const on = async (site: TestSite, ...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await runCommand([...args, '--cache-dir', site.cacheDir], site.cacheDir);
      expect([code, stderr]).toEqual([0, '']);
      return stdout;
    };
    expect(await on(one!, 'ls')).toMatch(/ upstream {2}partial$/m);
    expect(await on(other!, 'ls')).toMatch(/ replica {3}partial$/m);
    const millpond = (...args: string[]) => on(one!, ...args);
    await millpond('pin', 'docker.io/library/app:1');
    await expect.poll(() => other!.logLines.map(({ msg }) => msg)).toContain('image pinned');
    await millpond('unpin', 'docker.io/library/app:1');
    await millpond('rm', 'docker.io/library/app:1');
    for (const site of fleet.sites) await expect.poll(() => filesOf(site)).toEqual([]);
    const status = await millpond('status');
    expect(status).toContain(other!.origin);
    expect(status).toMatch(/^redis +connected$/m);
  });

  test('two replicas with one address are reported', async () => {
    await using upstream = await startRegistry();
    const address = 'http://127.0.0.1:9';
    await using fleet = await startFleet({
      replicas: 2,
      upstreams: { 'docker.io': upstream },
      advertise: () => address,
    });
    for (const { logLines, cacheDir } of fleet.sites) {
      const warnings = logLines.filter(({ msg }) =>
        String(msg).startsWith('another replica has the address of this one'),
      );
      expect(warnings).toMatchObject([{ address }]);
      const { stdout } = await runCommand(['status', '--cache-dir', cacheDir], cacheDir);
      expect(stdout).toContain(`${address} (the address of this one)`);
    }
  });
});
