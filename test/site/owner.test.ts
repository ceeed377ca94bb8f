import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sayOwner, whenFree } from '../../src/site/owner.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { layoutOf } from '../../src/store/files/layout.ts';
import { launcher } from '../cli/spawn.ts';
import { runCommand } from '../support/commands.ts';
import { startProcess } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

function open(path: string): Promise<Catalog> {
  return Catalog.open({ path, now: () => 5, onFault: () => undefined });
}

test('a mirror that is started while a command works alone waits for it', async () => {
  await using upstream = await startRegistry();
  await using folder = await temporaryDirectory('owner');
  const config = {
    listen: '127.0.0.1:0',
    upstreams: { 'docker.io': { urls: [upstream.origin] } },
    cache: { dir: 'data' },
  };
  await writeFile(join(folder.path, 'millpond.yaml'), JSON.stringify(config));
  const image = upstream.addImage('library/app', 'v1', { layers: [{ size: 300_000, seed: 'layer' }] });
  const stall = upstream.fault(image.layers[0]!.digest, { kind: 'stall', afterBytes: 1_000 });
  const fetched = runCommand(['fetch', 'app:v1'], folder.path);
  await stall.reached;
  const { process: mirror } = await startProcess(launcher, {
    args: ['serve'],
    cwd: folder.path,
    ready: new RegExp(`"owner":{"command":"fetch","pid":${process.pid}},"msg":"waiting for the cache directory"`),
  });
  await using _ = mirror;
  stall.release();
  expect(await fetched).toMatchObject({ code: 0, stderr: '' });
  await mirror.untilOutput(/"msg":"listening"/);
  expect((await runCommand(['ls'], folder.path)).stdout).toContain('v1');
});

test('a command that has waited long enough says so', async () => {
  await using folder = await temporaryDirectory('owner');
  const layout = layoutOf(folder.path);
  {
    using _catalog = await open(layout.catalog);
    using _owner = sayOwner(layout, 'verify');
    await expect(whenFree(layout, () => open(layout.catalog), { patienceMs: 0 })).rejects.toThrow(
      `another Millpond uses ${layout.catalog} ("millpond verify", pid ${process.pid}): one cache directory has one owner`,
    );
  }
  using _ = await whenFree(layout, () => open(layout.catalog), { patienceMs: 0 });
  await expect(whenFree(layout, () => open(layout.catalog), { patienceMs: 0 })).rejects.toThrow(
    `another Millpond uses ${layout.catalog}: one cache directory has one owner`,
  );
});
