import { Agent } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { KeptAnswer } from '../../src/front/kept-answer.ts';
import { fieldsOf, RequestLines } from '../../src/front/request-line.ts';
import type { Served } from '../../src/front/short-way.ts';
import { seededSource } from '../support/bytes.ts';
import type { AddedImage } from '../support/contents.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { comparable, counter, told } from './same-answers.ts';

type Headers = Readonly<Record<string, string>>;

interface Case {
  readonly name: string;
  readonly path: (image: AddedImage) => string;
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: (image: AddedImage) => Headers;
  /** It is decided each time. */
  readonly isDecided?: boolean;
}

const app = '/v2/library/app';
const layer = ({ layers }: AddedImage): string => layers[0]!.digest;

/** Everything that is answered in more than one way. */
const cases: readonly Case[] = [
  { name: 'a tag', path: () => `${app}/manifests/v1` },
  { name: 'a tag, HEAD', path: () => `${app}/manifests/v1`, method: 'HEAD' },
  { name: 'a tag by ns', path: () => `${app}/manifests/v1?ns=docker.io` },
  { name: 'a tag by its whole name', path: () => '/v2/docker.io/library/app/manifests/v1' },
  {
    name: 'a tag by the reference name',
    path: () => `${app}/manifests/v1`,
    headers: () => ({ 'oci-ref-name': 'docker.io/library/app:v1' }),
  },
  {
    name: 'a tag that the client has',
    path: () => `${app}/manifests/v1`,
    headers: ({ digest }) => ({ 'if-none-match': `"${digest}"` }),
  },
  { name: 'whether this is a registry', path: () => '/v2/' },
  { name: 'whether this is a registry, HEAD', path: () => '/v2/', method: 'HEAD' },
  { name: 'a manifest', path: ({ digest }) => `${app}/manifests/${digest}` },
  { name: 'a manifest, HEAD', path: ({ digest }) => `${app}/manifests/${digest}`, method: 'HEAD' },
  { name: 'a small blob', path: ({ config }) => `${app}/blobs/${config.digest}` },
  { name: 'a small blob, HEAD', path: ({ config }) => `${app}/blobs/${config.digest}`, method: 'HEAD' },
  {
    name: 'a part of a small blob',
    path: ({ config }) => `${app}/blobs/${config.digest}`,
    headers: () => ({ range: 'bytes=2-9' }),
  },
  { name: 'a blob', path: (image) => `${app}/blobs/${layer(image)}` },
  { name: 'a blob, HEAD', path: (image) => `${app}/blobs/${layer(image)}`, method: 'HEAD' },
  {
    name: 'a part of a blob',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ range: 'bytes=70000-80000' }),
  },
  {
    name: 'the end of a blob',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ range: 'bytes=-7' }),
  },
  {
    name: 'a part of a blob, if it is still the same',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: (image) => ({ range: 'bytes=0-1', 'if-range': `"${layer(image)}"` }),
  },
  {
    name: 'a part of another blob',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: () => ({ range: 'bytes=0-1', 'if-range': '"other"' }),
  },
  {
    name: 'a blob that the client has',
    path: (image) => `${app}/blobs/${layer(image)}`,
    headers: (image) => ({ 'if-none-match': `"other", W/"${layer(image)}"` }),
  },
  {
    name: 'several parts of a blob',
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
  { name: 'an unknown blob', path: () => `${app}/blobs/sha256:${'0'.repeat(64)}`, isDecided: true },
  { name: 'an unknown upstream', path: () => `${app}/manifests/v1?ns=other.example`, isDecided: true },
  {
    name: 'credentials',
    path: () => `${app}/manifests/v1`,
    headers: () => ({ authorization: 'Basic eDp5' }),
  },
  {
    name: 'a chain of mirrors',
    path: () => `${app}/manifests/v1`,
    headers: () => ({ 'cdn-loop': 'other; x=1', 'user-agent': 'containerd/2.2' }),
  },
];

async function start(keepsAnswers: boolean, keepAlive: boolean) {
  await using owned = new AsyncDisposableStack();
  const upstream = owned.use(await startRegistry());
  const layers = [seededSource(100_000, 3)];
  const image = upstream.addImage('library/app', 'v1', { layers, config: '{"os":"linux"}' });
  const now = (): number => Date.parse('2026-11-30T12:00:00Z');
  const site = owned.use(await startTestSite({ upstreams: { 'docker.io': upstream }, keepsAnswers, now }));
  for (const path of [`manifests/v1`, `blobs/${image.config.digest}`, `blobs/${layer(image)}`]) {
    expect((await site.get(`${app}/${path}`)).status).toBe(200);
  }
  const held = owned.move();
  return { site, image, agent: new Agent({ keepAlive }), [Symbol.asyncDispose]: () => held.disposeAsync() };
}

type Started = Awaited<ReturnType<typeof start>>;

async function ask({ site, image, agent }: Started, { path, method = 'GET', headers }: Case) {
  return comparable(await site.get(path(image), { method, headers: headers?.(image) ?? {}, agent }));
}

/** How many answers were given as before. */
async function keptCount(site: TestSite): Promise<number> {
  return (await counter(site, 'millpond_kept_answers_total')) ?? 0;
}

describe.each([
  ['on a connection of its own', false],
  ['on a connection that is kept', true],
])('an answer that is given again %s', (_name, keepAlive) => {
  const owned = new AsyncDisposableStack();
  let keeping: Started;
  let deciding: Started;

  beforeAll(async () => {
    keeping = owned.use(await start(true, keepAlive));
    deciding = owned.use(await start(false, keepAlive));
  });
  afterAll(() => owned.disposeAsync());

  test.each(cases)('is the one that is decided: $name', async (one) => {
    const before = await keptCount(keeping.site);
    const lines = (await told(keeping.site)).log.length;
    for (let round = 0; round < 3; round += 1) {
      expect(await ask(keeping, one)).toEqual(await ask(deciding, one));
    }
    const logged = (): number[] =>
      [keeping, deciding].map(({ site }) => site.logLines.filter(({ msg }) => msg === 'request').length);
    await expect.poll(logged).toEqual([lines + 3, lines + 3]);
    const kept = await keptCount(keeping.site);
    expect(await told(keeping.site)).toEqual(await told(deciding.site));
    expect(await keptCount(deciding.site)).toBe(0);
    // The first has been decided, unless it was asked for before.
    if (one.isDecided) expect(kept).toBe(before);
    else expect(kept).toBeGreaterThanOrEqual(before + 2);
  });
});

test('an answer that is given again has the line of the log that it would have with its fields one by one', () => {
  const about = { method: 'GET', path: '/v2/"x"', kind: 'blob', upstream: 'docker.io', repository: 'library/app' };
  const answer: KeptAnswer = {
    status: 206,
    headers: [],
    body: { kind: 'none' },
    length: 0,
    sinceMs: 0,
    untilMs: 0,
    stamp: [],
    digest: 'sha256:x',
    about: { ...about, namedBy: 'default', outcome: 'hit', through: undefined },
  };
  const lines = new RequestLines();
  for (const userAgent of [undefined, 'curl "8"\n']) {
    for (const through of [undefined, 'a; b="c"']) {
      const served: Served = {
        key: 'x',
        isNew: false,
        answer: { ...answer, about: { ...answer.about, through } },
        sentBytes: 7,
        isComplete: true,
        failure: undefined,
        durationMs: 1.26,
        userAgent,
        client: '::1',
      };
      for (let time = 0; time < 2; time += 1) {
        expect(`{${lines.members(served)}}`).toBe(JSON.stringify(fieldsOf(served, String)));
      }
    }
  }
});
