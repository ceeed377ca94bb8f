import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { startTestSite } from '../support/site.ts';

const blob = Buffer.alloc(3_000_000, 'odd');
const cutAt = 500_000;

type Resume = (response: ServerResponse, from: number) => unknown;

const contentRange = (start: number, end: number): string => `bytes ${start}-${end - 1}/${blob.length}`;

function sendPart(response: ServerResponse, start: number, end: number): void {
  response.writeHead(206, { 'content-length': end - start, 'content-range': contentRange(start, end) });
  response.end(blob.subarray(start, end));
}

/** A registry that cuts its first answer, and answers `Range` in a way of its own. */
async function startCutting(resume: Resume) {
  const ranges: (string | undefined)[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const { range } = request.headers;
    ranges.push(range);
    const from = /^bytes=(\d+)-$/.exec(range ?? '')?.[1];
    if (from !== undefined) return void resume(response, Number(from));
    response.writeHead(200, { 'content-length': blob.length });
    if (ranges.length > 1) return void response.end(blob);
    return void response.write(blob.subarray(0, cutAt), () => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { origin, ranges, [Symbol.dispose]: () => void server.close() };
}

test.each<[string, Resume, readonly (string | undefined)[]]>([
  [
    'in a part that begins before',
    (response, from) => sendPart(response, from - 100_000, blob.length),
    ['bytes=500000-'],
  ],
  [
    'in parts that end before',
    (response, from) => sendPart(response, from, Math.min(blob.length, from + 1_500_000)),
    ['bytes=500000-', 'bytes=2000000-'],
  ],
  [
    'as several ranges',
    (response) => response.writeHead(206, { 'content-type': 'multipart/byteranges; boundary=x' }).end('--x--\r\n'),
    ['bytes=500000-', undefined],
  ],
  ['not at all, with 416', (response) => response.writeHead(416).end(), ['bytes=500000-', undefined]],
  ['in parts of a few bytes', (response, from) => sendPart(response, from, from + 10), ['bytes=500000-', undefined]],
  [
    'in a part that begins behind',
    (response, from) => sendPart(response, from + 10, blob.length),
    ['bytes=500000-', undefined],
  ],
])('the rest of a blob that was cut, and comes %s, is read', async (_, resume, ranges) => {
  using upstream = await startCutting(resume);
  await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
  const digest = digestOf(blob);
  expect(await site.get(`/v2/library/app/blobs/${digest}`)).toMatchObject({
    status: 200,
    complete: true,
    sha256: digest,
  });
  expect(upstream.ranges).toEqual([undefined, ...ranges]);
});
