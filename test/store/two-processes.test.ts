import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launcher, run } from '../cli/spawn.ts';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const MiB = 1024 * 1024;

test('a cache directory has one process; one that is killed leaves no lock, and a partial blob to the next', async () => {
  await using upstream = await startRegistry();
  await using folder = await temporaryDirectory('processes');
  const config = { upstreams: { 'docker.io': { urls: [upstream.origin] } } };
  const options = { directory: folder.path };
  const blob = upstream.addBlob({ size: 3 * MiB, seed: 'killed' });
  const path = `/v2/library/app/blobs/${blob.digest}`;
  const partial = join(folder.path, 'data', 'ingest', blob.digest.replace(':', '-'));
  const stall = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 2 * MiB });
  {
    await using first = await startMillpond(config, options);
    const second = await run(launcher, ['serve', '--config', 'millpond.yaml'], { cwd: folder.path });
    expect(second).toEqual({
      code: 1,
      stdout: '',
      stderr: `millpond: another Millpond uses ${join(folder.path, 'data', 'catalog.sqlite')} ("millpond serve", pid ${first.process.pid}): one cache directory has one owner\n`,
    });
    let received = 0;
    const cut = get(first.origin + path, { onBytes: (count) => void (received = count) });
    await stall.reached;
    await expect.poll(() => received).toBe(2 * MiB);
    // A client has its bytes before they are on disk.
    await expect.poll(async () => (await stat(partial)).size).toBe(2 * MiB);
    process.kill(first.process.pid, 'SIGKILL');
    expect(await cut).toMatchObject({ complete: false });
  }
  expect(await readFile(partial)).toHaveLength(2 * MiB);
  upstream.clearFaults();
  upstream.forgetRequests();
  await using next = await startMillpond(config, options);
  expect(await get(next.origin + path)).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
  expect(upstream.requests.map(({ headers }) => headers.range)).toEqual([`bytes=${2 * MiB}-`]);
  expect(upstream.bytesSent(blob.digest)).toBe(MiB);
});
