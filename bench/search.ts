import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pushImage, send } from '../test/hosted/support.ts';
import { localImage } from '../test/support/images.ts';
import { makeSearchCache, searchUpstream } from '../test/support/search-cache.ts';
import { allPages, type Measured, measure, searchQueries } from '../test/support/search-load.ts';
import { clientCore, freePort, serverCore, startServer } from './program.ts';

// node bench/search.ts [IMAGES] [SECONDS]: searches beside a busy mirror, and lists that change while they are paged.

const images = Number(process.argv[2] ?? 100_000);
const seconds = Number(process.argv[3] ?? 15);
const maxSearchMs = 50;

await using owned = new AsyncDisposableStack();
const folder = await mkdtemp(join(tmpdir(), 'millpond-search-'));
owned.defer(() => rm(folder, { recursive: true, force: true }));
const cacheDir = join(folder, 'cache');
const { repositories, paths } = await makeSearchCache(cacheDir, images);
const startedMs = performance.now();
const listen = `127.0.0.1:${await freePort()}`;
const origin = `http://${listen}`;
const configFile = join(folder, 'millpond.yaml');
const config = {
  listen,
  offline: true,
  upstreams: { [searchUpstream]: { urls: ['http://127.0.0.1:1'] } },
  cache: { dir: cacheDir, minFree: '1B' },
  hosted: { repositories: ['local/**'] },
};
await writeFile(configFile, JSON.stringify(config));
// The client has to share one of the cores: there may be no third.
owned.use(
  await startServer(fileURLToPath(new URL('../bin/millpond', import.meta.url)), {
    args: ['serve', '--config', configFile],
    core: `${serverCore},${clientCore}`,
    logFile: join(folder, 'log'),
    readyUrl: `${origin}/healthz`,
  }),
);
print(`${images} images in ${repositories.length} repositories`);
for (;;) {
  const reply = await fetch(`${origin}/v2/_millpond/search?n=1`);
  if (((await reply.json()) as { complete: boolean }).complete) break;
  await delay(500);
}
print(`indexed ${((performance.now() - startedMs) / 1000).toFixed(1)} s after the start`);

const hot = paths.slice(0, 64);
const hits = { pathOf: (index: number) => hot[index % hot.length]!, connections: 8, seconds };
const searches = {
  pathOf: (index: number) => `/v2/_millpond/search?${searchQueries(index)}`,
  connections: 2,
  pauseMs: 50,
};
await measure(origin, { ...hits, seconds: 3 });
const most = await measure(origin, hits);
print(`hits at most:       ${shown(most)}`);
// A client that sends as fast as it can has no processor left for the others: half of that is a busy mirror.
const busy = { ...hits, perSecond: most.perSecond / 2 };
print(`hits alone:         ${shown(await measure(origin, busy))}`);
const [beside, searched] = await Promise.all([measure(origin, busy), measure(origin, { ...searches, seconds })]);
print(`hits beside:        ${shown(beside)}`);
print(`searches beside:    ${shown(searched)}`);
const [, pressed] = await Promise.all([measure(origin, hits), measure(origin, { ...searches, seconds })]);
print(`searches at most:   ${shown(pressed)}`);
print(`searches alone:     ${shown(await measure(origin, { ...searches, seconds }))}`);

const site = { origin };
const image = localImage({ label: 'a change' });
const between = async (page: number): Promise<void> => {
  if (page % 5 !== 0) return;
  await pushImage(site, `local/change-${page}`, image, '1');
  if (page > 0) await send(site, ['DELETE', `/v2/local/change-${page - 5}/manifests/1`]);
};
const listStartedMs = performance.now();
const names = await allPages(origin, '/v2/_catalog?n=20', { member: 'repositories', between });
const expected = repositories.map((name) => `${searchUpstream}/${name}`);
print(
  `catalog: ${names.length} names in pages of 20 in ${((performance.now() - listStartedMs) / 1000).toFixed(1)} s while ` +
    `${lacking(expected, names)} were left out and ${names.length - new Set(names).size} listed twice`,
);
const many = Array.from({ length: 500 }, (_, at) => `1.${at}.0`);
for (const tag of many) await pushImage(site, 'local/tags', image, tag);
const found = await allPages(origin, '/v2/local/tags/tags/list?n=7', {
  member: 'tags',
  async between(page) {
    await pushImage(site, 'local/tags', image, `0.${page}.0`);
    if (page > 0) await send(site, ['DELETE', `/v2/local/tags/manifests/0.${page - 1}.0`]);
  },
});
print(
  `tags: ${found.length} in pages of 7, ${lacking(many, found)} left out, ${found.length - new Set(found).size} twice`,
);
if (searched.p99Ms > maxSearchMs) process.exitCode = 1;

function lacking(wanted: readonly string[], got: readonly string[]): number {
  const has = new Set(got);
  return wanted.filter((one) => !has.has(one)).length;
}

function shown({ requests, perSecond, p50Ms, p99Ms, mostMs }: Measured): string {
  return `${requests} requests, ${perSecond.toFixed(0)}/s, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms, most ${mostMs.toFixed(1)} ms`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
