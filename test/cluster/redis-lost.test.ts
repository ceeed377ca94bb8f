import { expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { metric, startFleet } from './support.ts';

const MiB = 1024 * 1024;

describeWith(['redis-server'], 'replicas whose Redis', () => {
  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'gets %s in the middle of a blob serve all of it, and find it again',
    async (signal) => {
      await using upstream = await startRegistry({ bytesPerSecond: { total: 20 * MiB } });
      await using fleet = await startFleet({ replicas: 2, upstreams: { 'docker.io': upstream } });
      const { redis, sites } = fleet;
      const blob = upstream.addBlob({ size: 10 * MiB, seed: `redis ${signal}` });
      const received = sites.map(() => 0);
      let isHurt = false;
      const replies = await Promise.all(
        sites.map((site, index) =>
          site.get(`/v2/library/app/blobs/${blob.digest}`, {
            keepBody: false,
            onBytes: (bytes) => {
              received[index] = bytes;
              // Each has begun: later questions to Redis get no answer.
              if (Math.min(...received) < 3 * MiB || isHurt) return;
              isHurt = true;
              redis.process.kill(signal);
            },
          }),
        ),
      );
      for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      // Those that followed go on following: Redis was not asked about it.
      expect(upstream.bytesSent(blob.digest)).toBe(10 * MiB);
      const alone = upstream.addBlob({ size: MiB, seed: `alone ${signal}` });
      for (const site of sites) {
        expect(await site.get(`/v2/library/app/blobs/${alone.digest}`)).toMatchObject({
          status: 200,
          sha256: alone.digest,
        });
        await expect.poll(async () => (await site.get('/readyz')).body.toString()).toContain('on its own');
      }
      if (signal === 'SIGSTOP') redis.process.kill('SIGCONT');
      else await redis.restart();
      for (const site of sites) await expect.poll(() => metric(site, 'millpond_redis_connected')).toBe(1);
      for (const site of sites) await expect.poll(() => metric(site, 'millpond_peer_replicas')).toBe(2);
      const again = upstream.addBlob({ size: 4 * MiB, seed: `again ${signal}` });
      await Promise.all(sites.map((site) => site.get(`/v2/library/app/blobs/${again.digest}`)));
      expect(upstream.requestsFor(again.digest).filter(({ method }) => method === 'GET')).toHaveLength(1);
    },
  );

  test('is not there at the start serve what they are asked for', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 1, upstreams: { 'docker.io': upstream } });
    await fleet.redis.kill();
    const late = await fleet.add();
    const blob = upstream.addBlob({ size: MiB, seed: 'no redis' });
    expect(await late.get(`/v2/library/app/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'x' }] });
    expect(await late.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200, sha256: image.digest });
  });

  test('refuses every write serve as if it were not there', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({
      replicas: 1,
      upstreams: { 'docker.io': upstream },
      redisArgs: ['--maxmemory', '1'],
    });
    const [site] = fleet.sites;
    const blob = upstream.addBlob({ size: MiB, seed: 'full redis' });
    expect(await site!.get(`/v2/library/app/blobs/${blob.digest}`)).toMatchObject({ status: 200, sha256: blob.digest });
    await expect.poll(async () => (await site!.get('/readyz')).body.toString()).toContain('Redis');
  });
});
