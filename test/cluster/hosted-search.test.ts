import { expect, test, vi } from 'vitest';
import { basic } from '../access/support.ts';
import { launcher, run } from '../cli/spawn.ts';
import { pushImage, send } from '../hosted/support.ts';
import { localImage } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { type TestSite, temporaryFolder } from '../support/site.ts';
import { annAndBob, startHostedFleet } from './hosted-fleet.ts';

interface Found {
  readonly names: string[];
  readonly next: string | undefined;
  readonly complete: boolean;
  readonly warning: string | undefined;
  readonly members: readonly string[];
}

async function search(site: TestSite, query: string, headers: Readonly<Record<string, string>> = {}): Promise<Found> {
  const answer = await send(site, ['GET', `/v2/_millpond/search?${query}`], { headers });
  expect(answer.status).toBe(200);
  const { results, next, complete, ...rest } = JSON.parse(answer.body.toString()) as {
    results: { repository: string; tag: string | null }[];
    next?: string;
    complete: boolean;
  };
  const names = results.map(({ repository, tag }) => `${repository}:${tag}`);
  return {
    names,
    next,
    complete,
    warning: answer.headers['warning'] as string | undefined,
    members: Object.keys(rest),
  };
}

async function allPages(site: TestSite, query: string): Promise<string[]> {
  const names: string[] = [];
  for (let next: string | undefined = ''; next !== undefined; ) {
    const page = await search(site, `${query}${next === '' ? '' : `&next=${next}`}`);
    names.push(...page.names);
    next = page.next;
  }
  return names;
}

test('a replica finds what the owner hosts beside what it has cached, in one order, page by page', async () => {
  await using registry = await startRegistry();
  const cached = ['m', 'n'].map((name) => registry.addImage(name, '1', { layers: [{ size: 50, seed: name }] }));
  await using fleet = await startHostedFleet({
    upstreams: { 'registry.test': registry },
    hosted: { repositories: ['local/**', 'zebra/**'] },
  });
  const [replica] = fleet.others;
  const hosted = ['local/a', 'local/b', 'zebra/z'];
  for (const name of hosted) await pushImage(fleet.owner, name, localImage({ label: name }), '1');
  for (const [index, name] of ['m', 'n'].entries()) {
    const { status } = await send(replica!, ['GET', `/v2/registry.test/${name}/manifests/1`]);
    expect([status, cached[index]?.digest]).toEqual([200, expect.any(String)]);
  }
  const all = ['local/a:1', 'local/b:1', 'registry.test/m:1', 'registry.test/n:1', 'zebra/z:1'];
  const found = () => search(replica!, 'sort=name');
  await vi.waitFor(async () => expect(await found()).toMatchObject({ names: all, complete: true }), {
    timeout: 180_000,
  });
  for (const n of [1, 2, 3, 5]) {
    expect(await allPages(replica!, `sort=name&n=${n}`)).toEqual(all);
    expect(await allPages(replica!, `sort=-name&n=${n}`)).toEqual(all.toReversed());
    expect((await allPages(replica!, `sort=-size&n=${n}`)).toSorted()).toEqual(all);
  }
  const zebra = await search(replica!, 'q=zebra');
  expect(zebra).toEqual({ names: ['zebra/z:1'], next: undefined, complete: true, warning: undefined, members: [] });
  // The owner finds what it hosts and has cached itself.
  expect((await search(fleet.owner, 'sort=name')).names).toEqual(['local/a:1', 'local/b:1', 'zebra/z:1']);
  const refused = await send(replica!, ['GET', '/v2/_millpond/search?next=none']);
  expect(refused.status).toBe(400);

  const command = async (...flags: readonly string[]) => {
    const { cacheDir: cwd } = replica!;
    const environment = { MILLPOND_CACHE_DIR: cwd };
    const args = ['search', '--all', '--sort', 'name', '--json', ...flags];
    const { code, stdout, stderr } = await run(launcher, args, { cwd, environment });
    const lines = stdout.split('\n').filter((line) => line !== '');
    const entries = lines.map((line) => JSON.parse(line) as { readonly repository: string; readonly tag: string });
    return { code, names: entries.map(({ repository, tag }) => `${repository}:${tag}`), stderr };
  };
  expect(await command()).toEqual({ code: 0, names: all, stderr: '' });
  expect((await command('--limit', '2')).names).toEqual(all.slice(0, 2));

  await fleet.owner.stop();
  const commanded = await command();
  expect(commanded).toMatchObject({ code: 0, names: ['registry.test/m:1', 'registry.test/n:1'] });
  expect(commanded.stderr).toContain('hosted repositories are not searched');
  const away = await search(replica!, 'sort=name');
  expect(away).toMatchObject({ names: ['registry.test/m:1', 'registry.test/n:1'], next: undefined, complete: false });
  expect(away.warning).toContain('hosted repositories are not searched');
});

test('a search at a replica finds only what its caller may search at the owner', async () => {
  await using folder = await temporaryFolder();
  const auth = await annAndBob(folder.path);
  await using fleet = await startHostedFleet({ config: { auth } });
  const ann = basic('ann', 'a-secret');
  const image = localImage({ label: 'one' });
  for (const name of ['local/app', 'local/bob']) {
    for (const { digest, bytes: body } of image.blobs) {
      const target = `/v2/${name}/blobs/uploads/?digest=${digest}`;
      expect((await send(fleet.owner, ['POST', target], { headers: ann, body })).status).toBe(201);
    }
    const headers = { ...ann, 'content-type': image.mediaType };
    const put = await send(fleet.owner, ['PUT', `/v2/${name}/manifests/1`], { headers, body: image.bytes });
    expect(put.status).toBe(201);
  }
  const [replica] = fleet.others;
  await vi.waitFor(
    async () => expect((await search(replica!, '', ann)).names).toEqual(['local/app:1', 'local/bob:1']),
    { timeout: 180_000 },
  );
  expect((await search(replica!, '', basic('bob', 'b-secret'))).names).toEqual(['local/bob:1']);
});
