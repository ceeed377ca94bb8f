import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rawClient } from '../http/raw-client.ts';
import { seededSource } from '../support/bytes.ts';
import type { AddedImage } from '../support/contents.ts';
import { fuzz } from '../support/fuzz.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { counter } from './same-answers.ts';

// The same bytes go to a mirror that reads plain requests by itself and to one where Node's parser reads them all: a request
// that the two read differently could be smuggled past a proxy in front, or answered for another one.

const owned = new AsyncDisposableStack();
let image: AddedImage;
let own: TestSite;
let node: TestSite;

beforeAll(async () => {
  const upstream = owned.use(await startRegistry());
  image = upstream.addImage('library/app', 'v1', { layers: [seededSource(100_000, 3)], config: '{"os":"linux"}' });
  const now = (): number => Date.parse('2026-11-30T12:00:00Z');
  const start = async (keepsAnswers: boolean) => {
    const site = owned.use(await startTestSite({ upstreams: { 'docker.io': upstream }, keepsAnswers, now }));
    for (const path of [pathOf.manifest(), pathOf.tag(), pathOf.config(), pathOf.layer()]) {
      for (let time = 0; time < 2; time += 1) expect((await site.get(path)).status).toBe(200);
    }
    return site;
  };
  own = await start(true);
  node = await start(false);
});
afterAll(() => owned.disposeAsync());

const app = '/v2/library/app';
const pathOf = {
  manifest: () => `${app}/manifests/${image.digest}`,
  tag: () => `${app}/manifests/v1`,
  config: () => `${app}/blobs/${image.config.digest}`,
  layer: () => `${app}/blobs/${image.layers[0]!.digest}`,
};

/** Asks for the connection to be closed. */
const last = 'GET /v2/ HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\n\r\n';

/**
 * All that a mirror sends until it closes the connection, without the times.
 * @param cut characters that are sent on their own
 */
async function answersOf(site: TestSite, sends: string, cut = 0): Promise<string> {
  using client = await rawClient(site.origin, { sends: '' });
  client.socket.setNoDelay(true);
  client.socket.write(sends.slice(0, cut), 'latin1');
  // Two turns of the event loop: the mirror, in this process too, reads these before the others.
  for (let turn = 0; turn < 2; turn += 1) await setImmediate();
  client.socket.write(sends.slice(cut), 'latin1');
  // A parser that finds an error behind a request does not wait for the answer to it.
  await client.until((text) => hasWholeAnswer(text, sends));
  client.socket.write(last, 'latin1');
  await client.closed;
  // A body is as good as its digest, and easier to read where two differ.
  const text = client.text().replaceAll(/^Date: .*\r\n/gm, '');
  return text.length < 10_000 ? text : `${text.slice(0, 2000)}… ${createHash('sha256').update(text).digest('hex')}`;
}

function hasWholeAnswer(text: string, sends: string): boolean {
  const end = text.indexOf('\r\n\r\n') + 4;
  if (end < 4) return false;
  const length = Number(/^Content-Length: (\d+)/m.exec(text)?.[1] ?? 0);
  return sends.includes('HEAD') || text.startsWith('HTTP/1.1 304') || text.length >= end + length;
}

async function compare(sends: string, cut?: number): Promise<string> {
  const [byOwn, byNode] = await Promise.all([answersOf(own, sends, cut), answersOf(node, sends, cut)]);
  expect(byOwn).toBe(byNode);
  return byOwn;
}

const request = (path: string, ...lines: string[]): string =>
  [`GET ${path} HTTP/1.1`, 'Host: mirror', ...lines, '', ''].join('\r\n');

test('a plain request and the last one are answered without a decision', async () => {
  await compare(request(pathOf.manifest()));
  const before = (await counter(own, 'millpond_kept_answers_total')) ?? 0;
  expect(await compare(request(pathOf.manifest()))).toContain('HTTP/1.1 200 OK');
  expect(await counter(own, 'millpond_kept_answers_total')).toBe(before + 2);
});

