import { describe, expect, test } from 'vitest';
import { readHead } from '../../src/front/request-head.ts';
import { getText, rawClient } from '../http/raw-client.ts';
import { seededSource } from '../support/bytes.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

const app = '/v2/library/app';

/** A mirror that has answered for a manifest and a blob, so that it can do so again. */
async function start() {
  await using owned = new AsyncDisposableStack();
  const upstream = owned.use(await startRegistry());
  const image = upstream.addImage('library/app', 'v1', { layers: [seededSource(3_000_000, 3)] });
  const site = owned.use(await startTestSite({ upstreams: { 'docker.io': upstream } }));
  const manifest = `${app}/manifests/${image.digest}`;
  const layer = `${app}/blobs/${image.layers[0]!.digest}`;
  for (const path of [`${app}/manifests/v1`, layer]) await site.get(path);
  for (const path of [manifest, layer]) await ask(site, getText(path), 1);
  const held = owned.move();
  return { site, image, manifest, layer, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

const answers = (text: string): number => text.split('HTTP/1.1 ').length - 1;

/** What comes back for bytes that are sent, until there are so many answers with manifests. */
async function ask(site: TestSite, sends: string, count: number): Promise<string> {
  using client = await rawClient(site.origin, { sends });
  return await client.until((text) => answers(text) >= count && text.includes('\r\n\r\n'));
}

async function kept(site: TestSite): Promise<number> {
  const { body } = await site.get('/metrics');
  return Number(/^millpond_kept_answers_total (\d+)/m.exec(body.toString())?.[1] ?? 0);
}

describe('a connection', () => {
  test('that is kept has each of its answers, one after another', async () => {
    await using mirror = await start();
    const before = await kept(mirror.site);
    using client = await rawClient(mirror.site.origin, { sends: getText(mirror.manifest) });
    for (let count = 1; count <= 3; count += 1) {
      await client.until((text) => answers(text) === count && text.includes('"layers"'));
      if (count < 3) client.socket.write(getText(mirror.manifest));
    }
    expect(client.text()).toMatch(/^HTTP\/1\.1 200 OK\r\nDocker-Distribution-Api-Version: /);
    expect(client.text()).toContain('\r\nConnection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n{');
    expect((await kept(mirror.site)) - before).toBe(3);
  });

  test.each([
    ['whose requests come in pieces', (path: string) => [getText(path).slice(0, 30), getText(path).slice(30)]],
    ['that sends ahead', (path: string) => [getText(path) + getText(path)]],
    ['that sends ahead a part', (path: string) => [getText(path) + getText(path).slice(0, 9), getText(path).slice(9)]],
    ['that asks for the health first', (path: string) => [getText('/healthz'), getText(path)]],
    ['that asks for a list first', (path: string) => [getText(`${app}/tags/list`), getText(path)]],
  ])('%s is answered all the same', async (_name, sends) => {
    await using mirror = await start();
    const pieces = sends(mirror.manifest);
    using client = await rawClient(mirror.site.origin, { sends: pieces[0]! });
    if (pieces[1] !== undefined) {
      await client.until((text) => answers(text) > 0 || !pieces[0]!.includes('\r\n\r\n'));
      client.socket.write(pieces[1]);
    }
    const wanted = pieces.join('').split('GET ').length - 1;
    const text = await client.until((got) => answers(got) === wanted && got.endsWith('}'));
    expect(answers(text)).toBe(wanted);
  });

  test('that its client half closes has its answer, and ends', async () => {
    await using mirror = await start();
    using client = await rawClient(mirror.site.origin, { sends: getText(mirror.manifest) });
    client.socket.end();
    await client.closed;
    expect(client.text()).toContain('"layers"');
  });

  test('with a large body under way has the next request answered behind it', async () => {
    await using mirror = await start();
    using client = await rawClient(mirror.site.origin, { sends: getText(mirror.layer) });
    await client.until((text) => text.length > 10_000);
    client.socket.write(getText(mirror.manifest));
    const text = await client.until((got) => answers(got) === 2 && got.endsWith('}'));
    const body = text.slice(text.indexOf('\r\n\r\n') + 4, text.lastIndexOf('HTTP/1.1 '));
    expect(body.length).toBe(3_000_000);
  });

  test('is closed when the mirror stops, at once where nothing is under way', async () => {
    await using mirror = await start();
    using client = await rawClient(mirror.site.origin, { sends: getText(mirror.manifest) });
    await client.until((text) => text.endsWith('}'));
    await mirror.site.stop();
    await client.closed;
    expect(answers(client.text())).toBe(1);
  });
});

describe('the head of a request', () => {
  test('is read as Node reads it', () => {
    const text =
      'GET /v2/a?ns=x HTTP/1.1\r\nHost: mirror\r\nAccept:a;\tb \r\nX-Empty:\r\nX-Space: \xa0 \r\nConnection: keep-alive\r\n\r\n';
    expect(readHead(text)).toEqual({
      method: 'GET',
      url: '/v2/a?ns=x',
      rawHeaders: ['Host', 'mirror', 'Accept', 'a;\tb', 'X-Empty', '', 'X-Space', '\xa0'],
    });
  });

  test.each([
    ['another method', 'POST /v2/a HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['another version', 'GET /v2/a HTTP/1.0\r\nHost: x\r\n\r\n'],
    ['another path', 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['an absolute target', 'GET http://x/v2/a HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['no host', 'GET /v2/a HTTP/1.1\r\n\r\n'],
    ['no end', 'GET /v2/a HTTP/1.1\r\nHost: x\r\n'],
    ['two heads', 'GET /v2/a HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/a HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a folded line', 'GET /v2/a HTTP/1.1\r\nHost: x\r\n y\r\n\r\n'],
    ['a space before the colon', 'GET /v2/a HTTP/1.1\r\nHost : x\r\n\r\n'],
    ['a bare line feed', 'GET /v2/a HTTP/1.1\r\nHost: x\nRange: bytes=0-1\r\n\r\n'],
    ['a bare carriage return', 'GET /v2/a HTTP/1.1\r\nHost: x\rRange: bytes=0-1\r\n\r\n'],
    ['a NUL', 'GET /v2/a HTTP/1.1\r\nHost: x\0\r\n\r\n'],
    ['a space in the target', 'GET /v2/a b HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a connection that is to be closed', 'GET /v2/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'],
    ['no name', 'GET /v2/a HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n'],
  ])('with %s is left to Node', (_name, text) => {
    expect(readHead(text)).toBeUndefined();
  });
});
