import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import { expect, test } from 'vitest';
import { AddressGuard } from '../../src/upstream/address-guard.ts';
import type { SystemLookup } from '../../src/upstream/name-lookups.ts';
import { startRegistry } from '../support/registry.ts';
import { bytesOf, failureOf, never, unknownDigest, upstreamAt } from './support.ts';

const content = Buffer.from('abcdefghij'.repeat(1000));

test('a redirect to another origin is followed without Authorization and with the Range', async () => {
  const credentials = { username: 'user', password: 'pass' };
  await using registry = await startRegistry({ basic: credentials });
  const blob = registry.addBlob(content);
  using upstream = upstreamAt(registry.origin, { credentials: { kind: 'inline', ...credentials } });
  const [endpoint] = upstream.client.endpoints;
  await upstream.client.headBlob('a', blob.digest, { signal: never() });
  registry.fault(/blobs/, { kind: 'redirect' });
  const answer = await endpoint!.openBlob('a', blob.digest, { signal: never(), offset: 10 });
  expect(await bytesOf(answer)).toEqual(content.subarray(10));
  expect(registry.requests.at(-1)?.headers).toMatchObject({
    authorization: expect.any(String) as string,
    range: 'bytes=10-',
  });
  expect(registry.cdn.requests.at(-1)?.headers.range).toBe('bytes=10-');
  expect(registry.cdn.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

test.each([
  ['another origin', 'foreign'],
  ['its own origin', 'own'],
])('user and password in a Location that leads to %s are not sent', async (_, kind) => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  const target = kind === 'own' ? new URL(`/v2/b/blobs/${blob.digest}`, registry.origin) : new URL(registry.cdn.origin);
  target.username = 'user';
  target.password = 'pass';
  registry.fault(/\/v2\/a\//, { kind: 'redirect-to', location: target.href });
  using upstream = upstreamAt(registry.origin);
  await upstream.client.headBlob('a', blob.digest, { signal: never() }).catch(() => undefined);
  const asked = kind === 'own' ? registry.requests.slice(1) : registry.cdn.requests;
  expect(new Set(asked.map(({ headers }) => headers.authorization))).toEqual(new Set([undefined]));
});

test('each read goes back to the registry, never to a signed address again', async () => {
  await using registry = await startRegistry();
  const blob = registry.addBlob(content);
  registry.fault(/blobs/, { kind: 'redirect' });
  using upstream = upstreamAt(registry.origin);
  for (let round = 0; round < 2; round += 1) {
    const answer = await upstream.client.endpoints[0]!.openBlob('a', blob.digest, { signal: never() });
    expect(await bytesOf(answer)).toEqual(content);
  }
  expect(registry.requests).toHaveLength(2);
});

test('a refusal by the storage behind a redirect is no refusal of our credentials', async () => {
  await using registry = await startRegistry();
  registry.fault(undefined, { kind: 'redirect-to', location: `${registry.cdn.origin}/signed/expired` });
  using upstream = upstreamAt(registry.origin);
  const error = await failureOf(upstream.client.endpoints[0]!.openBlob('a', unknownDigest, { signal: never() }));
  expect(error).toMatchObject({ code: 'UNAVAILABLE', detail: { upstreamStatus: 403 } });
});

test('redirects without end or sense are given up', async () => {
  await using registry = await startRegistry();
  using upstream = upstreamAt(registry.origin);
  const open = () => failureOf(upstream.client.endpoints[0]!.openBlob('a', unknownDigest, { signal: never() }));
  registry.fault(undefined, { kind: 'redirect-to', location: '/again' });
  expect(await open()).toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('more than 5') as string,
  });
  expect(registry.requests).toHaveLength(6);
  registry.clearFaults();
  registry.fault(undefined, { kind: 'redirect-to', location: 'ftp://127.0.0.1/x' });
  expect(await open()).toMatchObject({ code: 'UNAVAILABLE' });
});

test('an upstream of the internet cannot send us into a private network, by address or by name', async () => {
  const dialled: string[] = [];
  await using registry = await startRegistry();
  let location = '';
  // The proxy stands for the internet: only through it is an upstream at a public name reached from here.
  const proxy = createServer((request, response) => {
    dialled.push(request.url ?? '');
    response.writeHead(307, { location }).end();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const environment = { HTTP_PROXY: `http://127.0.0.1:${port}`, NO_PROXY: '127.0.0.1,localhost' };
  using upstream = upstreamAt('http://registry.example', { environment });
  const port2 = registry.host.split(':')[1];
  for (location of [
    `${registry.origin}/x`,
    `http://localhost:${port2}/x`,
    `http://[::ffff:127.0.0.1]:${port2}/x`,
    'http://169.254.169.254/x',
  ]) {
    const error = await failureOf(upstream.client.endpoints[0]!.openBlob('a', unknownDigest, { signal: never() }));
    expect(error, location).toMatchObject({ code: 'UNAVAILABLE', cause: { code: 'ERR_FORBIDDEN_ADDRESS' } });
  }
  expect(registry.requests).toHaveLength(0);
  expect(new Set(dialled)).toEqual(new Set([`http://registry.example/v2/a/blobs/${unknownDigest}`]));
  proxy.closeAllConnections();
  proxy.close();
  await once(proxy, 'close');
});

test.each([
  '10.0.0.1',
  '172.16.0.1',
  '192.168.1.1',
  '127.0.0.1',
  '169.254.169.254',
  '100.64.0.1',
  '0.0.0.0',
  '224.0.0.1',
  '255.255.255.255',
  '240.0.0.1',
  '[::1]',
  '[::]',
  '[fe80::1]',
  '[fd00::1]',
  '[ff02::1]',
  '[::ffff:10.0.0.1]',
  '[64:ff9b::7f00:1]',
  '[::7f00:1]',
  '[::10.0.0.1]',
  '[4000::1]',
  '[1::1]',
  '[64:ff9b:1::7f00:1]',
  '168.63.129.16',
  '[::ffff:168.63.129.16]',
  '100.100.100.200',
  '192.0.0.192',
  '[fd00:ec2::254]',
  '[2002:7f00:1::]',
  '2130706433',
  '0x7f.1',
])('%s is guarded for an upstream of the internet', (host) => {
  const guard = new AddressGuard([new URL('https://registry.example')]);
  expect(() => guard.checkLiteral(new URL(`http://${host}/`))).toThrow(/may not redirect to/);
});

test.each([
  [['93.184.216.34', '10.0.0.1'], false],
  [['10.0.0.1', '93.184.216.34'], false],
  [['93.184.216.34', '2606:4700::1'], true],
])('a name that leads to %j may be connected to: %s', async (found, allowed) => {
  const lookup: SystemLookup = (_name, _options, callback) =>
    callback(
      null,
      found.map((address) => ({ address, family: isIP(address) })),
    );
  const guard = new AddressGuard([new URL('https://registry.example')], lookup);
  const looked = Promise.withResolvers<unknown>();
  guard.lookupFor(new URL('https://cdn.example/'))('cdn.example', { all: true }, (error, addresses) =>
    looked.resolve(error ?? addresses),
  );
  if (allowed) expect(await looked.promise).toHaveLength(2);
  else expect(await looked.promise).toMatchObject({ code: 'ERR_FORBIDDEN_ADDRESS' });
});

test('public addresses and names pass the check of literals', () => {
  const guard = new AddressGuard([new URL('https://registry.example')]);
  for (const host of ['8.8.8.8', '[2606:4700::1]', 'cdn.example', '[64:ff9b::808:808]'])
    guard.checkLiteral(new URL(`http://${host}/`));
});

test.each<[string, string, boolean]>([
  ['127.0.0.1', '127.0.0.2', true],
  ['127.0.0.1', '10.0.0.1', true],
  ['10.0.0.1', '192.168.0.1', true],
  ['10.0.0.1', '127.0.0.1', false],
  ['10.0.0.1', '169.254.169.254', false],
  ['127.0.0.1', '169.254.169.254', false],
  ['8.8.8.8', '10.0.0.1', false],
  ['10.0.0.1', '168.63.129.16', false],
  ['10.0.0.1', '[fd00:ec2::254]', false],
  ['127.0.0.1', '100.100.100.200', false],
  ['169.254.169.254', '169.254.169.254', true],
])('an upstream configured at %s may lead to %s: %s', (own, target, allowed) => {
  const guard = new AddressGuard([new URL(`http://${own}:5000`)]);
  const check = () => guard.checkLiteral(new URL(`http://${target}/`));
  if (allowed) check();
  else expect(check).toThrow(/may not redirect to/);
});

test.each<[string, string, boolean]>([
  ['93.184.216.34', '10.0.0.1', false],
  ['10.0.0.5', '10.0.0.1', true],
  ['127.0.0.1', '10.0.0.1', true],
  ['169.254.169.254', '169.254.169.254', false],
  ['168.63.129.16', '10.0.0.1', false],
])('an upstream whose name was connected to at %s may lead to %s: %s', (address, target, allowed) => {
  const own = new URL('http://registry.example');
  const found: SystemLookup = (_name, _options, callback) =>
    callback(null, [
      { address: '10.0.0.5', family: 4 },
      { address: '93.184.216.34', family: 4 },
    ]);
  const guard = new AddressGuard([own], found);
  const check = () => guard.checkLiteral(new URL(`http://${target}/`));
  // That its name has an inner address too opens nothing.
  guard.lookupFor(own)('registry.example', { all: true }, () => undefined);
  expect(check).toThrow(/may not redirect to/);
  guard.connected(own, address);
  if (allowed) check();
  else expect(check).toThrow(/may not redirect to/);
  // Where it is now counts, not where it was.
  guard.connected(own, '93.184.216.34');
  expect(check).toThrow(/may not redirect to/);
});
