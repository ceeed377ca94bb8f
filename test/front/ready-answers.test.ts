import { readdir, utimes, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemCalls } from '../../src/front/system-calls.ts';
import { seededSource } from '../support/bytes.ts';
import type { AddedImage } from '../support/contents.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { comparable, counter, told } from './same-answers.ts';

const app = '/v2/library/app';
const config = ({ config: { digest } }: AddedImage): string => digest;
const layer = ({ layers }: AddedImage): string => layers[0]!.digest;

interface Case {
  readonly name: string;
  readonly path: (image: AddedImage) => string;
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: (image: AddedImage) => Readonly<Record<string, string>>;
  /** The application decides it. */
  readonly isDecided?: boolean;
}

const cases: readonly Case[] = [
  { name: 'a small blob', path: (image) => `${app}/blobs/${config(image)}` },
  { name: 'a small blob, HEAD', path: (image) => `${app}/blobs/${config(image)}`, method: 'HEAD' },
  { name: 'a small blob by ns', path: (image) => `${app}/blobs/${config(image)}?ns=docker.io` },
  { name: 'a small blob by its whole name', path: (image) => `/v2/docker.io/library/app/blobs/${config(image)}` },
  { name: 'a small blob of Docker Hub by its short name', path: (image) => `/v2/app/blobs/${config(image)}` },
  {
    name: 'a part of a small blob',
    path: (image) => `${app}/blobs/${config(image)}`,
    headers: () => ({ range: 'bytes=2-9' }),
  },
  { name: 'a blob in a file', path: (image) => `${app}/blobs/${layer(image)}`, isDecided: true },
  { name: 'a blob, HEAD', path: (image) => `${app}/blobs/${layer(image)}`, method: 'HEAD' },
  {
    name: 'a part of a blob, if it is still the same',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: (image) => ({ range: 'bytes=70000-', 'if-range': `"${layer(image)}"` }),
    isDecided: true,
  },
  {
    name: 'a part of a small blob, if it is still the same',
    path: (image) => `${app}/blobs/${config(image)}`,
    headers: (image) => ({ range: 'bytes=3-', 'if-range': `"${config(image)}"` }),
  },
  {
    name: 'a blob that the client has',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: (image) => ({ 'if-none-match': `"${layer(image)}"` }),
  },
  { name: 'a manifest as a blob', path: ({ digest }) => `${app}/blobs/${digest}` },
  {
    name: 'several parts',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ range: 'bytes=0-1,5-6' }),
    isDecided: true,
  },
  {
    name: 'a part past the end',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ range: 'bytes=999999-' }),
    isDecided: true,
  },
  {
    name: 'a chain of mirrors',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ 'cdn-loop': 'other; x=1' }),
    isDecided: true,
  },
  {
    name: 'a reference name',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ 'oci-ref-name': 'docker.io/library/app' }),
    isDecided: true,
  },
  {
    name: 'credentials, where callers are not distinguished',
    path: (image) => `${app}/blobs/${config(image)}`,
    headers: () => ({ authorization: 'Basic eDp5' }),
  },
  { name: 'another repository', path: (image) => `/v2/library/other/blobs/${config(image)}`, isDecided: true },
  { name: 'an unknown upstream', path: (image) => `${app}/blobs/${config(image)}?ns=other.example`, isDecided: true },
  { name: 'two upstreams', path: (image) => `${app}/blobs/${config(image)}?ns=docker.io&ns=x`, isDecided: true },
  { name: 'a tag', path: () => `${app}/manifests/v1`, isDecided: true },
];

/** A mirror that has just started, on a cache that an earlier one has filled. */
async function restart(options: {
  readonly keepsAnswers: boolean;
  readonly config?: Readonly<Record<string, unknown>>;
}) {
  await using owned = new AsyncDisposableStack();
  const upstream = owned.use(await startRegistry());
  const image = upstream.addImage('library/app', 'v1', {
    layers: [seededSource(100_000, 3)],
    config: '{"os":"linux"}',
  });
  const folder = owned.use(await temporaryDirectory('ready'));
  const now = (): number => Date.parse('2026-11-30T12:00:00Z');
  const settings = { upstreams: { 'docker.io': upstream }, cacheDir: join(folder.path, 'cache'), now, ...options };
  {
    await using first = await startTestSite(settings);
    for (const path of [`manifests/v1`, `blobs/${config(image)}`, `blobs/${layer(image)}`]) {
      expect((await first.get(`${app}/${path}`)).status).toBe(200);
    }
  }
  const site = owned.use(await startTestSite(settings));
  const held = owned.move();
  return { site, image, agent: new Agent(), [Symbol.asyncDispose]: () => held.disposeAsync() };
}

