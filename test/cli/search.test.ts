import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { pushImage } from '../hosted/support.ts';
import { runCommand } from '../support/commands.ts';
import { localChart } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

const hosted = { repositories: ['charts/**'] };

/** A cache with an image in several versions and a hosted chart, and a folder in which commands find it. */
async function place() {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const upstream = owned.use(await startRegistry());
  const cacheDir = join(folder.path, 'data');
  const upstreams = { 'docker.io': { urls: [upstream.origin] } };
  await writeFile(join(folder.path, 'millpond.yaml'), JSON.stringify({ upstreams, hosted, cache: { dir: cacheDir } }));
  const site = owned.use(await startTestSite({ upstreams, cacheDir, config: { hosted } }));
  for (const tag of ['1.9.0', '1.10.0', 'latest']) {
    upstream.addImage('library/nginx', tag, { layers: [tag] });
    await site.get(`/v2/library/nginx/manifests/${tag}`);
  }
  for (const tag of ['0.1.0', '0.2.0']) await pushImage(site, 'charts/app', localChart('app'), tag);
  const rest = owned.move();
  return {
    site,
    run: (...args: readonly string[]) => runCommand(['search', ...args], folder.path),
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

const firstColumn = (text: string): string[] =>
  text
    .trim()
    .split('\n')
    .map((line) => line.split(' ', 1)[0] ?? '');

describe('millpond search', () => {
  test('finds the newest of each, all tags, and the versions of one, beside a mirror and alone', async () => {
    await using cache = await place();
    const { run, site } = cache;
    const newest = ['NAME', 'charts/app:0.2.0', 'docker.io/library/nginx:1.10.0'];
    await expect.poll(async () => firstColumn((await run()).stdout), { interval: 500 }).toEqual(newest);
    await expect.poll(async () => firstColumn((await run('--all', 'ngin')).stdout), { interval: 500 }).toHaveLength(4);
    await site.stop();
    expect(firstColumn((await run()).stdout)).toEqual(newest);
    const versions = ['NAME', 'charts/app:0.2.0', 'charts/app:0.1.0'];
    expect(firstColumn((await run('--versions', 'charts/app')).stdout)).toEqual(versions);
    expect(firstColumn((await run('charts/app', '--versions')).stdout)).toEqual(versions);
    const { stdout } = await run('--type', 'helm', '--since', '1h', '--sort', '-date', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ repository: 'charts/app', tag: '0.2.0', type: 'helm', hosted: true });
    const limited = await run('--all', '--limit', '1');
    expect(firstColumn(limited.stdout)).toHaveLength(2);
    expect(limited.stderr).toContain('more than 1 result');
  });

  test('says what it cannot read, and that nothing matches', async () => {
    await using cache = await place();
    await cache.site.stop();
    const { run } = cache;
    const refused = await run('--type', 'nonsense');
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toContain('the parameter type cannot be read');
    expect(await run('--limit', 'many')).toMatchObject({ code: 2 });
    const nothing = await run('no', 'such', 'thing');
    expect(nothing).toMatchObject({ code: 0, stdout: '' });
    expect(nothing.stderr).toContain('nothing matches');
  });
});