test.each<[string, (path: string) => string]>([
  ['another method', (path) => request(path).replace('GET', 'OPTIONS')],
  ['a method in lower case', (path) => request(path).replace('GET', 'get')],
  ['a method that is none', (path) => request(path).replace('GET', 'GETS')],
  ['HEAD', (path) => request(path).replace('GET', 'HEAD')],
  ['HTTP/1.0', (path) => request(path).replace('1.1', '1.0')],
  ['HTTP/1.0 that keeps its connection', (path) => request(path, 'Connection: keep-alive').replace('1.1', '1.0')],
  ['HTTP/1.2', (path) => request(path).replace('1.1', '1.2')],
  ['HTTP/2.0', (path) => request(path).replace('1.1', '2.0')],
  ['no version', (path) => `GET ${path}\r\n\r\n`],
  ['two spaces', (path) => request(path).replace('GET ', 'GET  ')],
  ['a tab after the method', (path) => request(path).replace('GET ', 'GET\t')],
  ['a space behind the version', (path) => request(path).replace('1.1\r', '1.1 \r')],
  ['an empty line before', (path) => `\r\n${request(path)}`],
  ['a line feed before', (path) => `\n${request(path)}`],
  ['a space before', (path) => ` ${request(path)}`],
  ['line feeds alone', (path) => request(path).replaceAll('\r\n', '\n')],
  ['one bare line feed', (path) => request(path, 'X-A: 1').replace('\r\nX-A', '\nX-A')],
  ['a bare line feed within a header', (path) => request(path, 'X-A: 1\nRange: bytes=0-1')],
  ['a bare carriage return within a header', (path) => request(path, 'X-A: 1\rRange: bytes=0-1')],
  ['a NUL within a header', (path) => request(path, 'X-A: \0')],
  ['a NUL within a target', (path) => request(`${path}\0`)],
  ['DEL within a header', (path) => request(path, 'X-A: \x7f')],
  ['a folded header', (path) => request(path, 'X-A: 1', ' 2')],
  ['a folded header that begins with a tab', (path) => request(path, 'Range: bytes=0-1', '\t,2-3')],
  ['a folded host', (path) => request(path).replace('Host: ', 'Host:\r\n ')],
  ['a space before the colon', (path) => request(path, 'Range : bytes=0-1')],
  ['a tab before the colon', (path) => request(path, 'Range\t: bytes=0-1')],
  ['a header without a name', (path) => request(path, ': bytes=0-1')],
  ['a header without a colon', (path) => request(path, 'Range')],
  ['a header name of no token', (path) => request(path, 'Ra(nge: bytes=0-1')],
  ['a header name in Latin 1', (path) => request(path, 'R\xe4nge: bytes=0-1')],
  ['a header value in Latin 1', (path) => request(path, 'User-Agent: \xe4\xa0')],
  ['no blank behind the colon', (path) => request(path, 'Range:bytes=0-1')],
  ['blanks around a value', (path) => request(path, 'Range: \t bytes=0-1 \t')],
  ['a no-break space around a value', (path) => request(path, 'Range: \xa0bytes=0-1')],
  ['no host', (path) => request(path).replace('Host: mirror\r\n', '')],
  ['an empty host', (path) => request(path).replace('mirror', '')],
  ['two hosts', (path) => request(path, 'Host: other')],
  ['two hosts in one', (path) => request(path).replace('mirror', 'mirror, other')],
  ['a host with a path', (path) => request(path).replace('mirror', 'mirror/x')],
  ['a host in upper case', (path) => request(path).replace('Host', 'HOST')],
  ['an absolute target', (path) => request(`http://mirror${path}`)],
  ['an absolute target of another host', (path) => request(`http://other.example${path}`)],
  ['a target of an authority', () => request('mirror:80')],
  ['an asterisk', () => request('*')],
  ['a target without a slash', (path) => request(path.slice(1))],
  ['two slashes', (path) => request(`/${path}`)],
  ['a slash in percent', (path) => request(path.replace('/app', '%2fapp'))],
  ['dots', (path) => request(path.replace('/app', '/x/../app'))],
  ['dots in percent', (path) => request(path.replace('/app', '/x/%2e%2e/app'))],
  ['a NUL in percent', (path) => request(`${path}%00`)],
  ['half a percent', (path) => request(`${path}%f`)],
  ['a target in Latin 1', (path) => request(`${path}\xe4`)],
  ['a fragment', (path) => request(`${path}#x`)],
  ['an empty query', (path) => request(`${path}?`)],
  ['two namespaces', (path) => request(`${path}?ns=docker.io&ns=quay.io`)],
  ['an unknown namespace', (path) => request(`${path}?ns=quay.io`)],
  ['an empty namespace', (path) => request(`${path}?ns=`)],
  ['a namespace in percent', (path) => request(`${path}?n%73=docker.io`)],
  ['a namespace with a plus', (path) => request(`${path}?ns=docker.io+`)],
  ['a semicolon in a query', (path) => request(`${path}?a=1;ns=quay.io`)],
  ['a long target', (path) => request(`${path}?x=${'x'.repeat(7000)}`)],
  ['a target that is too long', (path) => request(`${path}?x=${'x'.repeat(40_000)}`)],
  ['a long header', (path) => request(path, `X-A: ${'x'.repeat(7000)}`)],
  ['a header that is too long', (path) => request(path, `X-A: ${'x'.repeat(40_000)}`)],
  ['many headers', (path) => request(path, ...Array<string>(1500).fill('a:'))],
  ['a length of 0', (path) => request(path, 'Content-Length: 0')],
  ['a body', (path) => `${request(path, 'Content-Length: 5')}hello`],
  ['a length with a sign', (path) => `${request(path, 'Content-Length: +5')}hello`],
  ['a length below 0', (path) => request(path, 'Content-Length: -1')],
  ['an empty length', (path) => request(path, 'Content-Length:')],
  ['two lengths', (path) => `${request(path, 'Content-Length: 5', 'Content-Length: 6')}hello`],
  ['the same length twice', (path) => `${request(path, 'Content-Length: 5', 'Content-Length: 5')}hello`],
  ['two lengths in one', (path) => `${request(path, 'Content-Length: 5, 5')}hello`],
  ['a body that is a request', (path) => `${request(path, `Content-Length: ${request(path).length}`)}${request(path)}`],
  ['a chunked body', (path) => `${request(path, 'Transfer-Encoding: chunked')}5\r\nhello\r\n0\r\n\r\n`],
  [
    'a chunked body that is a request',
    (path) => `${request(path, 'Transfer-Encoding: chunked')}0\r\n\r\n${request(path)}`,
  ],
  ['a length and chunks', (path) => `${request(path, 'Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`],
  ['another transfer encoding', (path) => request(path, 'Transfer-Encoding: gzip')],
  ['chunked twice', (path) => `${request(path, 'Transfer-Encoding: chunked, chunked')}0\r\n\r\n`],
  ['a transfer encoding in capitals', (path) => `${request(path, 'Transfer-Encoding: Chunked')}0\r\n\r\n`],
  ['a transfer encoding with a tab', (path) => `${request(path, 'Transfer-Encoding:\tchunked')}0\r\n\r\n`],
  ['a transfer encoding that is not quite one', (path) => request(path, 'Transfer-Encoding: xchunked')],
  ['what is expected', (path) => request(path, 'Expect: 100-continue')],
  ['something else that is expected', (path) => request(path, 'Expect: 200-ok')],
  [
    'an upgrade to HTTP/2',
    (path) => request(path, 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: x'),
  ],
  ['an upgrade that the connection does not name', (path) => request(path, 'Upgrade: websocket')],
  ['a connection that is to be closed', (path) => request(path, 'Connection: close')],
  ['a connection to be closed and kept', (path) => request(path, 'Connection: close, keep-alive')],
  ['a connection that names a header', (path) => request(path, 'Connection: range', 'Range: bytes=0-1')],
  ['a connection that keeps in capitals', (path) => request(path, 'CONNECTION: Keep-Alive')],
  ['a connection that is told twice', (path) => request(path, 'Connection: keep-alive', 'Connection: close')],
  ['trailers', (path) => request(path, 'TE: trailers')],
  ['a connection of a proxy', (path) => request(path, 'Proxy-Connection: close')],
  ['a range', (path) => request(path, 'Range: bytes=2-9')],
  ['two ranges in two headers', (path) => request(path, 'Range: bytes=0-1', 'Range: bytes=4-5')],
  ['a range of another unit', (path) => request(path, 'Range: lines=0-1')],
  ['a range the wrong way round', (path) => request(path, 'Range: bytes=9-2')],
  ['a range without numbers', (path) => request(path, 'Range: bytes=-')],
  ['an empty range', (path) => request(path, 'Range:')],
  ['a range of large numbers', (path) => request(path, `Range: bytes=0-${'9'.repeat(40)}`)],
  ['a range in capitals', (path) => request(path, 'RANGE: BYTES=2-9')],
  ['a range of HEAD', (path) => request(path, 'Range: bytes=2-9').replace('GET', 'HEAD')],
  ['a part if it is the same', (path) => request(path, 'Range: bytes=2-9', 'If-Range: "x"')],
  [
    'a part if it is the same as one of two',
    (path) => request(path, 'Range: bytes=2-9', 'If-Range: "x"', 'If-Range: "y"'),
  ],
  ['any content that the client has', (path) => request(path, 'If-None-Match: *')],
  ['the content that the client has', (path) => request(path, `If-None-Match: "${image.digest}"`)],
  [
    'the content that the client has, of two headers',
    (path) => request(path, 'If-None-Match: "x"', `If-None-Match: "${image.digest}"`),
  ],
  ['a time since when the client has it', (path) => request(path, 'If-Modified-Since: Tue, 01 Dec 2026 00:00:00 GMT')],
  ['content that is to match', (path) => request(path, 'If-Match: "x"')],
  ['an empty Accept', (path) => request(path, 'Accept:')],
  ['an Accept that nothing fits', (path) => request(path, 'Accept: text/html')],
  ['two Accepts', (path) => request(path, 'Accept: text/html', 'Accept: */*')],
  ['a name of a reference', (path) => request(path, 'OCI-Ref-Name: docker.io/library/app:v1')],
  [
    'two names of a reference',
    (path) => request(path, 'OCI-Ref-Name: docker.io/library/app:v1', 'OCI-Ref-Name: quay.io/x:y'),
  ],
  ['an empty name of a reference', (path) => request(path, 'OCI-Ref-Name:')],
  ['credentials', (path) => request(path, 'Authorization: Basic eDp5')],
  ['credentials twice', (path) => request(path, 'Authorization: Basic eDp5', 'Authorization: Bearer x')],
  ['credentials that are empty', (path) => request(path, 'Authorization:')],
  ['a cookie', (path) => request(path, 'Cookie: a=b')],
  ['a claim to be a replica', (path) => request(path, 'Millpond-Peer: x')],
  ['mirrors on the way', (path) => request(path, 'CDN-Loop: a, b')],
  ['mirrors on the way in two headers', (path) => request(path, 'CDN-Loop: a', 'CDN-Loop: b')],
  ['two requests', (path) => request(path) + request(pathOf.config())],
  ['two HEADs', (path) => (request(path) + request(path)).replaceAll('GET', 'HEAD')],
  ['a request and a half', (path) => request(path) + request(path).slice(0, 20)],
  ['a request and a byte', (path) => `${request(path)}G`],
  ['a request and an empty line', (path) => `${request(path)}\r\n`],
])('a request with %s is read as Node reads it', async (_name, of) => {
  for (const path of Object.values(pathOf)) await compare(of(path()));
});

test('made-up requests are read as Node reads them', async () => {
  const names = [
    'Host',
    'Range',
    'If-None-Match',
    'Accept',
    'Content-Length',
    'Transfer-Encoding',
    'Connection',
    'X-A',
  ];
  const values = [
    'mirror',
    'bytes=0-4',
    '"x"',
    '*/*',
    '0',
    'chunked',
    'close',
    'keep-alive',
    '',
    ' ',
    '\t',
    ',',
    ';',
    '\xe4',
  ];
  const line = fc
    .tuple(
      fc.constantFrom(...names, ...names.map((name) => name.toLowerCase()), '', ' X'),
      fc.constantFrom(': ', ':', ' :', ':\t', ''),
      fc.array(fc.constantFrom(...values), { maxLength: 3 }).map((parts) => parts.join('')),
      fc.constantFrom('\r\n', '\r\n', '\r\n', '\r\n', '\n', '\r'),
    )
    .map((parts) => parts.join(''));
  const first = fc
    .tuple(
      fc.constantFrom('GET', 'GET', 'GET', 'HEAD', 'get', 'PRI'),
      fc.constantFrom(' ', ' ', ' ', '  ', '\t'),
      fc.constantFrom(...(Object.keys(pathOf) as (keyof typeof pathOf)[])),
      fc.constantFrom('', '', '', '?ns=docker.io', '?ns=', '#', '%', '\x01'),
      fc.constantFrom(' HTTP/1.1', ' HTTP/1.1', ' HTTP/1.1', ' HTTP/1.0', ' HTTP/1.', ''),
    )
    .map(([method, blank, path, query, version]) => `${method}${blank}${pathOf[path]()}${query}${version}\r\n`);
  await fuzz([first, fc.array(line, { maxLength: 4 })], async (start, lines) => {
    await compare(`${start}Host: mirror\r\n${lines.join('')}\r\n`);
  });
});

test('requests that come in two parts are read as Node reads them', async () => {
  const sends = request(pathOf.manifest(), 'Range: bytes=2-9') + request(pathOf.config());
  for (let cut = 1; cut < sends.length; cut += 1) {
    expect((await compare(sends, cut)).match(/HTTP\/1\.1 20[06]/g)).toHaveLength(3);
  }
});

test('made-up rows of requests are read as Node reads them', async () => {
  const head = (sends: string): string => sends.replace('GET', 'HEAD');
  const absent = `${app}/blobs/sha256:${'0'.repeat(64)}`;
  // None asks for an end: bytes behind such a request cut the answers that are under way.
  const one = fc.constantFrom<() => string>(
    ...Object.values(pathOf).flatMap((path) => [() => request(path()), () => head(request(path()))]),
    () => request(pathOf.layer(), 'Range: bytes=5-70000'),
    () => head(request(pathOf.layer(), 'Range: bytes=5-7')),
    () => request(pathOf.manifest(), `If-None-Match: "${image.digest}"`),
    () => request(`${app}/manifests/none`),
    () => request(absent),
    () => head(request(absent)),
    () => request('/healthz'),
    () => `${request(pathOf.tag(), 'Content-Length: 5')}GET /`,
    () => `${request(pathOf.tag(), 'Transfer-Encoding: chunked')}1\r\nG\r\n0\r\n\r\n`,
    () => request(pathOf.tag(), 'Expect: 100-continue'),
  );
  await fuzz([fc.array(one, { minLength: 1, maxLength: 6 }), fc.nat(1500)], async (row, cut) => {
    await compare(row.map((of) => of()).join(''), cut);
  });
});