type Restarted = Awaited<ReturnType<typeof restart>>;

async function ask({ site, image, agent }: Restarted, { path, method = 'GET', headers }: Case) {
  return comparable(await site.get(path(image), { method, headers: headers?.(image) ?? {}, agent }));
}

async function readyCount(site: TestSite): Promise<number> {
  const count = await counter(site, 'millpond_ready_answers_total');
  if (count === undefined) throw new Error('there is no such metric');
  return count;
}

describe.runIf(systemCalls())('the first request after a start', () => {
  const owned = new AsyncDisposableStack();
  let ready: Restarted;
  let deciding: Restarted;

  beforeAll(async () => {
    ready = owned.use(await restart({ keepsAnswers: true }));
    deciding = owned.use(await restart({ keepsAnswers: false }));
  });
  afterAll(() => owned.disposeAsync());

  test.each(cases)('is answered as the application would: $name', async (one) => {
    const before = await readyCount(ready.site);
    const requests = (await told(ready.site)).log.length;
    expect(await ask(ready, one)).toEqual(await ask(deciding, one));
    const logged = (): number[] =>
      [ready, deciding].map(({ site }) => site.logLines.filter(({ msg }) => msg === 'request').length);
    await expect.poll(logged).toEqual([requests + 1, requests + 1]);
    expect(await told(ready.site)).toEqual(await told(deciding.site));
    expect(await readyCount(ready.site)).toBe(one.isDecided ? before : before + 1);
  });
});

describe.runIf(systemCalls())('the application decides the first request', () => {
  test.each([
    ['an altered small blob', config],
    ['an altered blob', layer],
  ])('for %s, which is fetched again', async (_name, digestOf) => {
    await using restarted = await restart({ keepsAnswers: true });
    const { site, image } = restarted;
    const digest = digestOf(image);
    const folder = join(site.cacheDir, 'blobs');
    const names = await readdir(folder, { recursive: true });
    const path = join(folder, names.find((name) => name.endsWith(digest.slice('sha256:'.length)))!);
    await writeFile(path, Buffer.alloc(digest === config(image) ? 14 : 100_000, 'x'));
    const later = new Date(Date.now() + 5_000);
    await utimes(path, later, later);
    const { status, sha256 } = await site.get(`${app}/blobs/${digest}`);
    expect({ status, sha256 }).toEqual({ status: 200, sha256: digest });
    expect(await readyCount(site)).toBe(0);
  });

  test('where callers have to show who they are', async () => {
    await using restarted = await restart({ keepsAnswers: true });
    const { site, image } = restarted;
    await using folder = await temporaryDirectory('ready');
    const htpasswdFile = join(folder.path, 'htpasswd');
    await writeFile(htpasswdFile, `someone:$2b$04$${'a'.repeat(53)}\n`);
    await site.reconfigure({ auth: { htpasswdFile } });
    expect((await site.get(`${app}/blobs/${config(image)}`)).status).toBe(401);
  });

  test('where nginx sends files', async () => {
    await using restarted = await restart({ keepsAnswers: true, config: { serve: { sendfile: 'nginx' } } });
    const { site, image } = restarted;
    const { headers } = await site.get(`${app}/blobs/${layer(image)}`);
    expect(headers['x-accel-redirect']).toBeDefined();
    expect(await readyCount(site)).toBe(0);
  });

  test('after a repository has become a hosted one', async () => {
    const hosted = { repositories: ['ours/**'] };
    await using restarted = await restart({ keepsAnswers: true, config: { hosted } });
    const { site, image } = restarted;
    const path = `${app}/blobs/${config(image)}`;
    expect((await site.get(path)).status).toBe(200);
    expect(await readyCount(site)).toBe(1);
    await site.reconfigure({ hosted: { repositories: ['library/**'] } });
    expect((await site.get(path)).status).toBe(404);
    expect(await readyCount(site)).toBe(1);
  });
});
