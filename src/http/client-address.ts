import type { Socket } from 'node:net';

/** The address of the other end as people write it: an IPv4 address on a socket for both families loses its `::ffff:`. */
export function clientAddress({ remoteAddress }: Pick<Socket, 'remoteAddress'>): string {
  if (remoteAddress === undefined) return 'unknown';
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress)?.[1] ?? remoteAddress;
}

/**
 * The address that limits count as one client: an IPv4 address, or the /64 of an IPv6 address, all of which a single machine may
 * have.
 */
export function clientKey(address: string): string {
  if (!address.includes(':')) return address;
  const [unscoped = ''] = address.split('%', 1);
  const [head = '', tail] = unscoped.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  const groups = [...front, ...Array<string>(zeros).fill('0'), ...back].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
