import { expect, test } from 'vitest';
import { blobFile, filesOf } from '../mirror/support.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { startFleet } from './support.ts';

const MiB = 1024 * 1024;

describeWith(['redis-server'], 'several replicas', () => {
  test('fetch a cold blob once, however many ask for it at once, and each keeps it', async () => {
    await using upstream = await startRegistry({ bytesPerSecond: { total: 40 * MiB } });
    await using fleet = await startFleet({ replicas: 4, upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob({ size: 20 * MiB, seed: 'cold' });
    const clients = fleet.sites.flatMap((site) => Array.from({ length: 6 }, () => site));
    const replies = await Promise.all(
      clients.map((site) => site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false })),
    );
    for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    const outcomes = replies.map(({ headers }) => headers['cache-status']);
    expect(outcomes.filter((outcome) => outcome === 'millpond; fwd=miss; stored')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === 'millpond; fwd=miss; detail=peer')).toHaveLength(3);
    expect(upstream.requestsFor(blob.digest).filter(({ method }) => method === 'GET')).toHaveLength(1);
    expect(upstream.bytesSent(blob.digest)).toBe(20 * MiB);
    for (const site of fleet.sites) expect(await filesOf(site)).toEqual([blobFile(blob.digest)]);
  });
});
