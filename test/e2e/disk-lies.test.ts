import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mountRequirements, SmallDisk } from '../support/mounts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';

const size = 60_000_000;

describeWith(mountRequirements(), 'a disk that fills up under a blob that came wrong', () => {
  // Where the disk gives up differs from run to run: flips on both sides of that place are tried.
  test.each([0, 1, 2, 3, 4, 5])('never completes, wherever the wrong byte lies (%i)', async (round) => {
    await using upstream = await startRegistry();
    using disk = new SmallDisk('40m');
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      cacheDir: join(disk.path, 'cache'),
    });
    const blob = upstream.addBlob({ size, seed: 1 });
    const position = 40_400_000 + round * 250_000;
    upstream.fault((request) => request.headers.range === undefined, { kind: 'flip', position }, { times: 1 });
    const reply = await site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false });
    expect(reply.complete && reply.sha256 !== blob.digest).toBe(false);
    const again = await site.get(`/v2/library/app/blobs/${blob.digest}`, { keepBody: false });
    expect(again).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  });
});
