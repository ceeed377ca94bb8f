import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { settled } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import { mountRequirements, SmallDisk } from '../support/mounts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

describeWith(mountRequirements(), 'a cache on a read-only file system', () => {
  test('is served offline, listed and exported; commands that would change it are refused in a sentence', async () => {
    await using upstream = await startRegistry();
    using disk = new SmallDisk('64m');
    await using folder = await temporaryDirectory();
    const cacheDir = join(disk.path, 'cache');
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 300_000, seed: 'layer' }] });
    const paths = [
      '/v2/library/app/manifests/1',
      ...[image.config, ...image.layers].map(({ digest }) => `/v2/library/app/blobs/${digest}`),
    ];
    const upstreams = { 'docker.io': upstream };
    {
      await using site = await startTestSite({ upstreams, cacheDir });
      for (const path of paths) expect((await site.get(path)).status).toBe(200);
      await settled(site);
    }
    using _ = disk.makeReadOnly();
    {
      await using site = await startTestSite({ upstreams, cacheDir, config: { offline: true } });
      for (const path of paths) expect(await site.get(path)).toMatchObject({ status: 200 });
      expect((await site.get('/v2/library/app/manifests/2')).status).toBe(404);
      expect((await site.get('/readyz')).status).toBe(200);
    }
    const config = join(folder.path, 'millpond.yaml');
    await writeFile(config, JSON.stringify({ cache: { dir: cacheDir } }));
    const run = async (...args: readonly string[]) => await runCommand([...args, '--config', config], folder.path);
    const listed = await run('ls');
    expect([listed.code, listed.stderr]).toEqual([0, '']);
    expect(listed.stdout).toMatch(/docker\.io\n  library\/app\n    1 .*whole/);
    const archive = join(folder.path, 'app.tar');
    expect(await run('export', '--output', archive, 'library/app:1')).toMatchObject({ code: 0 });
    const refusal = `millpond: the file system of the cache directory ${cacheDir} is read-only (EROFS)`;
    expect(await run('rm', 'library/app:1')).toMatchObject({
      code: 1,
      stderr: `${refusal}: only ls, export and an offline mirror can use it\n`,
    });
    await expect(startTestSite({ upstreams, cacheDir })).rejects.toThrow('set "offline: true" to serve what it has');
    // What was exported is the image.
    await rm(config);
    const elsewhere = join(folder.path, 'elsewhere');
    await writeFile(config, JSON.stringify({ cache: { dir: elsewhere } }));
    expect(await run('import', archive)).toMatchObject({ code: 0 });
    await using other = await startTestSite({ upstreams, cacheDir: elsewhere, config: { offline: true } });
    for (const path of paths) expect((await other.get(path)).status).toBe(200);
  });
});
