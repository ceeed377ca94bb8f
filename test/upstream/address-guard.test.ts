import { describe, expect, test } from 'vitest';
import { AddressGuard, ForbiddenAddressError } from '../../src/upstream/address-guard.ts';
import type { SystemLookup } from '../../src/upstream/name-lookups.ts';

const lookupTo =
  (...addresses: readonly string[]): SystemLookup =>
  (_, options, callback) => {
    expect(options.all).toBe(true);
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  };

/** What a look-up for a URL gives to a connection. */
async function found(guard: AddressGuard, url: string, options: object = {}): Promise<unknown[]> {
  const { promise, resolve } = Promise.withResolvers<unknown[]>();
  guard.lookupFor(new URL(url))('name', options, (...given) => resolve(given));
  return await promise;
}

describe('a look-up', () => {
  const own = [new URL('https://reg.example')];

  test('gives one address, or all of them where all are asked for', async () => {
    const guard = new AddressGuard(own, lookupTo('203.0.113.1', '2001:db8::1'));
    expect(await found(guard, 'https://reg.example')).toEqual([null, '203.0.113.1', 4]);
    expect(await found(guard, 'https://reg.example', { all: true })).toEqual([
      null,
      [
        { address: '203.0.113.1', family: 4 },
        { address: '2001:db8::1', family: 6 },
      ],
    ]);
    expect(await found(new AddressGuard(own, lookupTo()), 'https://reg.example')).toEqual([null, '', undefined]);
  });

  test('fails with what the system says', async () => {
    const failure = new Error('ENOTFOUND');
    const guard = new AddressGuard(own, (_, _options, callback) => callback(failure, []));
    expect(await found(guard, 'https://reg.example')).toEqual([failure, '']);
  });

  test('fails where one of the addresses of another host is guarded', async () => {
    const guard = new AddressGuard(own, lookupTo('8.8.8.8', '10.0.0.1'));
    const [error, address] = await found(guard, 'https://cdn.example');
    expect([error, address]).toEqual([expect.any(ForbiddenAddressError), '']);
    expect(error).toMatchObject({ code: 'ERR_FORBIDDEN_ADDRESS', name: 'ForbiddenAddressError' });
    expect(await found(guard, 'https://reg.example:444')).toEqual([null, '8.8.8.8', 4]);
    const open = new AddressGuard(own, lookupTo('8.8.8.8'));
    expect(await found(open, 'https://cdn.example')).toEqual([null, '8.8.8.8', 4]);
  });
});

describe('the name of an upstream', () => {
  test('leads to no metadata address, whatever the DNS says from one moment to the next', async () => {
    for (const address of ['169.254.169.254', '::ffff:169.254.169.254', 'fe80::1', '168.63.129.16', 'fd00:ec2::254']) {
      const guard = new AddressGuard([new URL('http://reg.example')], lookupTo(address));
      expect(await found(guard, 'http://reg.example/v2/'), address).toEqual([expect.any(ForbiddenAddressError), '']);
      expect(await found(guard, 'http://reg.example:8080/'), address).toEqual([expect.any(ForbiddenAddressError), '']);
    }
    const both = new AddressGuard([new URL('http://reg.example')], lookupTo('169.254.169.254', '8.8.8.8'));
    expect(await found(both, 'http://reg.example/')).toEqual([null, '8.8.8.8', 4]);
  });

  test('leads to a private network at other ports only where it is connected to one', async () => {
    const guard = new AddressGuard([new URL('http://reg.example')], lookupTo('10.0.0.1'));
    expect(await found(guard, 'http://reg.example/')).toEqual([null, '10.0.0.1', 4]);
    guard.connected(new URL('http://reg.example'), '8.8.8.8');
    expect(await found(guard, 'http://reg.example:6379/')).toEqual([expect.any(ForbiddenAddressError), '']);
    guard.connected(new URL('http://reg.example'), '10.0.0.1');
    expect(await found(guard, 'http://reg.example:6379/')).toEqual([null, '10.0.0.1', 4]);
  });
});

test.each<[string, readonly string[], readonly string[]]>([
  ['https://reg.example', ['8.8.8.8', '[2606:4700::1]'], ['127.0.0.1', '[::1]', '10.0.0.1', '100.64.0.1', '[fd00::1]']],
  [
    'http://127.0.0.1:5000',
    ['127.0.0.2', '10.0.0.1', '[::1]', '192.168.0.1', '[fd00::1]', '8.8.8.8'],
    ['169.254.169.254', '0.0.0.0', '224.0.0.1'],
  ],
  ['http://10.0.0.1', ['192.168.0.1', '100.64.0.1', '[fd00::2]'], ['127.0.0.1', '169.254.169.254', '[::1]']],
  [
    'http://169.254.169.254',
    ['169.254.170.2', '168.63.129.16', '100.100.100.200', '[fe80::1]'],
    ['127.0.0.1', '10.0.0.1'],
  ],
  ['http://[::1]', ['127.0.0.1', '[fd00::1]'], ['[fd00:ec2::254]', '192.0.0.192', '240.0.0.1', '[ff02::1]']],
  ['https://8.8.8.8', [], ['127.0.0.1', '10.0.0.1', '[::ffff:10.0.0.1]', '[64:ff9b::a00:1]', '[2002::1]', '[4000::1]']],
  ['https://8.8.4.4', ['[64:ff9b::808:808]', '[::ffff:8.8.8.8]'], ['[::]', '[100::1]']],
])('an upstream at %s may lead to %j, and not to %j', (url, allowed, refused) => {
  const guard = new AddressGuard([new URL(url)]);
  for (const host of allowed) guard.checkLiteral(new URL(`http://${host}/`));
  for (const host of refused) {
    expect(() => guard.checkLiteral(new URL(`http://${host}/`)), host).toThrow(ForbiddenAddressError);
  }
  guard.checkLiteral(new URL(url));
  guard.checkLiteral(new URL('http://a.name/'));
});

test('a connection tells where an upstream is, but for a metadata address', () => {
  const url = new URL('https://reg.example');
  const guard = new AddressGuard([url]);
  const reaches = (host: string) => {
    try {
      guard.checkLiteral(new URL(`http://${host}`));
      return true;
    } catch {
      return false;
    }
  };
  expect(reaches('10.0.0.2')).toBe(false);
  guard.connected(new URL('https://other.example'), '10.0.0.1');
  guard.connected(url, 'no address');
  expect(reaches('10.0.0.2')).toBe(false);
  guard.connected(url, '10.0.0.1');
  expect([reaches('10.0.0.2'), reaches('127.0.0.1')]).toEqual([true, false]);
  guard.connected(url, '127.0.0.1');
  expect(reaches('127.0.0.1')).toBe(true);
  guard.connected(url, '169.254.169.254');
  expect([reaches('169.254.170.2'), reaches('10.0.0.2')]).toEqual([false, false]);
});
