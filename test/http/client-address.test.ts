import { expect, test } from 'vitest';
import { clientAddress, clientKey } from '../../src/http/client-address.ts';

test.each([
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['::FFFF:192.0.2.1', '192.0.2.1'],
  ['192.0.2.1', '192.0.2.1'],
  ['2001:db8::1', '2001:db8::1'],
  [undefined, 'unknown'],
])('the address %s is that of the client %s', (remoteAddress, address) => {
  expect(clientAddress({ remoteAddress })).toBe(address);
});

test.each([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff:ffff:ffff:ffff'],
  ['2001:db8:1:2::1', '2001:DB8:0001:0002::'],
  ['2001:db8::1', '2001:db8:0:0:1::'],
  ['2001:db8::', '2001:db8:0:0:1:2:3:4'],
  ['::1', '::2:0:0:0'],
  ['fe80::1%eth0', 'fe80::2%eth1'],
])('limits count %s and %s as one client', (one, other) => {
  expect(clientKey(one)).toBe(clientKey(other));
});

test.each([
  ['192.0.2.1', '192.0.2.2'],
  ['2001:db8:1:2::1', '2001:db8:1:3::1'],
  ['2001:db8::1', '2001:db8:0:1::1'],
  ['2001:db8:1::', '2001:db8::1:0:0:0:0'],
  ['::1', '1::'],
  ['::1', '127.0.0.1'],
])('limits count %s and %s as two clients', (one, other) => {
  expect(clientKey(one)).not.toBe(clientKey(other));
});
