import { EventEmitter } from 'node:events';
import type { ClientRequest, IncomingHttpHeaders } from 'node:http';
import { TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { ExchangeRecorder, type RecordedExchange } from '../../src/upstream/recorder.ts';

const url = new URL('https://user:canary@reg.example/v2/a/blobs/x?token=canary');

interface Asked {
  readonly url?: URL;
  readonly isOwn?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

function begin({ url: asked = url, isOwn = true, headers = {} }: Asked = {}) {
  const recorder = new ExchangeRecorder();
  return { recorder, record: recorder.begin({ method: 'GET', url: asked, headers, isOwn }) };
}

/** What is recorded of an answer. */
function answered(headers: IncomingHttpHeaders, asked: Asked = {}): RecordedExchange {
  const { recorder, record } = begin(asked);
  record.answered({ status: 200, headers });
  return recorder.exchanges[0]!;
}

function failedWith(error: unknown): string | null | undefined {
  const { recorder, record } = begin();
  record.failed(error);
  expect(recorder.exchanges[0]).toMatchObject({ status: null, headers: {} });
  return recorder.exchanges[0]?.error;
}

/** What is recorded where a request went out on such a socket. */
function sentOn(socket: object, reusedSocket: boolean): RecordedExchange {
  const { recorder, record } = begin();
  const sent = Object.assign(new EventEmitter(), { reusedSocket }) as unknown as ClientRequest;
  record.watch(sent);
  sent.emit('socket', socket as never);
  record.answered({ status: 200, headers: {} });
  return recorder.exchanges[0]!;
}

function tlsSocket(certificate: object | null): object {
  const socket = { getProtocol: () => 'TLSv1.3', getPeerCertificate: () => certificate };
  return Object.setPrototypeOf({ ...socket }, TLSSocket.prototype) as object;
}

test('an exchange is recorded when it has ended, in order, with its status and without its query', () => {
  const recorder = new ExchangeRecorder();
  const first = recorder.begin({ method: 'GET', url, headers: {}, isOwn: true });
  const second = recorder.begin({ method: 'HEAD', url: new URL('http://other:5000/'), headers: {}, isOwn: true });
  expect(recorder.exchanges).toEqual([]);
  second.answered({ status: 404, headers: {} });
  first.answered({ status: 200, headers: {} });
  expect(recorder.exchanges).toMatchObject([
    { method: 'HEAD', url: 'http://other:5000/', status: 404, error: null, remote: null, tls: null },
    { method: 'GET', url: 'https://reg.example/v2/a/blobs/x?…', status: 200, authorization: 'none' },
  ]);
  const [{ milliseconds } = { milliseconds: -1 }] = recorder.exchanges;
  expect(milliseconds).toBeGreaterThanOrEqual(0);
  expect(milliseconds).toBeLessThan(30_000);
  expect(Number.isInteger(milliseconds)).toBe(true);
});

test('of what an answer redirects to elsewhere, the path is left out too', () => {
  expect(answered({}, { isOwn: false }).url).toBe('https://reg.example/…');
});

test.each([
  [undefined, 'none'],
  ['Basic dTpw', 'basic'],
  ['BEARER abc', 'bearer'],
  ['Digest x', 'other'],
  ['', 'other'],
])('the Authorization %s is recorded as %s', (authorization, expected) => {
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  expect(answered({}, { headers }).authorization).toBe(expected);
});

describe('headers', () => {
  test('that say how the registry behaves are recorded, cut at 300 characters, and no others', () => {
    const shown = {
      'accept-ranges': 'bytes',
      age: '7',
      'cache-status': 'a;hit',
      'content-encoding': 'gzip',
      'content-length': '5',
      'content-range': 'bytes 0-4/5',
      'content-type': 'text/plain',
      'docker-content-digest': 'sha256:x',
      'docker-distribution-api-version': 'registry/2.0',
      'oci-filters-applied': 'artifactType',
      'ratelimit-limit': '100;w=1',
      'ratelimit-remaining': '99;w=1',
      'retry-after': '3',
      server: 'nginx',
      via: '1.1 x',
      warning: '110 - "stale"',
    };
    expect(answered({ ...shown, 'set-cookie': ['canary'], 'x-other': 'canary' }).headers).toEqual(shown);
    expect(answered({ server: 's'.repeat(301) }).headers).toEqual({ server: 's'.repeat(300) });
  });

  test.each([
    ['/v2/b?x=canary', 'https://reg.example/v2/b?…'],
    ['https://reg.example/v2/b#f', 'https://reg.example/v2/b'],
    ['https://cdn.example/canary?sig=canary', 'https://cdn.example/…'],
    ['http://', undefined],
  ])('the Location %s is recorded as %s', (location, expected) => {
    expect(answered({ location }).headers['location']).toBe(expected);
  });

  test.each([
    [
      'Bearer realm="https://auth.example/token?canary=1",service="s",scope="repository:a:pull",error="canary"',
      'bearer realm=https://auth.example/token?… service=s scope=repository:a:pull',
    ],
    ['Basic realm="my registry"', 'basic realm=my registry'],
    ['Bearer service=s', 'bearer service=s'],
    ['Basic realm=x, Bearer scope=y', 'basic realm=x, bearer scope=y'],
    ['Negotiate', 'negotiate'],
    [`Bearer scope="${'s'.repeat(400)}"`, `bearer scope=${'s'.repeat(287)}`],
    ['', undefined],
  ])('the challenge %s is recorded as %s', (challenge, expected) => {
    expect(answered({ 'www-authenticate': challenge }).headers['www-authenticate']).toBe(expected);
  });
});

test('a request without an answer is recorded with the code of its failure, or its kind', () => {
  expect(failedWith(Object.assign(new Error('canary'), { code: 'ECONNREFUSED' }))).toBe('ECONNREFUSED');
  expect(failedWith(new TypeError('canary'))).toBe('TypeError');
  expect(failedWith('canary')).toBe('failed');
});

describe('the other end', () => {
  test.each([
    [{ remoteAddress: '192.0.2.1', remotePort: 443 }, '192.0.2.1:443'],
    [{ remoteAddress: '2001:db8::1', remotePort: 443 }, '[2001:db8::1]:443'],
    [{ remoteAddress: '192.0.2.1' }, null],
    [{ remotePort: 443 }, null],
  ])('%j is recorded as %s', (socket, expected) => {
    expect(sentOn(socket, false)).toMatchObject({ remote: expected, tls: null });
  });

  const certificate = { subject: { CN: 'reg.example' }, issuer: { CN: 'CA 1', O: 'Org' }, valid_to: 'Jan 1 2030' };

  test.each([
    [certificate, { subject: 'reg.example', issuer: 'CA 1', validTo: 'Jan 1 2030' }],
    [
      { subject: { CN: ['a', 'b'] }, issuer: { O: 'Org' } },
      { subject: 'a', issuer: 'Org', validTo: null },
    ],
    [{}, { subject: null, issuer: null, validTo: null }],
    [null, { subject: null, issuer: null, validTo: null }],
  ])('has a session of TLS with the certificate %j', (found, expected) => {
    expect(sentOn(tlsSocket(found), false).tls).toEqual({ protocol: 'TLSv1.3', ...expected });
  });

  test('has no session that was not made for this request', () => {
    expect(sentOn(tlsSocket(certificate), true).tls).toBeNull();
  });
});
